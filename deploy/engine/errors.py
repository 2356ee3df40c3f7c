"""Errors of finding, installing and starting a container engine.

* RendezvousError
  + EngineError            it did not start, or a command of it failed
    - EngineUnavailable    ... because this machine lacks what it takes; the text says what to do
"""

from __future__ import annotations

from rendezvous.errors import RendezvousError


class EngineError(RendezvousError):
    """The engine did not start, or a command of it failed."""


class EngineUnavailable(EngineError):  # noqa: N818 - reads as what happened
    """This machine lacks what it takes; the text says what to do."""
