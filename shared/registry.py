"""Who is alive: each process writes two pulses a second, everyone reads them all.

Knows nothing of what the processes do; a pulse carries a state and free text for people. How long ago is long
ago is in hearing.py.
"""

from __future__ import annotations

import enum

import msgspec

from shared.awake import AwakeClock
from shared.bus import START, Bus, pairs
from shared.hearing import Hearing, Last
from shared.undecodable import UNDECODABLE

BEAT_S = 0.5
LOOK_S = 0.25  # between readings, for those who must know soon who has fallen silent


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
    STUCK = "stuck"  # alive, but its work does not move
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
    waiting: int = 0  # requests in the scheduler's queue
    paused: str = ""  # how the scheduler pauses, if it does

    @property
    def field(self) -> str:
        return _field(self.role, self.replica)


def _field(role: Role, replica: str) -> str:
    return f"{role}:{replica}"


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Pulse).decode


class Registry:
    """The pulses as last read, and the writing of one's own.

    ``tick`` must be called every TICK_S by whoever asks who is fresh: see awake.py.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._hearing: Hearing[Pulse] = Hearing()
        self._clock = AwakeClock()

    def tick(self) -> None:
        """Note that this process is awake."""
        self._clock.tick()

    async def beat(self, pulse: Pulse, metrics: bytes | None = None) -> None:
        """Write one's pulse, and metrics where given, and read everybody's pulse, in one round trip."""
        names = self._bus.names
        also = () if metrics is None else (("HSET", names.metrics, pulse.field, metrics),)
        [*_, found] = await self._bus.ask(
            ("HSET", names.alive, pulse.field, _encode(pulse)), *also, ("HGETALL", names.alive)
        )
        self._read(pairs(found))

    async def refresh(self) -> None:
        """Read everybody's pulse."""
        self._read(await self._bus.hash(self._bus.names.alive))

    async def leave(self, pulse: Pulse) -> None:
        """Say goodbye: an orderly stop needs no time-out to be noticed. A successor of the same name stays."""
        names = self._bus.names
        [found] = await self._bus.ask(("HGET", names.alive, pulse.field), patience=1.0)
        if found is not None and (last := _decoded(found)) is not None and last.incarnation > pulse.incarnation:
            return
        goodbye = self._bus.transaction().remove(names.alive, [pulse.field]).remove(names.metrics, [pulse.field])
        await goodbye.commit(patience=1.0)

    @property
    def hears(self) -> bool:
        """Whether Redis lets us know about the others."""
        return self._hearing.hears(self._clock.now())

    def pulses(self, role: Role) -> list[Pulse]:
        """Living processes of a role, ready or not, by replica name."""
        found = [pulse for pulse in self._hearing.living() if pulse.role is role]
        return sorted(found, key=lambda pulse: pulse.replica)

    def is_fresh(self, pulse: Pulse) -> bool:
        """Whether the process that wrote this pulse was heard of so lately that one can count on it."""
        return self._hearing.is_fresh(pulse.field, self._clock.now())

    def ready(self, role: Role) -> list[Pulse]:
        """Processes of a role that can take work, and have said so lately."""
        return [pulse for pulse in self.pulses(role) if pulse.state is State.READY and self.is_fresh(pulse)]

    def last(self, role: Role, replica: str) -> Last[Pulse] | None:
        """What a process said last, however long ago, None for one that is not known or said goodbye."""
        return self._hearing.last(_field(role, replica))

    def _read(self, found: dict[str, bytes]) -> None:
        pulses = {field: _decoded(value) for field, value in found.items()}
        self._hearing.read({field: pulse for field, pulse in pulses.items() if pulse is not None}, self._clock.now())


def _decoded(value: bytes) -> Pulse | None:
    """None for what another release wrote: not one of ours."""
    try:
        return _decode(value)
    except UNDECODABLE:
        return None
