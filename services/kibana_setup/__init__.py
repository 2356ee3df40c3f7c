"""Brings the dashboards into Kibana."""
