"""Arrays and objects as railroad diagrams: which items and members may come, in which order, and where commas stand.

Written once for both forms that a schema can take: the pieces on the tracks are trees for automata, or phrases of
a grammar. A diagram has no loops; what repeats is a piece.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from tokenizer_svc.grammar.schema_shapes import Lists, Records

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Brackets(Generic[T]):
    """What a container is written with."""

    begin: T
    end: T
    empty: T  # both, with nothing in between
    comma: T
    nothing: T
    repeat: Callable[[T, int, int | None], T]  # of a comma and what follows it, at least and at most so many times


class Diagram(NamedTuple, Generic[T]):
    """Tracks from state 0 to state 1, each over one piece."""

    num_states: int
    edges: list[tuple[int, T, int]]


class _Tracks(Generic[T]):
    """States by names, numbered as they are met."""

    def __init__(self) -> None:
        self.edges: list[tuple[int, T, int]] = []
        self._numbers: dict[Hashable, int] = {"start": 0, "end": 1}

    def add(self, source: Hashable, piece: T, to: Hashable) -> None:
        numbers = self._numbers
        self.edges.append((numbers.setdefault(source, len(numbers)), piece, numbers.setdefault(to, len(numbers))))

    def diagram(self) -> Diagram[T]:
        """Without dead ends."""
        sources: dict[int, list[int]] = {}
        for source, _, to in self.edges:
            sources.setdefault(to, []).append(source)
        alive = {1}
        pending = [1]
        for state in pending:  # grows while it is read
            fresh = [source for source in sources.get(state, ()) if source not in alive]
            alive.update(fresh)
            pending += fresh
        return Diagram(len(self._numbers), [edge for edge in self.edges if edge[2] in alive])


def list_diagram(shape: Lists, brackets: Brackets[T], prefix: list[T], rest: T | None) -> Diagram[T]:
    """An array; ``rest`` is the piece of the items after the first ones, None where there are none."""
    tracks: _Tracks[T] = _Tracks()
    least, most, count = shape.least, shape.most, len(prefix)
    if not least:
        tracks.add("start", brackets.empty, "end")
    if most == 0 or not (prefix or rest):
        return tracks.diagram()
    tracks.add("start", brackets.begin, 0)
    for index, piece in enumerate(prefix):
        tracks.add(index, brackets.comma if index else brackets.nothing, ("in", index))
        tracks.add(("in", index), piece, index + 1)
        if index + 1 >= least:
            tracks.add(index + 1, brackets.nothing, "last")
    if rest is not None:
        after = count
        if not count:
            tracks.add(0, rest, 1)
            after = 1
        further = brackets.repeat(rest, max(0, least - after), None if most is None else most - after)
        tracks.add(after, further, "last")
    tracks.add("last", brackets.end, "end")
    return tracks.diagram()


class _At(NamedTuple):
    """Before a member: how many there have been, and how many of them are certain to have different names."""

    place: int
    seen: int
    distinct: int


def record_diagram(shape: Records, brackets: Brackets[T], members: list[T], others: T | None) -> Diagram[T]:
    """An object; ``others`` is the piece of one property that is no member, None where there are none.

    Counts are only kept apart as far as commas, the least and the greatest number of properties need it.
    """
    tracks: _Tracks[T] = _Tracks()
    least, most = shape.least, shape.most
    enough = max(1, least)

    def after(at: _At, index: int) -> _At:
        seen = at.seen + 1 if most is not None else min(at.seen + 1, enough)
        return _At(index, seen, min(at.distinct + 1, least))

    if not least and not any(member.required for member in shape.members):
        tracks.add("start", brackets.empty, "end")
    reached = [_At(0, 0, 0)]
    tracks.add("start", brackets.begin, reached[0])
    for index, (member, piece) in enumerate(zip(shape.members, members, strict=True)):
        skipped = [] if member.required else [at._replace(place=index + 1) for at in reached]
        for at in skipped:
            tracks.add(at._replace(place=index), brackets.nothing, at)
        entered = {at: after(at, index + 1) for at in reached if most is None or at.seen < most}
        for at, then in entered.items():
            tracks.add(at, brackets.comma if at.seen else brackets.nothing, ("in", then))
        for then in dict.fromkeys(entered.values()):
            tracks.add(("in", then), piece, then)
        reached = list(dict.fromkeys([*skipped, *entered.values()]))
    lefts: dict[int | None, None] = {}  # how many other properties may follow the first
    for at in reached:
        if at.seen and at.distinct >= least:
            tracks.add(at, brackets.nothing, "last")
        if at.distinct + 1 >= least and (most is None or at.seen < most):
            left = None if most is None else most - at.seen - 1
            lefts[left] = None
            tracks.add(at, brackets.comma if at.seen else brackets.nothing, ("other", left))
    if others is not None:
        for left in lefts:
            tracks.add(("other", left), others, ("more", left))
            tracks.add(("more", left), brackets.repeat(others, 0, left), "last")
    tracks.add("last", brackets.end, "end")
    return tracks.diagram()
