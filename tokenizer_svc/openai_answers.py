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
from tokenizer_svc.sse import DONE, event
from tokenizer_svc.tools.answers import ToolAnswers, ToolCall, ToolCallDelta

FINISH_REASONS = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.ABORT: "abort"}


class PromptTokensDetails(Struct, frozen=True):
    """Where prompt tokens came from."""

    cached_tokens: int


class CompletionTokensDetails(Struct, frozen=True):
    """How generated tokens came about."""

    forced_tokens: int  # a grammar left no choice about them


class Usage(Struct, frozen=True):
    """Tokens of one HTTP request; a prompt with several choices counts once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


def usage_of(answer: Answer) -> Usage:
    first = {choice.prompt: choice for choice in reversed(answer.choices)}.values()
    prompt = sum(choice.prompt_tokens for choice in first)
    completion = sum(choice.completion_tokens for choice in answer.choices)
    cached = sum(choice.cached_tokens for choice in first)
    forced = sum(choice.forced_tokens for choice in answer.choices)
    details = PromptTokensDetails(cached), CompletionTokensDetails(forced)
    return Usage(prompt, completion, prompt + completion, *details)


class Delta(Struct, frozen=True, omit_defaults=True):
    """What a chunk adds to a message."""

    role: str | None = None
    content: str | None = None
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

    def closing(self) -> bytes:
        """The end of a stream that went well."""
        if not self._include_usage:
            return DONE
        body = Body(self._id, self.chunk_object, self._created, self._model, (), usage_of(self._answer))
        return event(_encode(body)) + DONE

    def failing(self, error: ApiError) -> bytes:
        """The end of a stream that went wrong."""
        return error_event(error)

    def _chunk(self, choice: ChunkChoice | TextChoice) -> bytes:
        body = Body(self._id, self.chunk_object, self._created, self._model, (choice,), self._chunk_usage)
        return event(_encode(body))

    def _whole(self, choices: Sequence[ChatChoice | TextChoice]) -> bytes:
        return _encode(Body(self._id, self.whole_object, self._created, self._model, choices, usage_of(self._answer)))


class ChatAnswers(_Answers):
    """Answers of /v1/chat/completions."""

    prefix = "chatcmpl-"
    chunk_object = "chat.completion.chunk"
    whole_object = "chat.completion"

    def __init__(
        self,
        answer: Answer,
        model: str,
        created: int,
        *,
        include_usage: bool,
        tools: ToolAnswers | None = None,
    ) -> None:
        """``tools``: reads calls out of the text; without it all of it is content."""
        super().__init__(answer, model, created, include_usage=include_usage)
        self._tools = tools

    def opening(self) -> bytes:
        """The first chunks of a stream: the role of every choice."""
        role = Delta(role="assistant", content="")
        return b"".join(self._chunk(ChunkChoice(choice.index, role)) for choice in self._answer.choices)

    def piece(self, piece: Piece) -> bytes:
        """The chunks for one piece: none where it has no text yet."""
        index = piece.choice.index
        reason: str | None = None
        if self._tools is None:
            deltas = [Delta(content=piece.text)] if piece.text else []
        else:
            parts, reason = self._tools.push(piece.choice, piece.text, piece.finish)
            deltas = [Delta(content=p) if isinstance(p, str) else Delta(tool_calls=(p,)) for p in parts]
        chunks = b"".join([self._chunk(ChunkChoice(index, delta)) for delta in deltas])
        if piece.finish is Finish.NONE:
            return chunks
        return chunks + self._chunk(ChunkChoice(index, Delta(), None, reason or FINISH_REASONS[piece.finish]))

    def whole(self, texts: Sequence[str], tokens: Sequence[Sequence[int]], scores: Sequence[Scores | None]) -> bytes:
        """The answer of a request that is no stream."""
        del tokens, scores
        choices = zip(self._answer.choices, texts, strict=True)
        return self._whole([self._choice(choice, text) for choice, text in choices])

    def _choice(self, choice: Choice, text: str) -> ChatChoice:
        reason = FINISH_REASONS[choice.finish]
        if self._tools is None:
            return ChatChoice(choice.index, ReplyMessage("assistant", text), None, reason)
        content, calls, decided = self._tools.whole(choice, text)
        message = ReplyMessage("assistant", content, tool_calls=calls or UNSET)
        return ChatChoice(choice.index, message, None, decided or reason)


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
