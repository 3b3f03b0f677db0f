"""The text of an answer, read into parts: reasoning first, calls of tools and content in what follows it.

What every API for conversations shares: each gives the parts a shape of its own. Knows nothing of these shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from shared.protocol import Finish
from tokenizer_svc.answers import Answer, Choice, Piece
from tokenizer_svc.draft import Display
from tokenizer_svc.engine import Engine
from tokenizer_svc.grammar.spec import Reasoned
from tokenizer_svc.parts import CallPart, Content, Ended, Part, Reasoning, Reply, reply_of
from tokenizer_svc.reasoning.count import ReasoningCount
from tokenizer_svc.reasoning.formats import Marks, Opening, opening_of
from tokenizer_svc.reasoning.stream import ReasoningStream
from tokenizer_svc.reasoning.wish import ReasoningWish
from tokenizer_svc.structure import Structure
from tokenizer_svc.tools.formats import SYNTAX, Syntax
from tokenizer_svc.tools.grammar import format_of, stream_of
from tokenizer_svc.tools.stream import CallsOrText, ToolStream
from tokenizer_svc.tools.toolbox import Toolbox

_EVERYTHING = ReasoningWish()
_TAIL = 32  # tokens of a prompt, more than a mark and the blank space after it ever take


class HowRead(NamedTuple):
    """How the answers to one request are read: all of it follows from the request and the settings."""

    engine: Engine
    toolbox: Toolbox | None
    marks: Marks | None  # of reasoning; None: none is told apart
    wish: ReasoningWish

    @property
    def syntax(self) -> Syntax | None:
        """How calls stand in the text; None where there are none."""
        return None if self.toolbox is None else SYNTAX[format_of(self.engine.tool_format, self.toolbox)]

    def opening(self, prompt: Sequence[int]) -> Opening:
        """Where an answer is that follows these token ids, or the last few of them."""
        if self.marks is None:
            return Opening.AFTER
        tail = self.engine.tokenizer.decode(prompt[-_TAIL:], skip_special_tokens=False)
        return opening_of(tail, self.marks)

    def obeyed(self, structure: Structure | None, prompt: Sequence[int]) -> Structure | None:
        """A grammar as the answer to a prompt is to obey it: where there is reasoning to tell apart, after that."""
        if structure is None or self.marks is None or (opening := self.opening(prompt)) is Opening.AFTER:
            return structure
        opener = self.marks.opener if opening is Opening.BEFORE else ""
        return structure.following(Reasoned(self.marks.closer, opener))

    def shown(self, display: Display) -> Display:
        """With special tokens, where a mark that is looked for is one."""
        marks = list(self.marks or ())
        if (syntax := self.syntax) is not None:
            marks += syntax.marks
        hidden = any(self.engine.tokenizer.hides(mark) for mark in marks if mark)
        return display._replace(skip_special_tokens=False) if hidden else display


def how_read(engine: Engine, toolbox: Toolbox | None, wish: ReasoningWish = _EVERYTHING) -> HowRead:
    """How the answers to a request are read. ``toolbox``: None where no call may be in them."""
    return HowRead(engine, toolbox, engine.reasoning if wish.is_separate else None, wish)


class AnswerReader:
    """The parts of all choices of one answer. A fold: it is told every piece in order, or a whole text."""

    def __init__(self, answer: Answer, how: HowRead) -> None:
        self._choices = [_ChoiceReader(choice, how) for choice in answer.choices]

    @property
    def reasoning_tokens(self) -> int:
        """Of all choices so far; 0 where no reasoning is told apart."""
        return sum(choice.count.tokens for choice in self._choices if choice.count is not None)

    def push(self, choice: Choice, text: str, tokens: Sequence[int], finish: Finish) -> list[Part]:
        """The parts of a choice's next piece; with the last one all that is left."""
        return self._choices[choice.index].push(text, tokens, is_last=finish is not Finish.NONE)

    def held(self, choice: Choice) -> int:
        """How many characters of a choice's text so far are in no part yet, but may come to be."""
        return self._choices[choice.index].held

    def whole(self, choice: Choice, text: str, tokens: Sequence[int]) -> Reply:
        """A whole text."""
        return reply_of(self._choices[choice.index].push(text, tokens, is_last=True))

    def finish_reason(self, choice: Choice) -> str | None:
        """``tool_calls`` after complete calls, ``length`` where one was cut; None where calls do not decide it.

        A stop after complete calls is a wish to have them made; one within a call has cut it, whatever the cause.
        """
        endings = self._choices[choice.index].endings
        if choice.finish is not Finish.STOP or not endings:
            return None
        return "tool_calls" if all(endings) else "length"


class Cut(NamedTuple):
    """A part of a piece."""

    text: str
    tokens: Sequence[int]
    finish: Finish


def cut(piece: Piece, texts: Sequence[str]) -> Iterator[Cut]:
    """A piece as if it had come as several, of these texts: its tokens with the first, its finish with the last."""
    for index, text in enumerate(texts):
        is_last = index == len(texts) - 1
        yield Cut(text, () if index else piece.tokens, piece.finish if is_last else Finish.NONE)


def call_id(choice: Choice, call: int) -> str:
    """The id of a choice's call: unique without being drawn, and the same in every process."""
    return f"call_{choice.id:016x}_{call}"


class _ChoiceReader:
    def __init__(self, choice: Choice, how: HowRead) -> None:
        self.count: ReasoningCount | None = None
        self.endings: list[bool] = []  # by call: is it complete
        self._wish = how.wish
        self._reasoning: ReasoningStream | None = None
        self._kept: list[Reasoning] = []  # until it is over
        self._tools: ToolStream | CallsOrText | None = None
        if how.marks is not None:
            opening = how.opening(choice.context)
            self._reasoning = ReasoningStream(how.marks, opening)
            text = how.engine.tokenizer.stream(choice.context, skip_special_tokens=False)
            self.count = ReasoningCount(text, ReasoningStream(how.marks, opening))
        if how.toolbox is not None:
            self._tools = stream_of(how.engine.tool_format, how.toolbox)

    def push(self, text: str, tokens: Sequence[int], *, is_last: bool) -> list[Part]:
        """The parts of the next piece."""
        if self.count is not None:
            self.count.push(tokens)
        parts: list[Part] = []
        for part in self._split(text, is_last=is_last):
            match part:
                case Reasoning():
                    parts += self._wished(part)
                case Content(text):
                    parts += self._calls(text)
        if self._kept and (is_last or parts):
            parts.insert(0, Reasoning("".join(part.text for part in self._kept)))
            self._kept.clear()
        if is_last and self._tools is not None:
            parts += self._noted(self._tools.finish())
        return parts

    @property
    def held(self) -> int:
        streams = (self._reasoning, self._tools)
        return sum(stream.held for stream in streams if stream is not None)

    def _split(self, text: str, *, is_last: bool) -> list[Reasoning | Content]:
        if self._reasoning is None:
            return [Content(text)] if text else []
        return self._reasoning.push(text) + (self._reasoning.finish() if is_last else [])

    def _wished(self, part: Reasoning) -> list[Reasoning]:
        if self._wish.is_included and not self._wish.is_streamed:
            self._kept.append(part)
        return [part] if self._wish.is_included and self._wish.is_streamed else []

    def _calls(self, text: str) -> Sequence[CallPart]:
        return [Content(text)] if self._tools is None else self._noted(self._tools.push(text))

    def _noted(self, parts: Sequence[CallPart]) -> Sequence[CallPart]:
        self.endings += (part.is_complete for part in parts if isinstance(part, Ended))
        return parts
