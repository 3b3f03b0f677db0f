"""Who is alive: each process writes a pulse a second, everyone reads them all.

Knows nothing of what the processes do; a pulse carries a state and free text for people.
"""

from __future__ import annotations

import enum
import time

import msgspec

from shared.bus import START, Bus, pairs

BEAT_S = 1.0
STALE_S = 5.0  # a process without a pulse for this long counts as dead


class Role(enum.StrEnum):
    """The four kinds of process."""

    TOKENIZER = "tokenizer"
    SCHEDULER = "scheduler"
    WORKER = "worker"
    DETOKENIZER = "detokenizer"


class State(enum.StrEnum):
    """What a process says of itself."""

    LOADING = "loading"
    READY = "ready"
    STOPPING = "stopping"


class Pulse(msgspec.Struct, frozen=True):
    """One sign of life."""

    role: Role
    replica: str
    incarnation: int  # of this process; a restarted process has a larger one
    at: float  # unix seconds
    state: State
    detail: str = ""  # for people: what it is loading, and how far
    watermark: str = START  # the oldest entry of the step log that this reader still needs

    @property
    def field(self) -> str:
        return f"{self.role}:{self.replica}"


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Pulse).decode


class Registry:
    """The pulses as last read, and the writing of one's own."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._pulses: dict[str, Pulse] = {}

    async def beat(self, pulse: Pulse, metrics: bytes) -> None:
        """Write one's pulse and metrics, and read everybody's pulse, in one round trip."""
        names = self._bus.names
        [*_, found] = await self._bus.ask(
            ("HSET", names.alive, pulse.field, _encode(pulse)),
            ("HSET", names.metrics, pulse.field, metrics),
            ("HGETALL", names.alive),
        )
        self._read(pairs(found))

    async def refresh(self) -> None:
        """Read everybody's pulse."""
        self._read(await self._bus.hash(self._bus.names.alive))

    async def leave(self, pulse: Pulse) -> None:
        """Say goodbye: an orderly stop needs no time-out to be noticed."""
        await self._bus.transaction().remove(self._bus.names.alive, [pulse.field]).commit(patience=1.0)
        await self._bus.transaction().remove(self._bus.names.metrics, [pulse.field]).commit(patience=1.0)

    def pulses(self, role: Role) -> list[Pulse]:
        """Living processes of a role, ready or not, by replica name."""
        horizon = time.time() - STALE_S
        found = [p for p in self._pulses.values() if p.role is role and p.at > horizon]
        return sorted(found, key=lambda pulse: pulse.replica)

    def ready(self, role: Role) -> list[Pulse]:
        """Living processes of a role that can take work."""
        return [pulse for pulse in self.pulses(role) if pulse.state is State.READY]

    def _read(self, found: dict[str, bytes]) -> None:
        pulses: dict[str, Pulse] = {}
        for field, value in found.items():
            try:
                pulses[field] = _decode(value)
            except msgspec.MsgspecError:  # written by another release: not one of ours
                continue
        self._pulses = pulses
