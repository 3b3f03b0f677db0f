"""Which faults there are, and a list of them from a seed. Pure: doing them is injector.py's business."""

from __future__ import annotations

import enum
import random
from collections.abc import Collection, Sequence
from typing import NamedTuple

REDIS = "redis"


class Kind(enum.StrEnum):
    """What can be done to a deployment."""

    KILL = "kill -9"
    FREEZE = "freeze"  # SIGSTOP, later SIGCONT
    CUT = "cut"  # connections of clients
    EMPTY = "empty redis"  # kill -9 of Redis, and its data is gone
    FULL = "full redis"  # maxmemory reached, for a while


class Fault(NamedTuple):
    """One thing to do."""

    number: int
    kind: Kind
    targets: tuple[str, ...]  # names of processes; none for a cut
    delay_s: float  # after the fault before, or after its recovery
    hold_s: float = 0.0  # how long a freeze or a full Redis lasts
    settles: bool = True  # the next fault waits until everything is back
    share: float = 0.0  # of the open connections, for a cut


_WEIGHTS = {Kind.KILL: 10, Kind.FREEZE: 4, Kind.CUT: 3, Kind.EMPTY: 1, Kind.FULL: 1}
_SHAPES = {"one": 12, "several": 3, "all": 1}  # how many die or freeze at once
_LONGEST_FREEZE_S = 2.0
_OVERLAPPING = 0.25  # how many faults come before the last one's damage is mended


def plan(seed: int, count: int, members: Sequence[str], kinds: Collection[Kind] = tuple(Kind)) -> list[Fault]:
    """The same faults for the same arguments, on any machine."""
    rng = random.Random(f"faults {seed}")
    chosen = [kind for kind in Kind if kind in kinds]
    weights = [_WEIGHTS[kind] for kind in chosen]
    return [_fault(rng, number, rng.choices(chosen, weights)[0], sorted(members)) for number in range(count)]


def _fault(rng: random.Random, number: int, kind: Kind, members: Sequence[str]) -> Fault:
    delay = rng.uniform(0.1, 1.5)
    settles = rng.random() >= _OVERLAPPING
    match kind:
        case Kind.KILL:
            return Fault(number, kind, _targets(rng, members), delay, settles=settles)
        case Kind.FREEZE:
            targets, hold = _targets(rng, members), rng.uniform(0.1, _LONGEST_FREEZE_S)
            return Fault(number, kind, targets, delay, hold_s=hold, settles=settles)
        case Kind.CUT:
            return Fault(number, kind, (), delay, share=rng.uniform(0.05, 0.7))
        case Kind.EMPTY:
            return Fault(number, kind, (REDIS,), delay, settles=settles)
        case Kind.FULL:
            return Fault(number, kind, (REDIS,), delay, hold_s=rng.uniform(0.5, _LONGEST_FREEZE_S))


def _targets(rng: random.Random, members: Sequence[str]) -> tuple[str, ...]:
    """By role first: that there are two of some must not make the others rare."""
    match rng.choices(list(_SHAPES), list(_SHAPES.values()))[0]:
        case "one":
            role = rng.choice(sorted({role_of(member) for member in members}))
            return (rng.choice([member for member in members if role_of(member) == role]),)
        case "several":
            return tuple(sorted(rng.sample(list(members), rng.randint(2, len(members) - 1))))
        case _:
            return tuple(members)


def role_of(member: str) -> str:
    """'tokenizer' of 'tokenizer-1'."""
    return member.rpartition("-")[0] or member
