"""``python -m bench.peers [NAME ...]``: install each peer, start it, and see it answer rightly."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bench.peers import PEERS, PeerFailed, serve, version


def main() -> None:
    """Try all, and fail when one of them failed."""
    failures = []
    for name in sys.argv[1:] or PEERS:
        with tempfile.TemporaryDirectory(prefix="peers-") as logs:
            try:
                with serve(name, Path(logs)) as (peer, port, pids):
                    print(
                        f"{name} {version(name)}: answers on port {port} at {peer.path},"
                        f" {len(pids)} processes",
                        flush=True,
                    )
            except PeerFailed as error:
                failures.append(str(error))
    if failures:
        sys.exit("\n\n".join(failures))


if __name__ == "__main__":
    main()
