"""Every error this package raises on purpose.

* RendezvousError
  + ContractError      a message does not follow the wire contract; it can never succeed
  + InputError         an input does not fit the schema of its endpoint or model
  + ConfigurationError the configuration names something that is not there, or contradicts itself
  + BundleError        a model's files are missing, altered or of a kind that is not allowed
  + ModelError         a model failed on inputs that fit its schema
  + BusError           the bus could not do what was asked
    - BusUnavailable   ... at present: trying again may help
    - BusRefused       ... and will not: a right, a name or a size is wrong
  + SinkError          a sink could not store a batch
    - SinkUnavailable  ... at present: trying again may help
  + ArchiveDamaged     an archive file is not what its manifest says
  + KibanaError        Kibana was not available in time, or did not take the dashboards

Errors of vendors stay inside the adapter that uses the vendor: it raises one of these instead.
"""

from __future__ import annotations


class RendezvousError(Exception):
    """Base class of every error this package raises on purpose."""


class ContractError(RendezvousError):
    """A message does not follow the wire contract; it can never succeed."""


class InputError(RendezvousError):
    """An input does not fit the schema of its endpoint or model."""


class ConfigurationError(RendezvousError):
    """The configuration names something that is not there, or contradicts itself."""


class BundleError(RendezvousError):
    """A model's files are missing, altered or of a kind that is not allowed."""


class ModelError(RendezvousError):
    """A model failed on inputs that fit its schema."""


class BusError(RendezvousError):
    """The bus could not do what was asked."""


class BusUnavailable(BusError):  # noqa: N818 - reads as what happened
    """The bus cannot be reached or is too busy; trying again may help."""


class BusRefused(BusError):  # noqa: N818 - reads as what happened
    """The bus refuses for good: a right, a name or a size is wrong."""


class SinkError(RendezvousError):
    """A sink could not store a batch."""


class SinkUnavailable(SinkError):  # noqa: N818 - reads as what happened
    """The sink cannot be reached or is too busy; trying again may help."""


class ArchiveDamaged(RendezvousError):  # noqa: N818 - reads as what happened
    """An archive file is not what its manifest says."""


class KibanaError(RendezvousError):
    """Kibana was not available in time, or did not take the dashboards."""
