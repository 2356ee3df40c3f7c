"""The vendor's errors as ours."""

from __future__ import annotations

from rendezvous.errors import BusError, BusRefused, BusUnavailable

_REFUSED = frozenset({
    "AuthenticationError", "AuthorizationError", "CryptoError", "IncompatibleSchema",
    "InvalidConfiguration", "InvalidMessage", "InvalidTopicName", "InvalidUrl", "MessageTooBig",
    "NotAllowedError", "OperationNotSupported", "TopicNotFound", "TopicTerminated",
    "UnsupportedVersionError",
})  # fmt: skip


def failure(what: str, name: str) -> BusError:
    """Return our error for the vendor's of this name."""
    return (BusRefused if name in _REFUSED else BusUnavailable)(f"{what}: {name}")
