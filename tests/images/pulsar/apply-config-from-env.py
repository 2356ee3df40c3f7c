#!/usr/bin/env python3
"""Set keys of configuration files from the environment, as the official image's script does.

``NAME`` sets a key that the file has; ``PULSAR_PREFIX_NAME`` also adds one that it lacks.
"""

import os
import sys
from pathlib import Path

PREFIX = "PULSAR_PREFIX_"


def applied(text: str, environment: dict[str, str]) -> str:
    """Return the configuration ``text`` with what ``environment`` sets."""
    lines = text.splitlines()
    places: dict[str, int] = {}
    for place, line in enumerate(lines):
        key, equals, _ = line.lstrip("# ").partition("=")
        key = key.strip()
        # The last one holds; what is commented out only shows where a key that is not set belongs.
        if equals and key and " " not in key and (key not in places or line.lstrip()[0] != "#"):
            places[key] = place
    for name, value in sorted(environment.items()):
        key = name.removeprefix(PREFIX)
        if key in places:
            lines[places[key]] = f"{key}={value}"
        elif name.startswith(PREFIX):
            lines.append(f"{key}={value}")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        content = applied(path.read_text(encoding="utf-8"), dict(os.environ))
        path.write_text(content, encoding="utf-8")
