"""Errors of starting and stopping servers.

* RendezvousError
  + ServerError           a server did not start, or is not there
    - ServerUnavailable   ... because this machine lacks what it takes; the text says what to do
"""

from __future__ import annotations

from rendezvous.errors import RendezvousError


class ServerError(RendezvousError):
    """A server did not start, did not get ready in time, or is not there."""


class ServerUnavailable(ServerError):  # noqa: N818 - reads as what happened
    """This machine lacks what the server takes; the text says what to do."""
