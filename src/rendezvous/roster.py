"""Which models are live, learned from what they say and from their scores. Pure: time is passed in.

A model that announces itself is live while one of its replicas has announced itself lately. A
model that does not (one that speaks only the original's fields) is live from its first score on,
until it has missed a few requests running. Nothing is known beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rendezvous.mailbox import MAY_ANSWER, Key
from rendezvous.policy.port import Candidate

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from rendezvous.contract import Announcement, ModelProvenance

SILENCE = 2.0
"""Seconds without an announcement after which a model that announces itself is out."""

MISSES = 3
"""Requests running that a model which never announced itself may miss before it is out."""


FORGOTTEN = 60.0
"""Seconds after which a model that is out is forgotten."""


@dataclass(slots=True)
class _Member:
    candidate: Candidate
    replicas: dict[str, float] = field(default_factory=dict)  # instance -> last heard of
    announces: bool = False
    left: bool = False
    misses: int = 0
    heard: float = 0.0

    def live(self, now: float) -> bool:
        if not self.announces:
            return self.misses < MISSES
        for instance, heard in list(self.replicas.items()):
            if now - heard > SILENCE:
                del self.replicas[instance]
        return bool(self.replicas)


class Roster:
    """The known models of each endpoint."""

    def __init__(self) -> None:
        self._members: dict[str, dict[Key, _Member]] = {}
        self._live: dict[str, dict[Key, Candidate]] = {}
        self._shadows: dict[str, dict[Key, Candidate]] = {}

    def announced(self, announcement: Announcement, now: float) -> None:
        """Take note that a replica serves, or that it has stopped."""
        candidate = Candidate(
            announcement.model_name, announcement.model_version, announcement.role
        )
        members = self._members.setdefault(announcement.endpoint, {})
        member = members.setdefault((candidate.name, candidate.version), _Member(candidate))
        member.candidate = candidate
        member.announces = True
        member.heard = now
        if announcement.state == "serving":
            member.replicas[announcement.instance] = now
        else:
            member.replicas.pop(announcement.instance, None)
        member.left = not member.replicas
        self._refresh(announcement.endpoint, now)

    def scored(self, endpoint: str, model: ModelProvenance, now: float) -> None:
        """Take note of a score, on time or late."""
        key = (model.model_name, model.model_version)
        members = self._members.setdefault(endpoint, {})
        member = members.get(key)
        if member is not None and not member.misses:
            member.heard = now
            return  # nothing new: the common case
        if member is None:
            member = members[key] = _Member(Candidate(*key, model.role or "production"))
        member.misses = 0
        member.heard = now
        self._refresh(endpoint, now)

    def missed(self, endpoint: str, keys: Collection[Key], now: float) -> None:
        """Take note that a request's deadline passed without a score of these."""
        members = self._members.get(endpoint, {})
        for key in keys:
            if key in members:
                members[key].misses += 1
        self._refresh(endpoint, now)

    def live(self, endpoint: str) -> Mapping[Key, Candidate]:
        """Return the live models that may answer, as of the last change or ``expire``."""
        return self._live.get(endpoint, {})

    def shadows(self, endpoint: str) -> Mapping[Key, Candidate]:
        """Return the live models that may not answer, as of the last change or ``expire``."""
        return self._shadows.get(endpoint, {})

    def ejected(self, endpoint: str, key: Key) -> bool:
        """Return whether a model that was live is out, though it has not said goodbye."""
        if key in self.live(endpoint) or key in self.shadows(endpoint):
            return False
        member = self._members.get(endpoint, {}).get(key)
        return member is None or not member.left

    def expire(self, now: float) -> None:
        """Take out whoever has been silent for too long, and forget who has been out for long."""
        for endpoint, members in self._members.items():
            for key, member in list(members.items()):
                if not member.live(now) and now - member.heard > FORGOTTEN:
                    del members[key]
            self._refresh(endpoint, now)

    def _refresh(self, endpoint: str, now: float) -> None:
        live: dict[Key, Candidate] = {}
        shadows: dict[Key, Candidate] = {}
        for key, member in self._members.get(endpoint, {}).items():
            if member.live(now):
                group = live if member.candidate.role in MAY_ANSWER else shadows
                group[key] = member.candidate
        # replaced, not changed: a mailbox keeps what was live at its request's arrival
        self._live[endpoint], self._shadows[endpoint] = live, shadows
