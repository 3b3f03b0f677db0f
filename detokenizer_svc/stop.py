"""Stops in a stream of text: what may be shown now, and where a stop string or a regular expression ends it.

Owns the search and the text it holds back. Knows nothing of tokens, requests or streams.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from detokenizer_svc.stop_regex import RegexSearch
from shared.protocol import StopRegex


class Shown(NamedTuple):
    """What a push releases: text that is certain to be shown, and the stop string or pattern that ended it, if any."""

    text: str
    stop: str | None


class StopMatcher:
    """Finds the first stop in text that arrives in pieces, in bounded time per character.

    The text ends as soon as it contains a stop string: of all occurrences the one that is *complete*
    first wins, and of several that are complete with the same character the longest, so that nothing of
    any of them is shown. The answer therefore depends on the text alone, never on how it was cut. The same goes for
    regular expressions: the match that ends first, and of those the one that begins first.

    Held back is exactly the longest end of the text that is the beginning of a stop.

    The automaton is that of Aho and Corasick, "Efficient string matching" (1975). Raises ValueError on
    an empty stop string.
    """

    def __init__(self, stops: Sequence[str], regexes: Sequence[StopRegex] = (), *, include_stop: bool = False) -> None:
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
        self._searches = [RegexSearch(regex) for regex in regexes]
        self._read = 0  # characters

    def push(self, text: str) -> Shown:
        """Take the next piece of text. Call no more after a stop."""
        if self._searches:
            return self._push_each(text)
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

    def _push_each(self, text: str) -> Shown:
        """As ``push``, with regular expressions besides."""
        whole = self._held + text
        begin = self._read - len(self._held)  # the place of its first character
        for end, char in enumerate(text, start=len(self._held) + 1):
            length = self._step(char)
            found = [(end - length, whole[end - length : end])] if length else []
            starts = [(search.feed(char, self._read), search.pattern) for search in self._searches]
            found += [(start - begin, pattern) for start, pattern in starts if start is not None]
            self._read += 1
            if found:
                start, stop = min(found, key=lambda match: match[0])
                return Shown(whole[: end if self._include_stop else start], stop)
        certain = len(whole) - self._depth[self._state]
        begun = [search.begun - begin for search in self._searches if search.begun is not None]
        certain = min([certain, *begun])
        self._held = whole[certain:]
        return Shown(whole[:certain], None)

    def _step(self, char: str) -> int:
        """The length of the longest stop string that ends with this character, 0 if none does."""
        state = self._state
        while state and char not in self._edges[state]:
            state = self._fallback[state]
        self._state = self._edges[state].get(char, 0)
        return self._matched[self._state]

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
