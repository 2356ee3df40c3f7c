"""Choose a bus by its URL."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rendezvous.errors import ConfigurationError

if TYPE_CHECKING:
    from rendezvous.bus.port import Bus


def connect(url: str) -> Bus:
    """Return the bus that ``url`` names; an adapter is imported only when it is asked for.

    Args:
        url: ``memory://``, ``pulsar://host:port`` or ``pulsar+ssl://host:port``; a path of two
            parts names tenant and namespace (``pulsar://host:6650/public/default``).

    Raises:
        ConfigurationError: No bus has such a URL, or its extra is not installed.
    """
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        from rendezvous.bus.memory import MemoryBus  # noqa: PLC0415 - see above

        return MemoryBus()
    if scheme in {"pulsar", "pulsar+ssl"}:
        try:
            from rendezvous.bus.pulsar import PulsarBus  # noqa: PLC0415 - see above
        except ModuleNotFoundError as error:
            raise ConfigurationError(f"{url} needs rendezvous-serving[pulsar]: {error}") from error
        return PulsarBus(url)
    raise ConfigurationError(
        f"unknown bus {url!r}; a bus is memory://, pulsar://host:port or pulsar+ssl://host:port"
    )
