"""Classes of code points: those that no set of an automaton tells apart are one letter.

A set of classes is an int, one bit per class.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tokenizer_svc.grammar.nodes import MAX_CODE_POINT, Ranges


class Alphabet:
    """The coarsest classes for some sets of code points. ``masks[i]`` is set i, as classes."""

    def __init__(self, sets: Sequence[Ranges]) -> None:
        toggles: dict[int, int] = {}
        for index, ranges in enumerate(sets):
            for low, high in ranges:
                toggles[low] = toggles.get(low, 0) ^ (1 << index)
                toggles[high + 1] = toggles.get(high + 1, 0) ^ (1 << index)
        bounds = [*sorted(toggles), MAX_CODE_POINT + 1]
        numbers: dict[int, int] = {}
        self.classes: list[list[tuple[int, int]]] = []  # of each class, its ranges in order
        self.masks = [0] * len(sets)
        members = 0
        for low, following in itertools.pairwise(bounds):
            members ^= toggles[low]
            if not members:
                continue
            number = numbers.get(members)
            if number is None:
                number = numbers[members] = len(numbers)
                self.classes.append([])
                rest = members
                while rest:
                    lowest = rest & -rest
                    self.masks[lowest.bit_length() - 1] |= 1 << number
                    rest ^= lowest
            self.classes[number].append((low, following - 1))

    def ranges(self, mask: int) -> list[tuple[int, int]]:
        """The code points of a set of classes, in order, neighbours merged."""
        found = sorted(span for number in bits(mask) for span in self.classes[number])
        merged: list[tuple[int, int]] = []
        for low, high in found:
            if merged and merged[-1][1] == low - 1:
                merged[-1] = (merged[-1][0], high)
            else:
                merged.append((low, high))
        return merged


def bits(mask: int) -> list[int]:
    """The numbers of the bits that are set, in order."""
    found: list[int] = []
    while mask:
        lowest = mask & -mask
        found.append(lowest.bit_length() - 1)
        mask ^= lowest
    return found
