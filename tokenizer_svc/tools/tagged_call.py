"""Calls whose arguments stand between tags, as plain text: Qwen 3 Coder's and GLM 4.5's.

Which text is a string and which is JSON follows from the schema of the argument; a string is passed on as it comes.
"""

from __future__ import annotations

import ast
import enum
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from tokenizer_svc.tools.call_body import Functions, Step, Writing
from tokenizer_svc.tools.formats import SPACE


class Tags(NamedTuple):
    """The tags of a format; patterns match all that has been read since the last thing that was complete."""

    head: re.Pattern[str]  # up to the name and with it
    key: re.Pattern[str]  # with the beginning of the value
    closer: str  # of a value
    end: str  # of the call
    is_padded: bool  # values stand on lines of their own


FUNCTION_TAGS = Tags(
    re.compile(r"\s*<function=([\w-]+)>"),
    re.compile(r"\s*<parameter=([^<>]+)>"),
    "</parameter>",
    "</function>",
    is_padded=True,
)
KEY_TAGS = Tags(
    re.compile(r"\s*([\w-]+)\s*(?=<)"),
    re.compile(r"\s*<arg_key>([^<>]+)</arg_key>\s*<arg_value>"),
    "</arg_value>",
    "</tool_call>",
    is_padded=False,
)
_LONGEST_FRAME = 512  # between two values: a key and its tags


class _At(enum.Enum):
    HEAD = enum.auto()
    KEY = enum.auto()
    VALUE = enum.auto()


class TaggedCall:
    """A CallBody."""

    def __init__(self, functions: Functions, tags: Tags) -> None:
        self.name: str | None = None
        self.has_arguments = False
        self._functions = functions
        self._tags = tags
        self._at = _At.HEAD
        self._read = ""  # that is not complete
        self._chosen = ""  # the name
        self._keys: set[str] = set()
        self._is_new = False  # nothing of the value was read
        self._value: list[str] = []  # where it cannot be passed on before it is complete
        self._is_string = False
        self._writing = Writing()

    def written(self) -> str:
        return self._writing.take()

    def feed(self, char: str) -> Step:
        self._read += char
        match self._at:
            case _At.HEAD:
                return self._in_head(char)
            case _At.KEY:
                return self._in_key(char)
            case _At.VALUE:
                self._in_value()
                return Step.TAKEN

    def _in_head(self, char: str) -> Step:
        found = self._tags.head.match(self._read) if char in "<>" else None
        if found is None:
            is_tag = self._tags.is_padded
            begun = self._read.lstrip(SPACE)
            may_be = "<function=".startswith(begun[: len("<function=")]) if is_tag else not begun.startswith("<")
            return Step.TAKEN if may_be and len(self._read) <= _LONGEST_FRAME else Step.REFUSED
        if found[1] not in self._functions:
            return Step.REFUSED
        self._chosen, self._at, self._read = found[1], _At.KEY, self._read[found.end() :]
        return Step.TAKEN

    def _in_key(self, char: str) -> Step:
        begun = self._read.lstrip(SPACE)
        if begun == self._tags.end:
            self._writing.add("}" if self._keys else "{}")
            self.name, self.has_arguments = self._chosen, True
            return Step.END
        if (begun and begun[0] != "<") or len(self._read) > _LONGEST_FRAME:
            return Step.REFUSED
        found = self._tags.key.fullmatch(self._read) if char == ">" else None
        if found is None:
            return Step.TAKEN
        key = found[1].strip()
        if key in self._keys:
            return Step.REFUSED
        self._begin(key)
        return Step.TAKEN

    def _begin(self, key: str) -> None:
        properties = self._functions[self._chosen].get("properties")
        schema: Any = properties.get(key) if isinstance(properties, Mapping) else None
        self._is_string = isinstance(schema, Mapping) and schema.get("type") == "string"
        self._writing.add(f"{', ' if self._keys else '{'}{json.dumps(key, ensure_ascii=False)}: ")
        self._writing.add('"' if self._is_string else "")
        self._keys.add(key)
        self.name = self._chosen
        self._value.clear()
        self._at, self._read = _At.VALUE, ""
        self._is_new = True

    def _in_value(self) -> None:
        """Pass on, or keep, what cannot be the beginning of the closing tag, or of the line break before it."""
        closer = self._tags.closer
        if self._is_new and self._tags.is_padded and self._read == "\n":
            self._read = ""
        self._is_new = False
        ends = (closer, "\n" + closer) if self._tags.is_padded else (closer,)
        while self._read and not any(end.startswith(self._read) for end in ends):
            first, self._read = self._read[0], self._read[1:]
            if self._is_string:
                self._writing.add(json.dumps(first, ensure_ascii=False)[1:-1])
            else:
                self._value.append(first)
        if self._read in ends:
            self._writing.add('"' if self._is_string else _json("".join(self._value)))
            self._at, self._read = _At.KEY, ""


def _json(text: str) -> str:
    """A value that its schema does not call a string: what JSON or Python reads in it, else the text."""
    for read in (json.loads, ast.literal_eval):
        try:
            return json.dumps(read(text.strip()), ensure_ascii=False, allow_nan=False)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            pass
    lowered = text.strip().lower()
    return lowered if lowered in ("true", "false", "null") else json.dumps(text, ensure_ascii=False)
