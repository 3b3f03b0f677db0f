"""The JSON object of one call, read a character at a time, so that its arguments can be passed on as they come.

``{"name": …, "arguments": {…}}``: keys in any order, each once, ``parameters`` as another word for
``arguments``, and ``"type": "function"`` beside them, as Llama 3 likes to write it.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence

_NAME, _TYPE = '"name"', '"type"'
_ARGUMENTS = ('"arguments"', '"parameters"')
_FUNCTION = '"function"'
_SPACE = " \t\n\r"
_BARE = frozenset(_SPACE + "0123456789+-.eEtrufalsn:,")  # what JSON has outside strings and brackets
_CLOSING = {"{": "}", "[": "]"}


class Part(enum.Enum):
    """What a character turned out to be."""

    FRAME = enum.auto()  # of the object around the arguments
    ARGUMENT = enum.auto()
    END = enum.auto()  # the last of the object
    REFUSED = enum.auto()  # no part of it: the object was not what it seemed


class _Want(enum.Enum):
    OPEN = enum.auto()
    KEY = enum.auto()
    COLON = enum.auto()
    WORD = enum.auto()  # inside a key or a value out of few
    VALUE = enum.auto()
    ARGUMENTS = enum.auto()
    NEXT = enum.auto()


class CallObject:
    """Reads one object. After REFUSED or END it takes no more."""

    def __init__(self, names: Sequence[str]) -> None:
        """``names``: the functions that may be called; an object with another name is refused."""
        self.name: str | None = None
        self.has_arguments = False  # whether they are complete
        self._names = tuple(json.dumps(name) for name in names)
        self._want = _Want.OPEN
        self._keys = (_NAME, *_ARGUMENTS, _TYPE)  # that have not been there
        self._key = ""  # of the value that is read
        self._word = ""
        self._open: list[str] = []  # closing brackets of the arguments, innermost last
        self._in_string = False
        self._escaped = False

    def feed(self, char: str) -> Part:
        """Take the next character."""
        match self._want:
            case _Want.ARGUMENTS:
                return self._argument(char)
            case _Want.WORD:
                return self._within_word(char)
            case _ if char in _SPACE:
                return Part.FRAME
            case _Want.OPEN:
                return self._expect(char, "{", _Want.KEY)
            case _Want.COLON:
                return self._expect(char, ":", _Want.VALUE)
            case _Want.KEY:
                self._key = ""
                return self._within_word(char)
            case _Want.VALUE:
                if self._key in _ARGUMENTS:
                    return self._argument(char) if char == "{" else Part.REFUSED
                return self._within_word(char)
            case _Want.NEXT:
                if char == "}" and self.name is not None and self.has_arguments:
                    return Part.END
                return self._expect(char, ",", _Want.KEY)

    def _expect(self, char: str, expected: str, then: _Want) -> Part:
        if char != expected:
            return Part.REFUSED
        self._want = then
        return Part.FRAME

    def _within_word(self, char: str) -> Part:
        """A key, or a value out of those that the key allows: refused as soon as it can be none of them."""
        self._want = _Want.WORD
        self._word += char
        words = {"": self._keys, _NAME: self._names, _TYPE: (_FUNCTION,)}[self._key]
        if self._word in words:
            self._take(self._word)
            self._word = ""
        elif not any(word.startswith(self._word) for word in words):
            return Part.REFUSED
        return Part.FRAME

    def _take(self, word: str) -> None:
        if self._key:
            if self._key == _NAME:
                self.name = json.loads(word)
            self._want = _Want.NEXT
            return
        self._key = word
        used = _ARGUMENTS if word in _ARGUMENTS else (word,)
        self._keys = tuple(key for key in self._keys if key not in used)
        self._want = _Want.COLON

    def _argument(self, char: str) -> Part:
        """Balanced brackets, and outside strings only what JSON may have there."""
        self._want = _Want.ARGUMENTS
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
                return Part.REFUSED
            if not self._open:
                self.has_arguments = True
                self._want = _Want.NEXT
        elif char not in _BARE:
            return Part.REFUSED
        return Part.ARGUMENT
