"""Many texts as one small graph: common beginnings and common endings are shared.

The minimal acyclic automaton of a sorted list of words, built one word at a time (Daciuk, Mihov, Watson, Watson:
Incremental construction of minimal acyclic finite-state automata, 2000). An enumeration of a thousand values has
several times fewer states than letters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Words(NamedTuple):
    """An acyclic graph; the last state is where reading begins, no state leads to a later one."""

    edges: list[tuple[tuple[str, int], ...]]  # of each state: (character, to), sorted
    final: list[bool]


_Key = tuple[bool, tuple[tuple[str, int], ...]]


def share(texts: Iterable[str]) -> Words:
    """The graph of exactly these texts."""
    known: dict[_Key, int] = {}
    finals = [False]
    branches: list[list[tuple[str, int]]] = [[]]  # of each state along the current word, but for the branch to the next

    def close(depth: int, word: str) -> None:
        while len(branches) > depth + 1:
            key = (finals.pop(), tuple(branches.pop()))
            branches[-1].append((word[len(branches) - 1], known.setdefault(key, len(known))))

    previous = ""
    for text in sorted(set(texts)):
        common = _common(previous, text)
        close(common, previous)
        for _ in range(len(text) - common):
            finals.append(False)
            branches.append([])
        finals[-1] = True
        previous = text
    close(0, previous)
    states = [*known, (finals[0], tuple(branches[0]))]
    return Words([edges for _, edges in states], [final for final, _ in states])


def _common(first: str, second: str) -> int:
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return length
