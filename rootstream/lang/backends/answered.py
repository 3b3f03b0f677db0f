"""Answers of OpenAI's API, chats and completions, whole and in pieces, as results. Knows no connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from rootstream.lang.backends.asked import CHOICE
from rootstream.lang.backends.events import EventReader, TooLong
from rootstream.lang.backends.refusals import of_error
from rootstream.lang.backends.retrying import Passing
from rootstream.lang.backends.wire import UsageObject
from rootstream.lang.calls import CallError, OnPiece, Result
from rootstream.lang.parts import Gen


class ToolCallPiece(msgspec.Struct):
    """A call of a tool, or a piece of one."""

    index: int = 0
    id: str | None = None
    function: dict[str, Any] = {}


class Said(msgspec.Struct):
    """A message, or a piece of one. Reasoning has two names: DeepSeek's, and vLLM's later one."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallPiece] | None = None


class Choice(msgspec.Struct):
    """One text of a completion or chat, or a piece of one."""

    index: int = 0
    text: str | None = None
    message: Said | None = None
    delta: Said | None = None
    finish_reason: str | None = None
    matched_stop: str | int | None = None
    stop_reason: str | int | None = None
    logprobs: Any = None


class Document(msgspec.Struct):
    """A whole answer, or a chunk of a streamed one."""

    choices: list[Choice] = []
    usage: UsageObject | None = None
    error: Any = None
    prompt_logprobs: list[dict[str, Any] | None] | None = None


decode = msgspec.json.Decoder(Document).decode


class Text:
    """One of n texts, as far as it has come."""

    def __init__(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[int, dict[str, Any]] = {}
        self.logprobs: list[Any] = []
        self.finish_reason: str | None = None
        self.matched_stop: str | int | None = None

    def add(self, choice: Choice) -> str:
        """The text that it brings."""
        said = choice.message or choice.delta or Said(content=choice.text)
        text = said.content or said.refusal or ""
        self.content.append(text)
        self.reasoning.append(said.reasoning_content or said.reasoning or "")
        for call in said.tool_calls or ():
            self._add_call(call)
        if choice.logprobs:
            self.logprobs += _entries(choice.logprobs)
        self.finish_reason = choice.finish_reason or self.finish_reason
        stop = choice.matched_stop if choice.matched_stop is not None else choice.stop_reason
        self.matched_stop = stop if stop is not None else self.matched_stop
        return text

    def _add_call(self, piece: ToolCallPiece) -> None:
        # Whole calls of some servers have no index: they follow one another.
        at = piece.index
        if piece.id is not None and at in self.calls and self.calls[at]["id"] != piece.id:
            at = len(self.calls)
        call = self.calls.setdefault(
            at, {"id": piece.id, "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] = piece.id or call["id"]
        for field in ("name", "arguments"):
            call["function"][field] += piece.function.get(field) or ""


class Answer:
    """The texts of one request, and what it took."""

    def __init__(self) -> None:
        self.texts: dict[int, Text] = {}
        self.usage = UsageObject()

    def add(self, document: Document) -> str:
        """The piece of the first text that it brings. Raises CallError for an error."""
        if document.error is not None:
            raise of_error(document.error, None)
        piece = ""
        for choice in document.choices:
            text = self.texts.setdefault(choice.index, Text()).add(choice)
            if choice.index == 0:
                piece += text
        self.usage = document.usage or self.usage
        return piece

    @property
    def is_whole(self) -> bool:
        return bool(self.texts) and all(text.finish_reason is not None for text in self.texts.values())

    def result(self, gen: Gen, part: int, *, wrapped: bool) -> Result:
        """``wrapped``: a choice was asked for as JSON. Raises CallError where there is none."""
        texts = [self.texts[index] for index in sorted(self.texts)]
        if not texts:
            raise CallError(f"{gen.name!r}: the server answers without a choice")
        said = ["".join(text.content) for text in texts]
        if wrapped:
            said = [_unwrapped(text, gen) for text in said]
        first = texts[0]
        return Result(
            name=gen.name,
            text=said[0],
            part=part,
            texts=tuple(said) if gen.n > 1 else (),
            finish_reason=first.finish_reason or "stop",
            matched_stop=first.matched_stop,
            completion_tokens=self.usage.completion_tokens,
            reasoning_content="".join(first.reasoning) or None,
            tool_calls=tuple(first.calls[at] for at in sorted(first.calls)),
            logprobs={"content": first.logprobs} if first.logprobs else None,
        )


def _unwrapped(text: str, gen: Gen) -> str:
    try:
        chosen = msgspec.json.decode(text)[CHOICE]
    except (msgspec.DecodeError, LookupError, TypeError):
        chosen = None
    if chosen not in gen.choices:
        raise CallError(f"{gen.name!r}: the server was asked for one of {list(gen.choices)} and answers {text[:200]!r}")
    return chosen


def _entries(logprobs: Any) -> Sequence[Any]:
    """Of a chat as they are; of a completion in a chat's shape."""
    if not isinstance(logprobs, dict):
        return ()
    if logprobs.get("content") is not None:
        return logprobs["content"]
    tokens: list[str] = logprobs.get("tokens") or []
    values: list[float | None] = logprobs.get("token_logprobs") or []
    tops: list[dict[str, float] | None] = logprobs.get("top_logprobs") or [None] * len(tokens)
    return [
        {
            "token": token,
            "logprob": value,
            "top_logprobs": [{"token": name, "logprob": of} for name, of in (top or {}).items()],
        }
        for token, value, top in zip(tokens, values, tops, strict=False)
    ]


class StreamReader:
    """An answer in pieces, told as they come. One that broke after something was told is not asked for again: a model
    need not say the same twice.
    """

    def __init__(self, part: int, on_piece: OnPiece | None) -> None:
        self._part = part
        self._on_piece = on_piece
        self._events = EventReader()
        self._told = False
        self.answer = Answer()

    def begin(self) -> StreamReader:
        self._events, self.answer = EventReader(), Answer()
        return self

    @property
    def may_repeat(self) -> bool:
        return not self._told

    def push(self, chunk: bytes) -> None:
        try:
            for data in self._events.push(chunk):
                if data != b"[DONE]":
                    self._tell(self.answer.add(decode(data)))
        except (msgspec.MsgspecError, TooLong) as error:
            raise CallError(f"the server's stream is not understood: {error}", 200) from error

    def end(self) -> None:
        if not self.answer.is_whole:
            raise Passing("the server's stream ended before the answer was whole", code="connection")

    def _tell(self, piece: str) -> None:
        if piece and self._on_piece is not None:
            self._told = True
            self._on_piece(self._part, piece)
