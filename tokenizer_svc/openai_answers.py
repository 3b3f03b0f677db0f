"""Answers of OpenAI's API: whole objects, and the chunks of a stream in OpenAI's order.

A stream of a chat is: a chunk with the role for every choice, chunks of text, a chunk with finish_reason
for every choice, a chunk with usage and no choices if asked for, ``[DONE]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from shared.protocol import Finish, Scores
from tokenizer_svc.answers import Answer, Choice, Piece
from tokenizer_svc.api_error import ApiError, error_event
from tokenizer_svc.parts import Arguments, Content, Ended, Part, Reasoning, Started
from tokenizer_svc.reading import AnswerReader
from tokenizer_svc.sse import DONE, event
from tokenizer_svc.tools.answers import ToolCall, ToolCallDelta, call_delta, tool_calls

FINISH_REASONS = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.ABORT: "abort"}


class PromptTokensDetails(Struct, frozen=True):
    """Where prompt tokens came from."""

    cached_tokens: int


class CompletionTokensDetails(Struct, frozen=True):
    """How generated tokens came about."""

    forced_tokens: int  # a grammar left no choice about them
    reasoning_tokens: int = 0


class Usage(Struct, frozen=True):
    """Tokens of one HTTP request; a prompt with several choices counts once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


def usage_of(answer: Answer, reasoning_tokens: int = 0) -> Usage:
    first = {choice.prompt: choice for choice in reversed(answer.choices)}.values()
    prompt = sum(choice.prompt_tokens for choice in first)
    completion = sum(choice.completion_tokens for choice in answer.choices)
    cached = sum(choice.cached_tokens for choice in first)
    forced = sum(choice.forced_tokens for choice in answer.choices)
    details = PromptTokensDetails(cached), CompletionTokensDetails(forced, reasoning_tokens)
    return Usage(prompt, completion, prompt + completion, *details)


