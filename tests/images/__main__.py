"""``python -m tests.images``: build every stand-in image that is not there yet."""

from __future__ import annotations

import logging
import sys
import time

from deploy.engine.engine import find
from rendezvous.errors import RendezvousError
from tests.images.build import TAGS, build_all


def main() -> int:
    """Build them; return 0, or 1 when one could not be built."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    began = time.monotonic()
    try:
        build_all(find())
    except RendezvousError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{len(TAGS)} images are there after {time.monotonic() - began:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
