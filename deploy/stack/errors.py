"""Errors of starting the system in containers.

* RendezvousError
  + StackError   it could not be started, or did not get ready; the text says what to do
"""

from __future__ import annotations

from rendezvous.errors import RendezvousError


class StackError(RendezvousError):
    """The system could not be started, or did not get ready in time."""
