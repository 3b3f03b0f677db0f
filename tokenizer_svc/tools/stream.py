"""Calls of tools in a text that arrives in pieces: what is content, what is a call, and nothing lost.

A pure fold over characters, so that the parts do not depend on how the text was cut. Held back is only what may
still become a call: a mark that has begun, what stands before a call's arguments, and blank space between calls. Once a
call has started it stays one, whatever its end looks like.

What was held back and turns out to be no call is content. Blank space beside calls and the frame of a call
(marks, braces, keys) are the only text that is in no part.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from tokenizer_svc.parts import Arguments, CallPart, Content, Ended, Started, joined
from tokenizer_svc.tools.bodies import open_call
from tokenizer_svc.tools.call_body import CallBody, Functions, Step
from tokenizer_svc.tools.formats import SPACE, Syntax


class _At(enum.Enum):
    GAP = enum.auto()  # at the start or after a call: only blank space, separators and marks so far
    TEXT = enum.auto()
    MARKER = enum.auto()  # in the midst of text
    CALL = enum.auto()  # in what has not started a call
    ARGUMENTS = enum.auto()  # in what has
    FRAME = enum.auto()  # after the arguments of a call, before its end


class ToolStream:
    """The parts of one answer."""

    def __init__(self, syntax: Syntax, functions: Functions, *, only_calls: bool = False) -> None:
        """``functions``: those that may be called.

        ``only_calls``: a grammar sees to it that the text is nothing else, so that what could become a call at its
        end was one that was cut, and no content.
        """
        self._syntax = syntax
        self._functions = functions
        self._only_calls = only_calls
        self._at = _At.GAP
        self._held: list[str] = []  # characters in no part yet, oldest first
        self._word = ""  # the last of them: a mark that has begun
        self._is_next = False  # a separator was there: whatever follows should be a call
        self._in_run = False  # of calls that no mark has ended
        self._body: CallBody = open_call(syntax.shape, functions)
        self._calls = 0
        self._parts: list[CallPart] = []

    @property
    def held(self) -> int:
        """Characters that may yet become a call, or content."""
        return len(self._held)

    def push(self, text: str) -> list[CallPart]:
        """The parts of the next piece of text."""
        position = 0
        while position < len(text):
            if self._at is _At.TEXT:  # most text is no call: to the next possible marker at once
                start, position = position, text.find(self._syntax.marker[0], position)
                position = len(text) if position < 0 else position
                self._content(text[start:position])
                self._at = _At.TEXT if position == len(text) else _At.MARKER
            elif self._at is _At.ARGUMENTS:
                position = self._in_arguments(text, position)
            elif self._take(text[position]):
                position += 1
            elif self._held:  # read again as something else
                text, position = self._release() + text[position:], 0
        parts, self._parts = self._parts, []
        return joined(parts)

    def finish(self) -> list[CallPart]:
        """The last parts, when no more text will come."""
        held = self._release()
        match self._at:
            case _At.ARGUMENTS:
                self._parts.append(Ended(self._calls - 1, is_complete=False))
            case _ if self._only_calls:
                pass
            case _At.MARKER | _At.CALL:
                self._content(held)
            case _At.GAP if self._calls == 0:
                self._content(held)
            case _:
                pass
        self._at = _At.TEXT
        parts, self._parts = self._parts, []
        return joined(parts)

    def _take(self, char: str) -> bool:
        """One character; False to read it again, after what is held."""
        match self._at:
            case _At.GAP:
                return self._in_gap(char)
            case _At.MARKER:
                return self._in_mark(char, self._syntax.markers)
            case _At.CALL:
                return self._before_arguments(char)
            case _At.FRAME:
                return self._after_arguments(char)
            case _At.TEXT | _At.ARGUMENTS:
                raise AssertionError("runs are taken as such")

    # --- between calls

    def _in_gap(self, char: str) -> bool:
        syntax = self._syntax
        marks = syntax.markers + (syntax.tails if self._calls else ())
        if self._in_run and syntax.again:
            marks += (syntax.again,)
        if self._word or any(mark.startswith(char) for mark in marks):
            return self._in_mark(char, marks)
        if char in SPACE:
            self._held.append(char)
            return True
        if self._in_run and not self._is_next and char in syntax.separators:
            self._held.append(char)
            self._is_next = True
            return True
        if self._is_next or char in syntax.bare:
            self._open()
            return self._before_arguments(char)
        return self._no_call()

    def _in_mark(self, char: str, marks: tuple[str, ...]) -> bool:
        word = self._word + char
        if not any(mark.startswith(word) for mark in marks):
            return self._no_call()
        self._held.append(char)
        self._word = word
        if word in marks:
            self._word = ""
            if word in self._syntax.tails:
                self._held.clear()
                self._is_next = self._in_run = False
            else:
                self._open()
        return True

    # --- in a call

    def _open(self) -> None:
        self._at, self._is_next = _At.CALL, False
        self._body = open_call(self._syntax.shape, self._functions)

    def _before_arguments(self, char: str) -> bool:
        body = self._body
        step = body.feed(char)
        if step is Step.REFUSED:
            return self._no_call()
        self._held.append(char)
        if body.name is None or not (written := body.written()):
            return True
        self._parts += (Started(self._calls, body.name), Arguments(self._calls, written))
        self._calls += 1
        self._in_run = True
        self._held.clear()
        self._at = _At.ARGUMENTS
        if body.has_arguments:
            self._complete(step)
        return True

    def _in_arguments(self, text: str, start: int) -> int:
        """A run of arguments, to their end or that of the text; the position after it."""
        body, position, step = self._body, start, Step.TAKEN
        while position < len(text) and step is Step.TAKEN and not body.has_arguments:
            step = body.feed(text[position])
            position += step is not Step.REFUSED
        if written := body.written():
            self._parts.append(Arguments(self._calls - 1, written))
        if step is Step.REFUSED:
            self._parts.append(Ended(self._calls - 1, is_complete=False))
            self._at = _At.GAP
        elif body.has_arguments:
            self._complete(step)
        return position

    def _complete(self, step: Step) -> None:
        self._parts.append(Ended(self._calls - 1, is_complete=True))
        self._at = _At.FRAME if step is Step.TAKEN else _At.GAP
        self._in_run = step is not Step.LAST

    def _after_arguments(self, char: str) -> bool:
        """To the end of the call, held back in case that it is none."""
        step = self._body.feed(char)
        if step is not Step.TAKEN:
            self._at = _At.GAP
        if step in (Step.END, Step.LAST):
            self._held.clear()
        elif step is Step.TAKEN:
            self._held.append(char)
        return step is not Step.REFUSED

    # --- what is held

    def _no_call(self) -> bool:
        """What is held is content, and the next character is read as plain text."""
        self._content(self._release())
        self._at = _At.TEXT
        self._in_run = False
        return False

    def _release(self) -> str:
        held = "".join(self._held)
        self._held.clear()
        self._word = ""
        self._is_next = False
        return held

    def _content(self, text: str) -> None:
        if text:
            self._parts.append(Content(text))


class CallsOrText:
    """The parts of an answer that a grammar makes either calls and nothing else, or a text in which nothing is a call.

    Its beginning tells which. Held back is only what may still become one of the openings.
    """

    def __init__(self, calls: ToolStream, openings: Sequence[str]) -> None:
        """``openings``: all that calls may begin with."""
        self._calls = calls
        self._openings = openings
        self._held = ""
        self._is_text: bool | None = None  # None: not known yet

    @property
    def held(self) -> int:
        """Characters that may yet become a call, or content."""
        return len(self._held) + self._calls.held

    def push(self, text: str) -> list[CallPart]:
        """The parts of the next piece of text."""
        if self._is_text is None:
            text, self._held = self._held + text, ""
            if text.startswith(tuple(self._openings)):
                self._is_text = False
            elif any(opening.startswith(text) for opening in self._openings):
                self._held = text
                return []
            else:
                self._is_text = True
        if self._is_text:
            return [Content(text)] if text else []
        return self._calls.push(text)

    def finish(self) -> list[CallPart]:
        """The last parts, when no more text will come."""
        held, self._held = self._held, ""
        if held:
            return [Content(held)]
        return [] if self._is_text else self._calls.finish()
