"""Regular expressions in a stream of text: where the first match ends, and how far back one may have begun.

All places where a match may have begun are followed at once, so that every character is looked at once and costs no
more than the automaton has states. Knows nothing of tokens, requests or streams.
"""

from __future__ import annotations

from shared.protocol import StopRegex

_DEAD, _START = 0, 1


class RegexSearch:
    """Feed it a text character by character."""

    def __init__(self, regex: StopRegex) -> None:
        self.pattern = regex.pattern
        self._classes = regex.classes
        self._width = max(regex.classes) + 1
        self._next = memoryview(regex.transitions).cast("H")
        self._accepting = regex.accepting
        self._begun: dict[int, int] = {}  # state -> the first place where a match that is there now has begun

    @property
    def begun(self) -> int | None:
        """The first place where a match may have begun that is not over."""
        return next(iter(self._begun.values()), None)  # they are in the order of their places

    def feed(self, char: str, place: int) -> int | None:
        """Take the character at ``place``. Where matches end with it, the first place at which one began."""
        begun, classes, following, width = self._begun, self._classes, self._next, self._width
        begun.setdefault(_START, place)
        for byte in char.encode():
            after: dict[int, int] = {}
            for state, start in begun.items():
                if reached := following[state * width + classes[byte]]:
                    after.setdefault(reached, start)
            begun = after
        self._begun = begun
        return next((start for state, start in begun.items() if self._accepting[state]), None)
