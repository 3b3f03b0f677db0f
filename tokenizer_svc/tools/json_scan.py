"""The extent of a JSON object in text that arrives a character at a time."""

from __future__ import annotations

_SPACE = " \t\n\r"
_BARE = frozenset(_SPACE + "0123456789+-.eEtrufalsn:,")  # what JSON has outside strings and brackets
_CLOSING = {"{": "}", "[": "]"}


class JsonScan:
    """Balanced brackets, and outside strings only what JSON may have there."""

    def __init__(self) -> None:
        self.is_over = False
        self._open: list[str] = []  # closing brackets, innermost last
        self._in_string = False
        self._escaped = False

    def feed(self, char: str) -> bool:
        """Take the next character, the first of them a bracket. False where it cannot be one of JSON."""
        if self._in_string:
            if self._escaped:
                self._escaped = False
            elif char == "\\":
                self._escaped = True
            elif char == '"':
                self._in_string = False
        elif char == '"':
            self._in_string = True
        elif char in _CLOSING:
            self._open.append(_CLOSING[char])
        elif char in "}]":
            if self._open.pop() != char:
                return False
            self.is_over = not self._open
        elif char not in _BARE:
            return False
        return True
