"""Responses and events of OpenAI's Responses API. No logic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, Struct, UnsetType, field


class TopLogprob(Struct, frozen=True):
    """A likely token."""

    token: str
    bytes: Sequence[int]
    logprob: float


class TextLogprob(Struct, frozen=True):
    """A token of the answer, and what was likely in its place."""

    token: str
    bytes: Sequence[int]
    logprob: float
    top_logprobs: Sequence[TopLogprob]


class OutputText(Struct, frozen=True, tag="output_text"):
    """Text of a message."""

    text: str
    annotations: Sequence[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    logprobs: Sequence[TextLogprob] = field(default_factory=list[TextLogprob])


class ReasoningText(Struct, frozen=True, tag="reasoning_text"):
    """What the model thought."""

    text: str


class SummaryText(Struct, frozen=True, tag="summary_text"):
    """The same, where it was asked for as a summary."""

    text: str


class OutputMessage(Struct, frozen=True, tag="message"):
    """What the model said."""

    id: str
    status: str
    content: Sequence[OutputText]
    role: str = "assistant"


class FunctionCall(Struct, frozen=True, tag="function_call"):
    """A call that the client is to make."""

    id: str
    status: str
    call_id: str
    name: str
    arguments: str


class ReasoningItem(Struct, frozen=True, tag="reasoning"):
    """What the model thought first."""

    id: str
    status: str
    summary: Sequence[SummaryText]
    content: Sequence[ReasoningText]
    encrypted_content: str | None = None  # the same for clients that keep no text


OutputItem = OutputMessage | FunctionCall | ReasoningItem


class InputTokensDetails(Struct, frozen=True):
    """Where tokens of the prompt came from."""

    cached_tokens: int
    cache_write_tokens: int = 0  # nothing is charged for what the cache keeps


class ResponseTokensDetails(Struct, frozen=True):
    """What the generated tokens were for."""

    reasoning_tokens: int


class ResponseUsage(Struct, frozen=True):
    """Tokens of one response."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: ResponseTokensDetails
    total_tokens: int


class ResponseError(Struct, frozen=True):
    """Why a response failed."""

    code: str
    message: str


class IncompleteDetails(Struct, frozen=True):
    """Why a response is incomplete."""

    reason: str


class Response(Struct, frozen=True):
    """A response as of now."""

    id: str
    created_at: int
    status: str
    background: bool
    completed_at: int | None
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    output: Sequence[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: dict[str, Any]
    safety_identifier: str | None
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: Any
    tools: Sequence[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: str
    usage: ResponseUsage | None
    user: str | None
    metadata: dict[str, str]
    object: str = "response"
    service_tier: str = "default"


class ResponseEvent(Struct, frozen=True):
    """An event of a stream: the fields of all of them. Those that do not belong to its type are unset."""

    type: str
    sequence_number: int
    response: Response | UnsetType = UNSET
    output_index: int | UnsetType = UNSET
    item: OutputItem | UnsetType = UNSET
    item_id: str | UnsetType = UNSET
    content_index: int | UnsetType = UNSET
    summary_index: int | UnsetType = UNSET
    part: OutputText | ReasoningText | SummaryText | UnsetType = UNSET
    delta: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    logprobs: Sequence[TextLogprob] | UnsetType = UNSET
    code: str | UnsetType | None = UNSET
    message: str | UnsetType = UNSET
    param: str | UnsetType | None = UNSET


class InputTokens(Struct, frozen=True):
    """How many tokens a prompt has."""

    input_tokens: int
    object: str = "response.input_tokens"


class DeletedResponse(Struct, frozen=True):
    """A forgotten response."""

    id: str
    object: str = "response"
    deleted: bool = True


class ItemList(Struct, frozen=True):
    """Some of the items that went into a response."""

    data: Sequence[dict[str, Any]]
    has_more: bool
    first_id: str | None
    last_id: str | None
    object: str = "list"
