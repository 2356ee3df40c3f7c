"""The health check of a container: ``python -S services/probe.py`` exits with 0 where it is ready.

It asks ``/readyz`` on this machine: at RENDEZVOUS_METRICS_PORT, else at RENDEZVOUS_PORT, else at
8000. It runs every few seconds for ever, so it imports next to nothing.
"""

import os
import socket
import sys
import time

SECONDS = 2.0
SHOWN = 500
"""Bytes of the answer that are printed where it is not ready."""


def main() -> int:
    """Return the exit code; say on standard output what is missing."""
    try:
        head, _, body = ask(port(), time.monotonic() + SECONDS).partition(b"\r\n\r\n")
    except OSError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    if head.split(b" ", 2)[1:2] == [b"200"]:
        return 0
    sys.stdout.write((body or head)[:SHOWN].decode(errors="replace") + "\n")
    return 1


def port() -> str:
    """Return the port of the page, as the service itself was told it."""
    metrics = os.environ.get("RENDEZVOUS_METRICS_PORT", "0")
    return metrics if metrics not in {"", "0"} else os.environ.get("RENDEZVOUS_PORT") or "8000"


def ask(at: str, until: float) -> bytes:
    """Return the whole answer to ``GET /readyz``. Raises: OSError, where none comes in time."""
    names = [n.strip() for n in os.environ.get("RENDEZVOUS_ALLOWED_HOSTS", "").split(",")]
    host = next((name for name in names if name and "*" not in name), "127.0.0.1")
    request = f"GET /readyz HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    answer = b""
    with socket.create_connection(("127.0.0.1", at), timeout=SECONDS) as connection:
        connection.sendall(request.encode())
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError("no answer in time")
            connection.settimeout(left)
            part = connection.recv(65536)
            if not part:
                return answer
            answer += part


if __name__ == "__main__":
    raise SystemExit(main())
