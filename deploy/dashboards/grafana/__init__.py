"""The Grafana dashboard: made by ``python -m deploy.dashboards.grafana``."""
