"""Calls of tools in a text that arrives in pieces: what is content, what is a call, and nothing lost.

A pure fold over characters, so that the events do not depend on how the text was cut. Held back is only what may
still become a call: a marker that has begun, the object around a call until its arguments open, and blank space
between calls. Once a call has started it stays one, whatever its end looks like.

What was held back and turns out to be no call is content. Blank space beside calls and the frame of a call
(markers, braces, keys) are the only text that is in no event.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from tokenizer_svc.parts import Arguments, CallPart, Content, Ended, Started, joined
from tokenizer_svc.tools.call_object import CallObject, Part
from tokenizer_svc.tools.formats import SPACE, Syntax


class _At(enum.Enum):
    GAP = enum.auto()  # at the start or after a call: only blank space so far
    TEXT = enum.auto()
    MARKER = enum.auto()
    CALL = enum.auto()  # in an object that has not started a call
    ARGUMENTS = enum.auto()  # in one that has
    CLOSER = enum.auto()


class ToolStream:
    """The events of one answer."""

    def __init__(self, syntax: Syntax, names: Sequence[str], *, only_calls: bool = False) -> None:
        """``names``: the functions that may be called.

        ``only_calls``: a grammar sees to it that the text is nothing else, so that what could become a call at its
        end was one that was cut, and no content.
        """
        self._marker = syntax.marker
        self._closer = syntax.closer.strip()
        self._separator = syntax.joiner.strip()
        self._is_bare = syntax.is_bare
        self._names = tuple(names)
        self._only_calls = only_calls
        self._at = _At.GAP
        self._held: list[str] = []  # characters in no event yet, oldest first
        self._matched = 0  # characters of the marker or the closer
        self._object = CallObject(self._names)
        self._early: list[str] = []  # arguments that came before the name
        self._calls = 0
        self._events: list[CallPart] = []

    def push(self, text: str) -> list[CallPart]:
        """The events of the next piece of text."""
        position = 0
        while position < len(text):
            if self._at is _At.TEXT:  # most text is no call: to the next possible marker at once
                start, position = position, text.find(self._marker[0], position)
                position = len(text) if position < 0 else position
                self._content(text[start:position])
                self._at, self._matched = (_At.TEXT if position == len(text) else _At.MARKER), 0
            elif self._at is _At.ARGUMENTS and not self._object.has_arguments:
                position = self._in_arguments(text, position)
            elif self._take(text[position]):
                position += 1
            elif self._held:  # read again as something else
                text, position = self._release() + text[position:], 0
        return self._drain()

    def finish(self) -> list[CallPart]:
        """The last events, when no more text will come."""
        held = self._release()
        match self._at:
            case _At.ARGUMENTS if not self._object.has_arguments:
                self._events.append(Ended(self._calls - 1, is_complete=False))
            case _ if self._only_calls:
                pass
            case _At.MARKER | _At.CALL:
                self._content(held)
            case _At.GAP if self._calls == 0:
                self._content(held)
            case _:
                pass
        self._at = _At.TEXT
        return self._drain()

    def _take(self, char: str) -> bool:
        """One character; False to read it again, after what is held."""
        match self._at:
            case _At.GAP:
                return self._gap(char)
            case _At.MARKER:
                return self._in_marker(char)
            case _At.CALL:
                return self._before_arguments(char)
            case _At.ARGUMENTS:
                return self._after_arguments(char)
            case _At.CLOSER:
                return self._in_closer(char)
            case _At.TEXT:
                raise AssertionError("plain text is taken by the run")

    def _gap(self, char: str) -> bool:
        if char in SPACE or (self._calls and char == self._separator and char not in self._held):
            self._held.append(char)
            return True
        if char == self._marker[0]:
            self._at, self._matched = _At.MARKER, 0
            return self._in_marker(char)
        if self._is_bare and char == "{":
            self._open_object()
            return self._before_arguments(char)
        return self._no_call()

    def _in_marker(self, char: str) -> bool:
        if char != self._marker[self._matched]:  # its first character is in it only once: no other can have begun
            return self._no_call()
        self._held.append(char)
        self._matched += 1
        if self._matched == len(self._marker):
            self._open_object()
        return True

    def _open_object(self) -> None:
        self._at, self._object, self._early = _At.CALL, CallObject(self._names), []

    def _before_arguments(self, char: str) -> bool:
        call = self._object
        part = call.feed(char)
        if part is Part.REFUSED:
            return self._no_call()
        self._held.append(char)
        if part is Part.ARGUMENT:
            self._early.append(char)
        if call.name is not None and self._early:
            self._events += (Started(self._calls, call.name), Arguments(self._calls, "".join(self._early)))
            self._calls += 1
            self._at = _At.ARGUMENTS
            self._held.clear()
            if call.has_arguments:
                self._events.append(Ended(self._calls - 1, is_complete=True))
        return True

    def _in_arguments(self, text: str, start: int) -> int:
        """A run of arguments, to their end or that of the text; the position after it."""
        call, position, part = self._object, start, Part.ARGUMENT
        while position < len(text) and not call.has_arguments:
            part = call.feed(text[position])
            if part is Part.REFUSED:
                break
            position += 1
        if position > start:
            self._events.append(Arguments(self._calls - 1, text[start:position]))
        if part is Part.REFUSED or call.has_arguments:
            self._events.append(Ended(self._calls - 1, call.has_arguments))
        if part is Part.REFUSED:
            self._close()
        return position

    def _after_arguments(self, char: str) -> bool:
        """To the end of the object, held back in case that it is none."""
        part = self._object.feed(char)
        if part is not Part.FRAME:
            self._close()
        if part is Part.END:
            self._held.clear()
        elif part is Part.FRAME:
            self._held.append(char)
        return part is not Part.REFUSED

    def _close(self) -> None:
        self._at, self._matched = (_At.CLOSER if self._closer else _At.GAP), 0

    def _in_closer(self, char: str) -> bool:
        if self._matched == 0 and char in SPACE:
            self._held.append(char)
            return True
        if char != self._closer[self._matched]:
            self._at = _At.GAP
            return False
        self._held.append(char)
        self._matched += 1
        if self._matched == len(self._closer):
            self._at = _At.GAP
            self._held.clear()
        return True

    def _no_call(self) -> bool:
        """What is held is content, and the next character is read as plain text."""
        self._content(self._release())
        self._at = _At.TEXT
        return False

    def _release(self) -> str:
        held = "".join(self._held)
        self._held.clear()
        return held

    def _content(self, text: str) -> None:
        if text:
            self._events.append(Content(text))

    def _drain(self) -> list[CallPart]:
        """The events so far, with neighbours of a kind in one."""
        events, self._events = self._events, []
        return joined(events)
