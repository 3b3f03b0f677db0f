"""What a front door sees of the other processes, by their pulses: who is there, who is missing, since when.

Knows nothing of streams or HTTP; whoever reads the pulses refreshes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shared.registry import Pulse, Registry, Role, State

_NEEDED = (Role.SCHEDULER, Role.WORKER, Role.DETOKENIZER)


class Surroundings:
    """The others of one deployment."""

    def __init__(self, peers: Registry, replica: str) -> None:
        self._peers = peers
        self._replica = replica
        self._absent_since: dict[str, float] = {}

    def lacking(self) -> list[str]:
        """Why a request could not be served now, as far as others go."""
        if not self._peers.hears:
            return ["redis does not answer"]
        return [f"{role} is not ready" for role in _NEEDED if not self._peers.ready(role)]

    def progress(self) -> dict[str, str]:
        """What those say that are loading, by role; nothing of a role that has one ready."""
        return {
            role: pulse.detail or pulse.state
            for role in _NEEDED
            if not self._peers.ready(role)
            for pulse in self._peers.pulses(role)
            if pulse.state is State.LOADING
        }

    def dead(self) -> list[Role]:
        """Roles of which no process lives."""
        return [role for role in _NEEDED if not self._peers.pulses(role)]

    @property
    def has_substitute(self) -> bool:
        """Whether another front door takes requests."""
        return any(pulse.replica != self._replica for pulse in self._peers.ready(Role.TOKENIZER))

    @property
    def paused(self) -> str:
        """How the scheduler pauses; empty where it does not."""
        return next((pulse.paused for pulse in self._peers.pulses(Role.SCHEDULER) if pulse.paused), "")

    def states(self) -> Mapping[str, object]:
        """Every process, as people want to see it."""
        return {role: [self._state(pulse) for pulse in self._peers.pulses(role)] for role in Role}

    def _state(self, pulse: Pulse) -> dict[str, object]:
        if self._peers.is_fresh(pulse):
            return {"replica": pulse.replica, "state": pulse.state, "detail": pulse.detail}
        return {"replica": pulse.replica, "state": "silent", "detail": "no pulse from it lately"}

    def alive(self) -> set[str]:
        """The names of all that live, as the hashes of Redis have them."""
        return {pulse.field for role in Role for pulse in self._peers.pulses(role)}

    # --- detokenizers

    def detokenizers(self) -> list[str]:
        """Those that take requests, or else those that live."""
        candidates = self._peers.ready(Role.DETOKENIZER) or self._peers.pulses(Role.DETOKENIZER)
        return [pulse.replica for pulse in candidates]

    def substitutes(self) -> list[str]:
        """Detokenizers that could go on with what another one leaves."""
        return [pulse.replica for pulse in self._peers.ready(Role.DETOKENIZER)]

    def has_detokenizer(self, replica: str) -> bool:
        return any(pulse.replica == replica for pulse in self._peers.pulses(Role.DETOKENIZER))

    def miss(self, detokenizers: Iterable[str], now: float) -> dict[str, float]:
        """For how many seconds these detokenizers, and the scheduler by the name of its role, have been away."""
        needed = {name for name in detokenizers if not self.has_detokenizer(name)}
        if not self._peers.pulses(Role.SCHEDULER):
            needed.add(Role.SCHEDULER)
        self._absent_since = {name: self._absent_since.get(name, now) for name in needed}
        return {name: now - since for name, since in self._absent_since.items()}
