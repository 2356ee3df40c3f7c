"""``docker compose run --rm bench``: the front end in its container, from beside it.

It runs in the front end's network, so that 127.0.0.1:8000 is the front end without a proxy of the
engine between. Figures of one machine that does everything: compare them with each other only.
"""

from __future__ import annotations

import argparse
import asyncio

from bench.load import crowd

PORT = 8000
WARM_UP_SECONDS = 2.0


def main() -> None:
    """Load it with more and more clients, and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m bench.stack", description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    asyncio.run(crowd(PORT, 1, WARM_UP_SECONDS))
    print("clients  answers/s   p50 ms   p99 ms  wrong  empty  failed")
    for clients in args.clients:
        seen = asyncio.run(crowd(PORT, clients, args.seconds)).figures(args.seconds)
        print(
            f"{clients:7d}  {seen.rate:9.0f}  {seen.p50_ms:7.1f}"
            f"  {seen.p99_ms:7.1f}  {seen.wrong:5d}  {seen.empty:5d}  {seen.failed:6d}"
        )


if __name__ == "__main__":
    main()
