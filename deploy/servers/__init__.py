"""A real Apache Pulsar and a real Elasticsearch on the loopback interface."""
