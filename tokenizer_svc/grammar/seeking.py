"""Where words occur in a text, as a complete automaton over bytes.

That of Aho and Corasick, "Efficient string matching" (1975), with all of its transitions filled in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Seeking(NamedTuple):
    """State 0 has read nothing of any word."""

    transitions: NDArray[np.int64]  # [S, 256]
    found: NDArray[np.bool_]  # [S]: a word ends here


def seeking(words: Sequence[bytes]) -> Seeking:
    """The automaton of some words, none of which is empty."""
    edges: list[dict[int, int]] = [{}]
    found = [False]
    for word in words:
        state = 0
        for byte in word:
            following = edges[state].setdefault(byte, len(edges))
            if following == len(edges):
                edges.append({})
                found.append(False)
            state = following
        found[state] = True
    transitions = np.zeros((len(edges), 256), np.int64)
    queue = deque([(0, 0)])  # states, and those of the longest proper end of what they have read
    while queue:
        state, shorter = queue.popleft()
        found[state] = found[state] or found[shorter]
        if state:
            transitions[state] = transitions[shorter]
        for byte, following in edges[state].items():
            queue.append((following, int(transitions[state, byte])))
            transitions[state, byte] = following
    return Seeking(transitions, np.array(found))
