"""The JSON object of one call, read a character at a time, so that its arguments can be passed on as they come.

``{"name": …, "arguments": {…}}``: keys in any order, each once, ``parameters`` as another word for
``arguments``, and ``"type": "function"`` beside them, as Llama 3 likes to write it, or an ``"id"``, as Mistral does.
"""

from __future__ import annotations

import enum
import json

from tokenizer_svc.tools.call_body import Functions, Step, Writing
from tokenizer_svc.tools.json_scan import JsonScan

_NAME, _TYPE, _ID = '"name"', '"type"', '"id"'
_ARGUMENTS = ('"arguments"', '"parameters"')
_FUNCTION = '"function"'
_SPACE = " \t\n\r"
_LONGEST_ID = 128


class _Want(enum.Enum):
    OPEN = enum.auto()
    KEY = enum.auto()
    COLON = enum.auto()
    WORD = enum.auto()  # inside a key or a value out of few
    VALUE = enum.auto()
    ARGUMENTS = enum.auto()
    NEXT = enum.auto()


class CallObject:
    """A CallBody."""

    def __init__(self, functions: Functions) -> None:
        self.name: str | None = None
        self.has_arguments = False
        self._names = tuple(json.dumps(name) for name in functions)
        self._want = _Want.OPEN
        self._keys = (_NAME, *_ARGUMENTS, _TYPE, _ID)  # that have not been there
        self._key = ""  # of the value that is read
        self._word = ""
        self._scan = JsonScan()
        self._writing = Writing()

    def written(self) -> str:
        return self._writing.take()

    def feed(self, char: str) -> Step:
        match self._want:
            case _Want.ARGUMENTS:
                return self._argument(char)
            case _Want.WORD:
                return self._within_word(char)
            case _ if char in _SPACE:
                return Step.TAKEN
            case _Want.OPEN:
                return self._expect(char, "{", _Want.KEY)
            case _Want.COLON:
                return self._expect(char, ":", _Want.VALUE)
            case _Want.KEY:
                self._key = ""
                return self._within_word(char)
            case _Want.VALUE:
                if self._key in _ARGUMENTS:
                    return self._argument(char) if char == "{" else Step.REFUSED
                return self._within_word(char)
            case _Want.NEXT:
                if char == "}" and self.name is not None and self.has_arguments:
                    return Step.END
                return self._expect(char, ",", _Want.KEY)

    def _expect(self, char: str, expected: str, then: _Want) -> Step:
        if char != expected:
            return Step.REFUSED
        self._want = then
        return Step.TAKEN

    def _within_word(self, char: str) -> Step:
        """A key, or a value out of those that the key allows: refused as soon as it can be none of them."""
        self._want = _Want.WORD
        self._word += char
        if self._key == _ID:
            return self._within_id(char)
        words = {"": self._keys, _NAME: self._names, _TYPE: (_FUNCTION,)}[self._key]
        if self._word in words:
            self._take(self._word)
        elif not any(word.startswith(self._word) for word in words):
            return Step.REFUSED
        return Step.TAKEN

    def _within_id(self, char: str) -> Step:
        """Any short text without escapes; clients get ids of ours."""
        if self._word[0] != '"' or char == "\\" or len(self._word) > _LONGEST_ID:
            return Step.REFUSED
        if char == '"' and len(self._word) > 1:
            self._take(self._word)
        return Step.TAKEN

    def _take(self, word: str) -> None:
        self._word = ""
        if self._key:
            if self._key == _NAME:
                self.name = json.loads(word)
            self._want = _Want.NEXT
            return
        self._key = word
        used = _ARGUMENTS if word in _ARGUMENTS else (word,)
        self._keys = tuple(key for key in self._keys if key not in used)
        self._want = _Want.COLON

    def _argument(self, char: str) -> Step:
        self._want = _Want.ARGUMENTS
        if not self._scan.feed(char):
            return Step.REFUSED
        self._writing.add(char)
        if self._scan.is_over:
            self.has_arguments = True
            self._want = _Want.NEXT
        return Step.TAKEN
