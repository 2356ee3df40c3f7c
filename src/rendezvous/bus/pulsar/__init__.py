"""The bus on Apache Pulsar: at least once, durable, groups kept by the broker.

The vendor's client is used in the ways that were found to hold (each was seen to fail otherwise):
every result is looked at in the send callback, for a full queue does not raise; sends never time
out, for a timed-out one may have been stored; no read is ever cancelled, for that swallows the next
message; consumers are Shared, for the other kinds redeliver for ever; a client is always closed,
for else the process aborts; and none is made before the first use, so that a fork can come before.
"""

from rendezvous.bus.pulsar.bus import PulsarBus

__all__ = ["PulsarBus"]
