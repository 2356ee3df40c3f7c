"""Write ``rendezvous.json`` anew: ``python -m deploy.dashboards.grafana``."""

from __future__ import annotations

from pathlib import Path

from deploy.dashboards.grafana.dashboard import text

FILE = Path(__file__).resolve().parent / "rendezvous.json"


def main() -> None:
    """Write the file."""
    FILE.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
