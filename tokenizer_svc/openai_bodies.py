"""The bodies of OpenAI's API: whole answers and the chunks of streams. Shapes, and no logic but sums of tokens.

What is not OpenAI's own is there only when asked for, but for why an answer stopped: ``stop_reason`` as vLLM says it,
``matched_stop`` as SGLang does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from tokenizer_svc.answers import Answer
from tokenizer_svc.openai_scores import ChatLogprobs, PromptLogprobs, TextLogprobs
from tokenizer_svc.tools.answers import ToolCall, ToolCallDelta


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
    prompt_tokens_details: PromptTokensDetails | UnsetType = UNSET  # with all tokens at the end, not on the way there
    completion_tokens_details: CompletionTokensDetails | UnsetType = UNSET


def usage_of(answer: Answer, reasoning_tokens: int = 0) -> Usage:
    """Of a complete answer."""
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
    refusal: UnsetType | None = UNSET
    tool_calls: Sequence[ToolCallDelta] | None = None


class ChunkChoice(Struct, frozen=True):
    """One choice in a chunk of a chat."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: str | int | UnsetType | None = UNSET  # with the finish reason
    matched_stop: str | int | UnsetType | None = UNSET
    token_ids: Sequence[int] | UnsetType = UNSET


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
    logprobs: ChatLogprobs | None
    finish_reason: str
    stop_reason: str | int | None
    matched_stop: str | int | None
    token_ids: Sequence[int] | UnsetType = UNSET


class TextChoice(Struct, frozen=True):
    """One choice of a completion, whole or in a chunk."""

    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: str | int | UnsetType | None = UNSET
    matched_stop: str | int | UnsetType | None = UNSET
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET
    prompt_token_ids: Sequence[int] | UnsetType = UNSET
    token_ids: Sequence[int] | UnsetType = UNSET


class Body(Struct, frozen=True):
    """A whole answer or a chunk: both APIs, both ways."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: Sequence[Any]
    usage: Usage | UnsetType | None = UNSET
    service_tier: str | UnsetType = UNSET
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET  # of chats, which have one prompt
    prompt_token_ids: Sequence[int] | UnsetType = UNSET
