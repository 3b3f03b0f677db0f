"""Requests of Anthropic's Messages API: their fields, and the chat that they amount to.

Source of the fields: Anthropic's reference of POST /v1/messages. Knows nothing of prompts or answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tokenizer_svc.anthropic_api.conversation import Content, MessagesTurn, chat_messages
from tokenizer_svc.anthropic_api.refused import REFUSED
from tokenizer_svc.anthropic_api.tools import chat_tool_choice, chat_tools, is_parallel
from tokenizer_svc.api_error import invalid, of_validation
from tokenizer_svc.api_error import unsupported as refused
from tokenizer_svc.limits import Limits
from tokenizer_svc.template_variables import SWITCHES
from tokenizer_svc.unsupported import refuse

_LEAST_BUDGET = 1024  # of thinking, as Anthropic has it


class Metadata(msgspec.Struct):
    """Whose request it is."""

    user_id: str | None = None


class Thinking(msgspec.Struct):
    """Whether the model is to think first."""

    type: str
    budget_tokens: int | None = None
    display: str | None = None


class OutputFormat(msgspec.Struct):
    """What the answer must look like."""

    type: str
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct):
    """How the answer is to be."""

    effort: str | None = None
    format: OutputFormat | None = None


class MessagesCountRequest(msgspec.Struct, kw_only=True):
    """POST /v1/messages/count_tokens."""

    model: str | None = None
    messages: list[MessagesTurn]
    system: Content | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None


class MessagesRequest(MessagesCountRequest, kw_only=True):
    """POST /v1/messages."""

    max_tokens: int
    metadata: Metadata | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    service_tier: str | None = None
    speed: str | None = None
    cache_salt: str | None = None
    priority: int | None = None
    timeout: float | None = None
    resumable: bool | None = None
    background: bool | None = None


def read_messages(body: dict[str, Any]) -> MessagesRequest:
    """The request in a decoded body. Raises ApiError 400."""
    refuse(body, REFUSED)
    try:
        request = msgspec.convert(body, MessagesRequest)
    except msgspec.ValidationError as error:
        raise of_validation(error) from error
    _check_thinking(request.thinking, request.max_tokens)
    if request.service_tier not in (None, "auto", "standard_only"):
        raise refused("service_tier", 'there is one tier, "auto" or "standard_only": use priority')
    if request.speed not in (None, "standard"):
        raise refused("speed", 'there is one speed, "standard"')
    return request


def read_count(body: dict[str, Any]) -> MessagesCountRequest:
    """The request to count in a decoded body. Raises ApiError 400."""
    refuse(body, REFUSED)
    try:
        request = msgspec.convert(body, MessagesCountRequest)
    except msgspec.ValidationError as error:
        raise of_validation(error) from error
    _check_thinking(request.thinking, None)
    return request


def chat_body(request: MessagesCountRequest, limits: Limits) -> dict[str, Any]:
    """The same request as a body of /v1/chat/completions, less how long its answer may be. Raises ApiError 400."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": chat_messages(request.system, request.messages, limits),
        "tools": chat_tools(request.tools, limits),
        "tool_choice": chat_tool_choice(request.tool_choice),
        "parallel_tool_calls": is_parallel(request.tool_choice),
        "response_format": _response_format(request.output_config),
        "chat_template_kwargs": _variables(request.thinking),
        "reasoning_effort": None if request.output_config is None else request.output_config.effort,
        "continue_final_message": _is_begun(request.messages) or None,
    }
    if isinstance(request, MessagesRequest):
        body |= {
            "stop": request.stop_sequences,
            "user": None if request.metadata is None else request.metadata.user_id,
        }
        for name in ("stream", "temperature", "top_p", "top_k", "cache_salt", "priority", "timeout"):
            body[name] = getattr(request, name)
    return {name: value for name, value in body.items() if value is not None}


def _check_thinking(thinking: Thinking | None, max_tokens: int | None) -> None:
    if thinking is None:
        return
    if thinking.type not in ("enabled", "disabled", "adaptive"):
        raise refused("thinking.type", f'{thinking.type[:100]!r} is not served: use "enabled" or "disabled"')
    if thinking.display not in (None, "summarized", "omitted"):
        raise invalid('thinking.display must be "summarized" or "omitted"', "thinking.display")
    if thinking.type != "enabled" or thinking.budget_tokens is None:
        return
    path = "thinking.budget_tokens"
    if thinking.budget_tokens < _LEAST_BUDGET:
        raise invalid(f"{path} must be at least {_LEAST_BUDGET}, not {thinking.budget_tokens}", path)
    if max_tokens is not None and thinking.budget_tokens >= max_tokens:
        raise invalid(f"{path} must be less than max_tokens, which is {max_tokens}", path)


def _variables(thinking: Thinking | None) -> dict[str, Any] | None:
    """What templates of models that think know."""
    return None if thinking is None else dict.fromkeys(SWITCHES, thinking.type != "disabled")


def _is_begun(turns: Sequence[MessagesTurn]) -> bool:
    """Whether the conversation ends with the beginning of the answer, which is to be continued."""
    if turns[-1].role != "assistant":
        return False
    content = turns[-1].content
    return isinstance(content, str) or all(block.type != "tool_use" for block in content)


def _response_format(config: OutputConfig | None) -> dict[str, Any] | None:
    if config is None or config.format is None:
        return None
    if config.format.type != "json_schema":
        raise refused("output_config.format.type", 'use "json_schema"')
    return {"type": "json_schema", "json_schema": {"name": "output", "schema": config.format.schema}}
