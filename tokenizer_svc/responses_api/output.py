"""The output of a response as it grows: parts of a reply in, events and items out.

A pure fold. The order of events is OpenAI's: an item is added, its parts are added, filled and done, the item is done.
Knows nothing of bytes or of the response around it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any

from tokenizer_svc.parts import Arguments, Content, Ended, Part, Reasoning, Started
from tokenizer_svc.responses_api.opaque import opaque
from tokenizer_svc.responses_api.shapes import (
    FunctionCall,
    OutputItem,
    OutputMessage,
    OutputText,
    ReasoningItem,
    ReasoningText,
    ResponseEvent,
    SummaryText,
    TextLogprob,
)

Tell = Callable[..., ResponseEvent]
"""Makes an event of a type: counts them."""

_IN_PROGRESS, _COMPLETED, _INCOMPLETE = "in_progress", "completed", "incomplete"


class _Kind(enum.Enum):
    MESSAGE = "msg"
    CALL = "fc"
    REASONING = "rs"


class _Open:
    """The item that is being said."""

    def __init__(self, kind: _Kind, id: str, call_id: str = "", name: str = "") -> None:
        self.kind = kind
        self.id = id
        self.call_id = call_id
        self.name = name
        self.said: list[str] = []
        self.logprobs: list[TextLogprob] = []


class Output:
    """The items of one response."""

    def __init__(
        self,
        id: str,
        tell: Tell,
        call_id: Callable[[int], str],
        *,
        summarises: bool = False,
        encrypts: bool = False,
    ) -> None:
        """``id``: what makes the ids of items unique. ``summarises``: reasoning is told as its summary.

        ``encrypts``: and as a token, too.
        """
        self._id = id
        self._tell = tell
        self._call_id = call_id
        self._summarises = summarises
        self._encrypts = encrypts
        self._done: list[OutputItem] = []
        self._open: _Open | None = None
        self._scored: list[TextLogprob] = []  # of the content at hand

    @property
    def items(self) -> Sequence[OutputItem]:
        """All items, the open one as far as it is there."""
        return [*self._done, self._item(self._open, _IN_PROGRESS)] if self._open else self._done

    def push(self, parts: Sequence[Part], logprobs: Sequence[TextLogprob] = ()) -> list[ResponseEvent]:
        """The events of the next parts. ``logprobs``: of the tokens that their content is made of."""
        self._scored += logprobs
        return [event for part in parts for event in self._take(part)]

    def finish(self, *, is_cut: bool, logprobs: Sequence[TextLogprob] = ()) -> list[ResponseEvent]:
        """The last events. ``is_cut``: there would have been more. ``logprobs``: of tokens without any text.

        A response without a word has an empty message.
        """
        opening = [] if self._open or self._done else self._begin(_Kind.MESSAGE)
        if self._open is not None and self._open.kind is _Kind.MESSAGE:
            self._open.logprobs += logprobs
        return [*opening, *self._end(_INCOMPLETE if is_cut else _COMPLETED)]

    def _take(self, part: Part) -> list[ResponseEvent]:
        match part:
            case Started(call, name):
                return self._begin(_Kind.CALL, self._call_id(call), name)
            case Arguments(_, text):
                return [self._more(text, "response.function_call_arguments.delta")]
            case Ended(_, is_complete):
                return self._end(_COMPLETED if is_complete else _INCOMPLETE)
            case Content(text):
                return [*self._in(_Kind.MESSAGE), self._words(text)]
            case Reasoning(text):
                kind = "response.reasoning_summary_text.delta" if self._summarises else "response.reasoning_text.delta"
                return [*self._in(_Kind.REASONING), self._more(text, kind, **self._place(_Kind.REASONING))]

    def _in(self, kind: _Kind) -> list[ResponseEvent]:
        """Begin an item unless there is one of the kind."""
        return [] if self._open is not None and self._open.kind is kind else self._begin(kind)

    def _words(self, text: str) -> ResponseEvent:
        assert self._open is not None
        scored, self._scored = self._scored, []
        self._open.logprobs += scored
        place = self._place(_Kind.MESSAGE)
        return self._more(text, "response.output_text.delta", **place, logprobs=scored)

    def _more(self, text: str, kind: str, **fields: Any) -> ResponseEvent:
        assert self._open is not None
        self._open.said.append(text)
        return self._tell(kind, item_id=self._open.id, output_index=len(self._done), delta=text, **fields)

    def _begin(self, kind: _Kind, call_id: str = "", name: str = "") -> list[ResponseEvent]:
        ended = self._end(_COMPLETED)
        index = len(self._done)
        self._open = _Open(kind, f"{kind.value}_{self._id}{index:04x}", call_id, name)
        added = self._tell("response.output_item.added", output_index=index, item=self._added(self._open))
        return [*ended, added, *self._part("added", self._open, "")]

    def _end(self, status: str) -> list[ResponseEvent]:
        if (item := self._open) is None:
            return []
        text, index = "".join(item.said), len(self._done)
        done = self._item(item, status)
        place: dict[str, Any] = {"item_id": item.id, "output_index": index, **self._place(item.kind)}
        match item.kind:
            case _Kind.MESSAGE:
                told = self._tell("response.output_text.done", **place, text=text, logprobs=item.logprobs)
            case _Kind.CALL:
                told = self._tell("response.function_call_arguments.done", **place, name=item.name, arguments=text)
            case _Kind.REASONING:
                kind = "response.reasoning_summary_text.done" if self._summarises else "response.reasoning_text.done"
                told = self._tell(kind, **place, text=text)
        events = [told, *self._part("done", item, text)]
        events.append(self._tell("response.output_item.done", output_index=index, item=done))
        self._done.append(done)
        self._open = None
        return events

    def _place(self, kind: _Kind) -> dict[str, int]:
        """Where in its item a text is: items have one of them."""
        if kind is _Kind.CALL:
            return {}
        return {"summary_index": 0} if kind is _Kind.REASONING and self._summarises else {"content_index": 0}

    def _part(self, what: str, item: _Open, text: str) -> list[ResponseEvent]:
        """That the one part of an item is added or done."""
        place: dict[str, Any] = {"item_id": item.id, "output_index": len(self._done), **self._place(item.kind)}
        match item.kind:
            case _Kind.CALL:
                return []
            case _Kind.MESSAGE:
                logprobs = item.logprobs if what == "done" else []
                return [self._tell(f"response.content_part.{what}", **place, part=OutputText(text, logprobs=logprobs))]
            case _Kind.REASONING if self._summarises:
                return [self._tell(f"response.reasoning_summary_part.{what}", **place, part=SummaryText(text))]
            case _Kind.REASONING:
                return [self._tell(f"response.content_part.{what}", **place, part=ReasoningText(text))]

    def _added(self, item: _Open) -> OutputItem:
        """An item before anything is in it."""
        match item.kind:
            case _Kind.MESSAGE:
                return OutputMessage(item.id, _IN_PROGRESS, ())
            case _Kind.CALL:
                return FunctionCall(item.id, _IN_PROGRESS, item.call_id, item.name, "")
            case _Kind.REASONING:
                return ReasoningItem(item.id, _IN_PROGRESS, (), ())

    def _item(self, item: _Open, status: str) -> OutputItem:
        text = "".join(item.said)
        match item.kind:
            case _Kind.MESSAGE:
                return OutputMessage(item.id, status, (OutputText(text, logprobs=tuple(item.logprobs)),))
            case _Kind.CALL:
                return FunctionCall(item.id, status, item.call_id, item.name, text)
            case _Kind.REASONING:
                token = opaque(text) if self._encrypts and status != _IN_PROGRESS else None
                if self._summarises:
                    return ReasoningItem(item.id, status, (SummaryText(text),), (), token)
                return ReasoningItem(item.id, status, (), (ReasoningText(text),), token)
