"""The Kibana dashboards, as code: descriptions of panels, and what Kibana imports made of them."""
