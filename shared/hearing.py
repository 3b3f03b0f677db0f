"""What was heard of other processes, and when: pure, all times are arguments.

A pulse is judged by the reader's own clock since its content last changed; clocks of different machines are
never compared. Knows nothing of what a pulse says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

FRESH_S = 1.5  # without a change for this long, a process is not counted on
STALE_S = 5.0  # heard of for this long without a change, it counts as dead
_LISTENED_S = 0.5  # at most, between two readings: what was longer was no listening

P = TypeVar("P")


@dataclass
class _Voice(Generic[P]):
    """One process as it was heard."""

    pulse: P
    changed: float | None  # when the pulse last differed from the reading before; None: not yet
    silence: float = 0.0  # seconds of listening since
    gone: bool = False  # it said goodbye


@dataclass(frozen=True)
class Last(Generic[P]):
    """What a process said last, and for how many seconds of listening it has not said anything else."""

    pulse: P
    silence: float


class Hearing(Generic[P]):
    """The pulses of all processes by name, as read again and again.

    Two measures differ on purpose. *Fresh* is what time says since the last change: while nothing can be
    read, nothing is fresh. *Dead* counts only the time in which one listened: when Redis comes back
    after a minute, nobody is dead for that.
    """

    def __init__(self) -> None:
        self._voices: dict[str, _Voice[P]] = {}
        self._read_at: float | None = None

    def read(self, found: Mapping[str, P], now: float) -> None:
        """Take all pulses there are."""
        listened = 0.0 if self._read_at is None else min(now - self._read_at, _LISTENED_S)
        for name, pulse in found.items():
            voice = self._voices.get(name)
            if voice is None or voice.gone:
                # At the first reading nobody knows whether its writer still lives.
                self._voices[name] = _Voice(pulse, None if self._read_at is None else now)
            elif voice.pulse != pulse:
                self._voices[name] = _Voice(pulse, now)
            else:
                voice.silence += listened
        for name in self._voices.keys() - found.keys():
            voice = self._voices[name]
            voice.gone = True
            voice.silence += listened
            if voice.silence > STALE_S:
                del self._voices[name]
        self._read_at = now

    def hears(self, now: float) -> bool:
        """Whether the pulses could be read lately."""
        return self._read_at is not None and now - self._read_at < FRESH_S

    def living(self) -> Iterable[P]:
        """All that are not dead, those that said goodbye a moment ago among them."""
        return [voice.pulse for voice in self._voices.values() if voice.silence <= STALE_S]

    def is_fresh(self, name: str, now: float) -> bool:
        """Whether a process was heard of so lately that one can count on it."""
        voice = self._voices.get(name)
        return voice is not None and not voice.gone and voice.changed is not None and now - voice.changed < FRESH_S

    def last(self, name: str) -> Last[P] | None:
        """The last of a process, dead or not, None where there was none or it said goodbye."""
        voice = self._voices.get(name)
        return None if voice is None or voice.gone else Last(voice.pulse, voice.silence)
