"""Where a service listens."""

from __future__ import annotations

import socket

from rendezvous.errors import ConfigurationError


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound, so that a taken port shows before anything is started.

    Raises:
        ConfigurationError: The address is taken, or not one of this machine's.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ConfigurationError(f"can not listen on {host}:{port}: {error.strerror}") from error
    return bound


def beside(bound: socket.socket) -> socket.socket:
    """Return another socket of the same address; the kernel shares connections out to them all.

    ``bound`` keeps the address from strangers as before, though it must never listen: it would be
    given connections that nobody takes.
    """
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # only now: it was bound alone
    another = socket.socket(bound.family)
    another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    another.bind(bound.getsockname())
    return another
