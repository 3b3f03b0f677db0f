"""Letters: stretches of code points that no set of an automaton tells apart.

A set of letters is an int, one bit per letter in the order of code points.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizer_svc.grammar.nodes import Ranges


class Alphabet:
    """The longest stretches for some sets of code points. ``masks[i]`` is set i, as letters."""

    def __init__(self, sets: Sequence[Ranges]) -> None:
        bounds = {low for ranges in sets for low, _ in ranges} | {high + 1 for ranges in sets for _, high in ranges}
        self._bounds = sorted(bounds)  # letter i reaches from bound i up to bound i + 1
        places = {bound: place for place, bound in enumerate(self._bounds)}
        self.masks = [sum((1 << places[high + 1]) - (1 << places[low]) for low, high in ranges) for ranges in sets]

    def from_code_point(self, low: int) -> int:
        """All letters with code points from ``low`` on."""
        below = sum(bound <= low for bound in self._bounds[1:])
        return -1 << below

    def ranges(self, mask: int) -> list[tuple[int, int]]:
        """The code points of a set of letters, in order."""
        found: list[tuple[int, int]] = []
        letter = 0
        while mask:
            gap = (mask & -mask).bit_length() - 1
            mask >>= gap
            length = (~mask & (mask + 1)).bit_length() - 1
            mask >>= length
            letter += gap
            found.append((self._bounds[letter], self._bounds[letter + length] - 1))
            letter += length
        return found
