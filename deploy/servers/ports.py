"""Ports of the loopback interface."""

from __future__ import annotations

import random
import socket

HOST = "127.0.0.1"
_LOWEST, _HIGHEST = 15_000, 32_000


def in_use(port: int) -> bool:
    """Return whether some process listens on ``port``."""
    with socket.socket() as probe:
        # Connections that are long closed must not count, only listeners.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def lasting_port() -> int:
    """Return a port that nobody uses now, and that no outgoing connection is given.

    A server that is killed and started again must find its port still free. The kernel gives
    outgoing connections ports from about 32768 on, also those of clients that try to come back;
    these are below.
    """
    while True:
        port = random.randrange(_LOWEST, _HIGHEST)  # noqa: S311 - not a secret
        if not in_use(port):
            return port
