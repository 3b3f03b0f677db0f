"""Stop strings in a stream of text: what may be shown now, and where a stop string ends it.

Owns the search and the text it holds back. Knows nothing of tokens, requests or streams.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple


class Shown(NamedTuple):
    """What a push releases: text that is certain to be shown, and the stop string that ended it, if one did."""

    text: str
    stop: str | None


class StopMatcher:
    """Finds the first stop string in text that arrives in pieces, in constant time per character.

    The text ends as soon as it contains a stop string: of all occurrences the one that is *complete*
    first wins, and of several that are complete with the same character the longest, so that nothing of
    any of them is shown. The answer therefore depends on the text alone, never on how it was cut.

    Held back is exactly the longest end of the text that is the beginning of a stop string.

    The automaton is that of Aho and Corasick, "Efficient string matching" (1975). Raises ValueError on
    an empty stop string.
    """

    def __init__(self, stops: Sequence[str], *, include_stop: bool = False) -> None:
        if not all(stops):
            raise ValueError("a stop string must not be empty")
        self._include_stop = include_stop
        self._edges: list[dict[str, int]] = [{}]  # per state: character -> state; state 0 is the empty text
        self._depth = [0]  # characters of the stop string that a state has seen: what is held back
        self._fallback = [0]  # the state of the longest proper end of this state's text
        self._matched = [0]  # length of the longest stop string that ends here, 0 for none
        for stop in stops:
            self._add(stop)
        self._link()
        self._state = 0
        self._held = ""

    def push(self, text: str) -> Shown:
        """Take the next piece of text. Call no more after a stop."""
        edges, fallback, matched = self._edges, self._fallback, self._matched
        state = self._state
        whole = self._held + text
        for end, character in enumerate(text, start=len(self._held) + 1):
            while state and character not in edges[state]:
                state = fallback[state]
            state = edges[state].get(character, 0)
            if length := matched[state]:
                start = end - length
                self._held, self._state = "", 0
                return Shown(whole[: end if self._include_stop else start], whole[start:end])
        self._state = state
        certain = len(whole) - self._depth[state]
        self._held = whole[certain:]
        return Shown(whole[:certain], None)

    def flush(self) -> str:
        """What is held back, when no more text will come."""
        held, self._held, self._state = self._held, "", 0
        return held

    def _add(self, stop: str) -> None:
        state = 0
        for character in stop:
            following = self._edges[state].get(character)
            if following is None:
                following = len(self._edges)
                self._edges[state][character] = following
                self._edges.append({})
                self._depth.append(self._depth[state] + 1)
                self._fallback.append(0)
                self._matched.append(0)
            state = following
        self._matched[state] = len(stop)

    def _link(self) -> None:
        """Set the fallbacks breadth first: those of shorter texts are known when a longer one asks."""
        queue = deque(self._edges[0].values())
        while queue:
            state = queue.popleft()
            for character, following in self._edges[state].items():
                shorter = self._fallback[state]
                while shorter and character not in self._edges[shorter]:
                    shorter = self._fallback[shorter]
                self._fallback[following] = self._edges[shorter].get(character, 0)
                queue.append(following)
            self._matched[state] = self._matched[state] or self._matched[self._fallback[state]]
