"""The values of a template's generated parts, cut out of its text as it comes."""

from __future__ import annotations

from collections.abc import Sequence

from shared.grammar import START, Segments, Tables, tables


class Values:
    """A fold over the text of one answer."""

    def __init__(self, segments: Segments, names: Sequence[str], start: int) -> None:
        """``names`` of the generated parts, the first of which begins after ``start`` bytes."""
        self._segments = segments
        self._names = names
        self._text = bytearray()
        self._complete: dict[str, str] = {}
        self._part = -1
        self._enter(start)

    def push(self, text: str) -> None:
        """Take the next piece of text."""
        self._text += text.encode()
        while self._alone is not None:
            mark = self._segments.marks[self._part]
            if len(self._text) - self._at < max(1, len(mark)):
                return
            if mark and self._alone.accepting[self._state] and self._text.startswith(mark, self._at):
                self._complete[self._names[self._part]] = self._value(self._at)
                self._enter(self._at + len(self._segments.following[self._part]))
                continue
            byte = self._text[self._at]
            self._state = int(self._alone.transitions[self._state, self._alone.classes[byte]])
            self._at += 1

    def finish(self) -> dict[str, str]:
        """All values when no more text will come; a part that was cut short has what there is of it."""
        if self._alone is not None and self._start <= len(self._text):
            return self._complete | {self._names[self._part]: self._value(len(self._text))}
        return dict(self._complete)

    @property
    def complete(self) -> dict[str, str]:
        """The values that have ended."""
        return dict(self._complete)

    def _enter(self, start: int) -> None:
        """The next part begins at a byte of the text, which may be still to come."""
        self._part += 1
        self._start = self._at = start
        self._state = START
        is_over = self._part == len(self._names)
        self._alone: Tables | None = None if is_over else tables(self._segments.parts[self._part])

    def _value(self, end: int) -> str:
        return self._text[self._start : end].decode("utf-8", "replace")