class Delta(Struct, frozen=True, omit_defaults=True):
    """What a chunk adds to a message."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: Sequence[ToolCallDelta] | None = None


class ChunkChoice(Struct, frozen=True):
    """One choice in a chunk of a chat."""

    index: int
    delta: Delta
    logprobs: None = None
    finish_reason: str | None = None


class ReplyMessage(Struct, frozen=True):
    """The whole message of a choice."""

    role: str
    content: str | None
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: Sequence[ToolCall] | UnsetType = UNSET


class ChatChoice(Struct, frozen=True):
    """One choice of a chat."""

    index: int
    message: ReplyMessage
    logprobs: None
    finish_reason: str | None


class TextChoice(Struct, frozen=True):
    """One choice of a completion, whole or in a chunk."""

    index: int
    text: str
    logprobs: None = None
    finish_reason: str | None = None


class Body(Struct, frozen=True):
    """A whole answer or a chunk: both APIs, both ways."""

    id: str
    object: str
    created: int
    model: str
    choices: Sequence[Any]
    usage: Usage | UnsetType | None = UNSET


_encode = msgspec.json.Encoder().encode


class _Answers:
    """What chats and completions have in common."""

    prefix: str
    chunk_object: str
    whole_object: str

    def __init__(self, answer: Answer, model: str, created: int, *, include_usage: bool) -> None:
        self._answer = answer
        self._id = f"{self.prefix}{answer.id:016x}"
        self._model = model
        self._created = created
        self._include_usage = include_usage
        self._chunk_usage = None if include_usage else UNSET

    @property
    def _reasoning_tokens(self) -> int:
        """Of all choices so far."""
        return 0

    def closing(self) -> bytes:
        """The end of a stream that went well."""
        if not self._include_usage:
            return DONE
        body = Body(
            self._id, self.chunk_object, self._created, self._model, (), usage_of(self._answer, self._reasoning_tokens)
        )
        return event(_encode(body)) + DONE

    def failing(self, error: ApiError) -> bytes:
        """The end of a stream that went wrong."""
        return error_event(error)

    def _chunk(self, choice: ChunkChoice | TextChoice) -> bytes:
        body = Body(self._id, self.chunk_object, self._created, self._model, (choice,), self._chunk_usage)
        return event(_encode(body))

    def _whole(self, choices: Sequence[ChatChoice | TextChoice]) -> bytes:
        return _encode(
            Body(
                self._id,
                self.whole_object,
                self._created,
                self._model,
                choices,
                usage_of(self._answer, self._reasoning_tokens),
            )
        )


class ChatAnswers(_Answers):
    """Answers of /v1/chat/completions."""

    prefix = "chatcmpl-"
    chunk_object = "chat.completion.chunk"
    whole_object = "chat.completion"

    def __init__(self, answer: Answer, reader: AnswerReader, model: str, created: int, *, include_usage: bool) -> None:
        super().__init__(answer, model, created, include_usage=include_usage)
        self._reader = reader

    @property
    def _reasoning_tokens(self) -> int:
        return self._reader.reasoning_tokens

    def opening(self) -> bytes:
        """The first chunks of a stream: the role of every choice."""
        role = Delta(role="assistant", content="")
        return b"".join(self._chunk(ChunkChoice(choice.index, role)) for choice in self._answer.choices)

    def piece(self, piece: Piece) -> bytes:
        """The chunks for one piece: none where it has no text yet."""
        choice = piece.choice
        parts = self._reader.push(choice, piece.text, piece.tokens, piece.finish)
        deltas = [delta for part in parts if (delta := _delta(choice, part)) is not None]
        chunks = b"".join([self._chunk(ChunkChoice(choice.index, delta)) for delta in deltas])
        if piece.finish is Finish.NONE:
            return chunks
        reason = self._reader.finish_reason(choice) or FINISH_REASONS[piece.finish]
        return chunks + self._chunk(ChunkChoice(choice.index, Delta(), None, reason))

    def whole(self, texts: Sequence[str], tokens: Sequence[Sequence[int]], scores: Sequence[Scores | None]) -> bytes:
        """The answer of a request that is no stream."""
        del scores
        choices = zip(self._answer.choices, texts, tokens, strict=True)
        return self._whole([self._choice(choice, text, ids) for choice, text, ids in choices])

    def _choice(self, choice: Choice, text: str, tokens: Sequence[int]) -> ChatChoice:
        reply = self._reader.whole(choice, text, tokens)
        message = ReplyMessage(
            "assistant",
            reply.content or (None if reply.calls or reply.reasoning else ""),
            reasoning_content=reply.reasoning or UNSET,
            tool_calls=tool_calls(choice, reply.calls) or UNSET,
        )
        reason = self._reader.finish_reason(choice) or FINISH_REASONS[choice.finish]
        return ChatChoice(choice.index, message, None, reason)


def _delta(choice: Choice, part: Part) -> Delta | None:
    match part:
        case Content(text):
            return Delta(content=text)
        case Reasoning(text):
            return Delta(reasoning_content=text)
        case Started() | Arguments():
            return Delta(tool_calls=(call_delta(choice, part),))
        case Ended():
            return None


class CompletionAnswers(_Answers):
    """Answers of /v1/completions."""

    prefix = "cmpl-"
    chunk_object = "text_completion"
    whole_object = "text_completion"

    def opening(self) -> bytes:
        """Completions have no roles: a stream starts with text."""
        return b""

    def piece(self, piece: Piece) -> bytes:
        """The chunks for one piece: none where it has no text yet."""
        index = piece.choice.index
        text = self._chunk(TextChoice(index, piece.text)) if piece.text else b""
        if piece.finish is Finish.NONE:
            return text
        return text + self._chunk(TextChoice(index, "", None, FINISH_REASONS[piece.finish]))

    def whole(self, texts: Sequence[str], tokens: Sequence[Sequence[int]], scores: Sequence[Scores | None]) -> bytes:
        """The answer of a request that is no stream."""
        del tokens, scores
        return self._whole(
            [
                TextChoice(choice.index, text, None, FINISH_REASONS[choice.finish])
                for choice, text in zip(self._answer.choices, texts, strict=True)
            ]
        )
