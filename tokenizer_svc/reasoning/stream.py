"""Reasoning in a text that arrives in pieces, told apart from what follows it.

A pure fold over characters: the parts do not depend on how the text was cut. Held back is only what may still become a
mark, and blank space before one; a text that does not begin as the opening mark does is content from its first
character on. Marks and the blank space beside them are in no part, everything else is.
"""

from __future__ import annotations

import enum

from tokenizer_svc.parts import Content, Reasoning
from tokenizer_svc.reasoning.formats import SPACE, Marks, Opening


class _At(enum.Enum):
    OPENER = enum.auto()  # only blank space and the beginning of the opening mark so far
    REASONING = enum.auto()
    GAP = enum.auto()  # blank space after the closing mark
    CONTENT = enum.auto()


_STARTS = {Opening.BEFORE: _At.OPENER, Opening.WITHIN: _At.REASONING, Opening.AFTER: _At.CONTENT}


class ReasoningStream:
    """The parts of one answer."""

    def __init__(self, marks: Marks, opening: Opening) -> None:
        self._marks = marks
        self._at = _STARTS[opening]
        self._held = ""
        self._is_blank = True  # no reasoning but blank space so far
        self.has_reasoning = opening is Opening.WITHIN

    @property
    def is_over(self) -> bool:
        """Whether no more reasoning will come."""
        return self._at in (_At.GAP, _At.CONTENT)

    @property
    def held(self) -> int:
        """Characters that may yet become reasoning, or content."""
        return len(self._held)

    def push(self, text: str) -> list[Reasoning | Content]:
        """The parts of the next piece of text."""
        parts: list[Reasoning | Content] = []
        rest = self._opener(text, parts) if self._at is _At.OPENER else text
        if self._at is _At.REASONING:
            rest = self._reasoning(rest, parts)
        if self._at is _At.GAP and (rest := rest.lstrip(SPACE)):
            self._at = _At.CONTENT
        if self._at is _At.CONTENT and rest:
            parts.append(Content(rest))
        return parts

    def finish(self) -> list[Reasoning | Content]:
        """The last part, when no more text will come: what looked like the beginning of a mark was none."""
        held, self._held = self._held, ""
        if not self.has_reasoning:
            return [Content(held)] if held else []
        parts: list[Reasoning | Content] = []
        self._reason(held, parts)
        return parts

    def _opener(self, text: str, parts: list[Reasoning | Content]) -> str:
        """Look for the opening mark; returns the text after it."""
        whole, self._held = self._held + text, ""
        begun = whole.lstrip(SPACE)
        opener = self._marks.opener
        if begun.startswith(opener):
            self._at, self.has_reasoning = _At.REASONING, True
            return begun[len(opener) :]
        if opener.startswith(begun):
            self._held = whole
            return ""
        self._at = _At.CONTENT
        parts.append(Content(whole))
        return ""

    def _reasoning(self, text: str, parts: list[Reasoning | Content]) -> str:
        """Look for the closing mark; returns the text after it."""
        whole, closer = self._held + text, self._marks.closer
        end = whole.find(closer)
        if end < 0:
            certain = self._certain(whole)
            self._reason(whole[:certain], parts)
            self._held = whole[certain:]
            return ""
        self._reason(whole[:end].rstrip(SPACE), parts)
        self._at, self._held = _At.GAP, ""
        return whole[end + len(closer) :]

    def _reason(self, text: str, parts: list[Reasoning | Content]) -> None:
        if self._is_blank:
            text = text.lstrip(SPACE)
        if text:
            self._is_blank = False
            parts.append(Reasoning(text))

    def _certain(self, text: str) -> int:
        """How much of the text is reasoning, whatever follows."""
        closer = self._marks.closer
        start = text.rfind(closer[0], max(0, len(text) - len(closer) + 1))
        certain = start if start >= 0 and closer.startswith(text[start:]) else len(text)
        return len(text[:certain].rstrip(SPACE))
