"""Which shapes of a schema that contains itself have values at all, and the schema without the others.

A shape that can only be written by writing itself first has none. Left in a grammar, it would be a trap: a text that
enters it could never be ended.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.schema_read import Shapes
from tokenizer_svc.grammar.schema_shapes import (
    NEVER,
    Choice,
    Lists,
    Never,
    Others,
    Records,
    Reference,
    Shape,
    choice,
)


def alive(shapes: Shapes) -> Shapes:
    """The shapes without those that have no values. Raises GrammarError where nothing is left."""
    finite: set[Hashable] = set()  # keys of shapes that have values
    recursive = [(key, shapes.table[key]) for key in _references(shapes)]
    known = -1
    while known < len(finite):  # the least fixed point
        known = len(finite)
        pruning = _Pruning(finite)
        finite |= {key for key, shape in recursive if not isinstance(pruning.pruned(shape), Never)}
    pruning = _Pruning(finite)
    root = pruning.pruned(shapes.root)
    if isinstance(root, Never):
        raise GrammarError("no value at all is valid under this JSON Schema: it could only go on for ever")
    return Shapes(root, {key: pruning.pruned(shape) for key, shape in recursive})


def _references(shapes: Shapes) -> dict[Hashable, None]:
    """The keys of the shapes that the root refers to, directly or not."""
    keys: dict[Hashable, None] = {}
    seen: set[int] = set()
    pending = [shapes.root]
    for shape in pending:  # grows while it is read
        if id(shape) in seen:
            continue
        seen.add(id(shape))
        match shape:
            case Reference(key):
                keys[key] = None
                pending.append(shapes.table[key])
            case Choice(options):
                pending += options
            case Lists():
                pending += (*shape.prefix, shape.rest)
            case Records():
                pending += (member.shape for member in shape.members)
                pending += (others.shape for others in (*shape.patterns, shape.extra))
            case _:
                pass
    return keys


class _Pruning:
    """Shapes without what leads to no value, given the keys of those that contain themselves and have one."""

    def __init__(self, finite: set[Hashable]) -> None:
        self._finite = finite
        self._pruned: dict[int, Shape] = {}

    def pruned(self, shape: Shape) -> Shape:
        found = self._pruned.get(id(shape))
        if found is None:
            found = self._pruned[id(shape)] = self._prune(shape)
        return found

    def _prune(self, shape: Shape) -> Shape:
        match shape:
            case Reference(key):
                return shape if key in self._finite else NEVER
            case Choice(options):
                return choice([self.pruned(option) for option in options])
            case Lists():
                return self._list(shape)
            case Records():
                return self._record(shape)
            case _:
                return shape

    def _list(self, shape: Lists) -> Shape:
        prefix: list[Shape] = []
        most = shape.most
        for item in map(self.pruned, shape.prefix):
            if isinstance(item, Never):
                most = len(prefix)
                break
            prefix.append(item)
        rest = self.pruned(shape.rest)
        if isinstance(rest, Never):
            most = len(prefix) if most is None else min(most, len(prefix))
        if most is not None and most < shape.least:
            return NEVER
        return Lists(tuple(prefix), rest if most is None or most > len(prefix) else NEVER, shape.least, most)

    def _record(self, shape: Records) -> Shape:
        members = [replace(member, shape=self.pruned(member.shape)) for member in shape.members]
        if any(member.required and isinstance(member.shape, Never) for member in members):
            return NEVER
        kept = tuple(member for member in members if not isinstance(member.shape, Never))
        patterns = [Others(others.names, self.pruned(others.shape)) for others in shape.patterns]
        patterns = [others for others in patterns if not isinstance(others.shape, Never)]
        extra = Others(shape.extra.names, self.pruned(shape.extra.shape))
        free = bool(patterns) or not isinstance(extra.shape, Never)
        if shape.least > len(kept) + free:
            return NEVER
        return Records(kept, tuple(patterns), extra, shape.least, shape.most)
