"""The connector to Elasticsearch."""
