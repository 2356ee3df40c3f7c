"""Serve every version of a model at once, and answer with the best score within the deadline.

The library behind the services: ``core.Rendezvous`` asks all models of an endpoint over a ``bus``
and answers by a ``policy``; ``local.Local`` runs a whole system in one process.
"""

from rendezvous.contract import Request, Score
from rendezvous.core import Rendezvous
from rendezvous.decision import Decision, Endpoint
from rendezvous.errors import RendezvousError
from rendezvous.policy import First, Newest, Policy, Priority, Rank

__all__ = [
    "Decision",
    "Endpoint",
    "First",
    "Newest",
    "Policy",
    "Priority",
    "Rank",
    "Rendezvous",
    "RendezvousError",
    "Request",
    "Score",
]
