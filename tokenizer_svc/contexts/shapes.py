"""The bodies of answers of /v1/contexts. Shapes, and no logic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from tokenizer_svc.openai_bodies import Usage
from tokenizer_svc.openai_scores import ChatLogprobs
from tokenizer_svc.tools.answers import ToolCall


class Generated(Struct, frozen=True, kw_only=True, tag="gen"):
    """What a part of the type gen came to."""

    part: int  # its place in the request
    name: str
    text: str  # of the first, with which the context goes on
    texts: Sequence[str] | UnsetType = UNSET  # of all, where n > 1
    finish_reason: str
    matched_stop: str | int | None
    prompt_tokens: int  # of the context before it
    completion_tokens: int  # of all texts
    reasoning_content: str | UnsetType = UNSET
    tool_calls: Sequence[ToolCall] | UnsetType = UNSET
    logprobs: ChatLogprobs | UnsetType = UNSET


class Selected(Struct, frozen=True, kw_only=True, tag="select"):
    """What a part of the type select came to."""

    part: int
    name: str
    text: str  # the choice that the context goes on with
    index: int
    scores: Sequence[float]  # by choice
    logprobs: Sequence[Sequence[float]]  # by choice, of its tokens
    tokens: Sequence[Sequence[int]]
    unconditional: Sequence[Sequence[float]] | UnsetType = UNSET  # with nothing before them
    prompt_tokens: int


Result = Generated | Selected


class ContextAnswer(Struct, frozen=True, kw_only=True):
    """The answer to a call."""

    id: str
    object: Literal["context"] = "context"
    created: int
    model: str
    parent: str | None
    parts: Sequence[Result]
    length: int  # tokens of the context
    token_ids: Sequence[int] | UnsetType = UNSET
    usage: Usage


class ContextBody(Struct, frozen=True, kw_only=True):
    """A context that is kept: the answer of the call that made it, and what it says."""

    id: str
    object: Literal["context"] = "context"
    created: int
    model: str
    parent: str | None
    parts: Sequence[dict[str, Any]]
    length: int
    token_ids: Sequence[int] | UnsetType = UNSET
    usage: dict[str, Any]
    text: str | UnsetType = UNSET  # of one of plain text
    messages: Sequence[dict[str, Any]] | UnsetType = UNSET  # of a conversation, the open one last


class DroppedContext(Struct, frozen=True, kw_only=True):
    """The answer to DELETE."""

    id: str
    object: Literal["context.deleted"] = "context.deleted"
    deleted: bool = True


class Delta(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event of a stream: more text of a part."""

    id: str
    part: int
    name: str
    delta: str
    reasoning_delta: str | UnsetType = UNSET
    index: int = 0  # of the text, where n > 1


class Ended(Struct, frozen=True, kw_only=True):
    """An event of a stream: a part is over."""

    id: str
    part: int
    name: str
    result: Result
