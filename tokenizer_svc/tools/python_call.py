"""A call as Python would write it, its arguments all by name and literals: ``get_weather(city="Köln", days=3)``.

Arguments become JSON one at a time, as each is complete. Also reads JSON's own literals, which some models mix in.
"""

from __future__ import annotations

import ast
import enum
import json

from tokenizer_svc.tools.call_body import Functions, Step, Writing
from tokenizer_svc.tools.formats import SPACE

_CLOSING = {"{": "}", "[": "]", "(": ")"}


class _At(enum.Enum):
    NAME = enum.auto()
    KEY = enum.auto()
    VALUE = enum.auto()


class PythonCall:
    """A CallBody. A bracket may stand before it: that of the list of calls."""

    def __init__(self, functions: Functions) -> None:
        self.name: str | None = None
        self.has_arguments = False
        self._functions = functions
        self._at = _At.NAME
        self._is_listed = False
        self._chosen = ""  # the name
        self._word = ""  # a name or key that is read
        self._keys: set[str] = set()
        self._value: list[str] = []
        self._open: list[str] = []  # closing brackets inside of the value
        self._quote = ""
        self._escaped = False
        self._writing = Writing()

    def written(self) -> str:
        return self._writing.take()

    def feed(self, char: str) -> Step:
        match self._at:
            case _At.NAME:
                return self._in_name(char)
            case _At.KEY:
                return self._in_key(char)
            case _At.VALUE:
                return self._in_value(char)

    def _in_name(self, char: str) -> Step:
        if char == "[" and not self._word and not self._is_listed:
            self._is_listed = True
        elif char == "(":
            if self._word not in self._functions:
                return Step.REFUSED
            self._at, self._chosen, self._word = _At.KEY, self._word, ""
        elif char not in SPACE:
            self._word += char
            if not any(name.startswith(self._word) for name in self._functions):
                return Step.REFUSED
        elif self._word:
            return Step.REFUSED
        return Step.TAKEN

    def _in_key(self, char: str) -> Step:
        if char == ")" and not self._word:
            return self._end()
        if char == "=" and self._word and self._word not in self._keys:
            self._at = _At.VALUE
        elif char.isalnum() or char == "_":
            self._word += char
        elif char not in SPACE or self._word:
            return Step.REFUSED
        return Step.TAKEN

    def _in_value(self, char: str) -> Step:
        if self._quote:
            if self._escaped:
                self._escaped = False
            elif char == "\\":
                self._escaped = True
            elif char == self._quote:
                self._quote = ""
        elif char in "\"'":
            self._quote = char
        elif char in _CLOSING:
            self._open.append(_CLOSING[char])
        elif not self._open and char in ",)":
            if not self._argument():
                return Step.REFUSED
            self._at = _At.KEY
            return self._end() if char == ")" else Step.TAKEN
        elif char in ")]}" and (not self._open or self._open.pop() != char):
            return Step.REFUSED
        self._value.append(char)
        return Step.TAKEN

    def _argument(self) -> bool:
        """Write the argument that is complete; False where it is no literal."""
        value = _json("".join(self._value).strip())
        if value is None:
            return False
        self._writing.add(f"{', ' if self._keys else '{'}{json.dumps(self._word, ensure_ascii=False)}: {value}")
        self._keys.add(self._word)
        self.name = self._chosen
        self._value.clear()
        self._word = ""
        return True

    def _end(self) -> Step:
        self._writing.add("}" if self._keys else "{}")
        self.name, self.has_arguments = self._chosen, True
        return Step.END


def _json(text: str) -> str | None:
    """A literal as JSON."""
    for read in (ast.literal_eval, json.loads):
        try:
            return json.dumps(read(text), ensure_ascii=False, allow_nan=False)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            pass
    return None
