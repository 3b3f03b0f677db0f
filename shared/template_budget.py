"""What rendering one template may cost: steps, processor time, and the size of what it makes.

A value is weighed as the tree that printing, comparing or sorting it would walk through, so that a list that holds
itself ten times over, forty times nested, is as heavy as it looks. Lists and dicts do not change while a template
runs, so each is weighed once. Knows nothing of jinja.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

MOST_STEPS = 2_000_000
MOST_SECONDS = 1.0  # of this thread's processor time; a chat of four thousand messages takes a tenth of it
MOST_NUMBER = 10_000  # widths and counts that are arguments
MOST_BITS = 4096  # of an integer
_ROOM = 2**20  # characters and items that a template may make of nothing
_GROWTH = 16  # and of each character and item that it is given
_COPIES = 16  # of the largest value, made in all
_LOOK_EVERY = 64  # steps between looks at the clock
_DEPTH = 200


class TooMuch(ValueError):
    """A template takes more than it may; the message says of what."""


class Budget:
    """What is left to one rendering."""

    __slots__ = ("_made", "_most", "_most_made", "_steps", "_until", "_weights")

    def __init__(self, given: Any = None) -> None:
        """``given``: all that the template gets. Raises TooMuch for values nested beyond reason."""
        self._weights: dict[int, tuple[Any, int]] = {}
        self._made = 0
        self._steps = 0
        self._most = self._most_made = 2**62
        self._most = _ROOM + _GROWTH * self.weigh(given)
        self._most_made = _COPIES * self._most
        self._made = 0
        self._until = time.thread_time() + MOST_SECONDS

    def step(self) -> None:
        """One more thing done."""
        self._steps += 1
        if not self._steps % _LOOK_EVERY:
            self._look()

    def take(self, value: Any) -> Any:
        """One more thing done, which made this value: the same value, weighed and counted."""
        self._steps += 1
        if not self._steps % _LOOK_EVERY:
            self._look()
        self.made(len(value) if type(value) is str else self.weigh(value))
        return value

    def _look(self) -> None:
        if self._steps > MOST_STEPS:
            raise TooMuch(f"it takes more than {MOST_STEPS} steps")
        if time.thread_time() > self._until:
            raise TooMuch(f"it takes more than {MOST_SECONDS:g} s")

    def weigh(self, value: Any, depth: int = 0) -> int:
        """Characters and items of a value as a tree. Raises TooMuch beyond what one value may have."""
        kind = type(value)
        if kind is str:
            weight = 1 + len(value)
        elif kind is list or kind is tuple:
            weight = self._weight_of(value, value, depth)
        elif isinstance(value, Mapping):
            weight = self._weight_of(value, [*value.keys(), *value.values()], depth)
        elif isinstance(value, (str, bytes, range, set, frozenset)):
            weight = 1 + len(value)
        elif kind is int:
            weight = 1 + value.bit_length() // 8
        else:
            weight = 1
        if weight > self._most:
            raise TooMuch(f"it makes a value of more than {self._most} characters or items")
        return weight

    def _weight_of(self, value: Any, items: Any, depth: int) -> int:
        known = self._weights.get(id(value))
        if known is not None:
            return known[1]
        if depth > _DEPTH:
            raise TooMuch(f"it nests values more than {_DEPTH} deep")
        self.made(len(items))
        weight = 1
        for item in items:
            weight += self.weigh(item, depth + 1)
            if weight > self._most:
                break
        self._weights[id(value)] = value, weight  # kept with its value, so that the id stays its own
        return weight

    def made(self, size: int) -> None:
        """So many characters or items are new. Raises TooMuch where they are, or all so far, too many."""
        self._made += size
        if size > self._most or self._made > self._most_made:
            raise TooMuch(f"it makes more than {self._most} characters at once, or {self._most_made} in all")
