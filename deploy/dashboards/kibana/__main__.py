"""Write what Kibana imports: ``python -m deploy.dashboards.kibana``."""

from __future__ import annotations

from deploy.dashboards.kibana.export import FILE, ndjson

if __name__ == "__main__":
    FILE.write_text(ndjson(), encoding="utf-8")
