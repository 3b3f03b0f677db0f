"""Requests of OpenAI's Responses API: their fields, and the chat that they amount to.

Source of the fields: OpenAI's reference of POST /v1/responses. Knows nothing of prompts or answers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from tokenizer_svc.api_error import invalid, of_validation
from tokenizer_svc.api_error import unsupported as refused
from tokenizer_svc.limits import Limits
from tokenizer_svc.responses_api.items import Item, chat_messages
from tokenizer_svc.responses_api.refused import ENCRYPTED, INCLUDABLE, LOGPROBS, REFUSED
from tokenizer_svc.responses_api.tools import chat_tool_choice, chat_tools
from tokenizer_svc.unsupported import refuse

_MOST_PAIRS, _MOST_KEY, _MOST_VALUE = 16, 64, 512  # of metadata, as OpenAI has it
_VERBOSITY = {
    "low": "Answer as briefly as the question allows.",
    "medium": "",
    "high": "Answer thoroughly and in detail.",
}
_SUMMARIES = ("auto", "concise", "detailed")


class ResponseTextFormat(msgspec.Struct):
    """What the answer must look like."""

    type: str
    name: str | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseText(msgspec.Struct):
    """How the answer's text is to be."""

    format: ResponseTextFormat | None = None
    verbosity: str | None = None


class ResponseReasoning(msgspec.Struct):
    """How the model is to think, and what is told of it."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None  # the older word


class ResponseStreamOptions(msgspec.Struct):
    """What a stream carries besides events."""

    include_obfuscation: bool | None = None


class _Prompting(msgspec.Struct, kw_only=True):
    """What makes a prompt, besides the input."""

    model: str | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    text: ResponseText | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    reasoning: ResponseReasoning | None = None
    truncation: str | None = None


class InputTokensRequest(_Prompting, kw_only=True):
    """POST /v1/responses/input_tokens."""

    input: str | list[Any] | None = None


class ResponsesRequest(_Prompting, kw_only=True):
    """POST /v1/responses."""

    input: str | list[Any]
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None  # of tools of OpenAI's servers: there are none here
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    cache_salt: str | None = None
    priority: int | None = None
    timeout: float | None = None
    resumable: bool | None = None

    @property
    def is_stored(self) -> bool:
        return self.store is not False

    @property
    def wants_logprobs(self) -> bool:
        return LOGPROBS in (self.include or ())

    @property
    def encrypts(self) -> bool:
        """Whether reasoning is told as a token, too."""
        return ENCRYPTED in (self.include or ())

    @property
    def summarises(self) -> bool:
        """Whether reasoning is told as its summary."""
        reasoning = self.reasoning
        return reasoning is not None and bool(reasoning.summary or reasoning.generate_summary)


def read_responses(body: dict[str, Any], limits: Limits) -> ResponsesRequest:
    """The request in a decoded body. Raises ApiError 400."""
    refuse(body, REFUSED)
    try:
        request = msgspec.convert(body, ResponsesRequest)
    except msgspec.ValidationError as error:
        raise of_validation(error) from error
    _check(request, limits)
    return request


def read_input_tokens(body: dict[str, Any], limits: Limits) -> ResponsesRequest:
    """The request whose prompt is to be counted, in a decoded body. Raises ApiError 400."""
    refuse(body, REFUSED)
    known = {name: body[name] for name in InputTokensRequest.__struct_fields__ if body.get(name) is not None}
    return read_responses({"input": [], **known}, limits)


def _check(request: ResponsesRequest, limits: Limits) -> None:
    _check_keeping(request)
    _check_words(request)
    if request.max_output_tokens is not None and request.max_output_tokens < 1:
        raise invalid(f"max_output_tokens must be at least 1, not {request.max_output_tokens}", "max_output_tokens")
    for index, name in enumerate(request.include or ()):
        if name not in INCLUDABLE:
            raise invalid(f"include[{index}] is {name[:100]!r}: use {', '.join(INCLUDABLE)}", f"include[{index}]")
    if request.top_logprobs and not request.wants_logprobs:
        raise invalid(f'top_logprobs is for log-probabilities: add "{LOGPROBS}" to include', "top_logprobs")
    for name, value in (("user", request.user), ("safety_identifier", request.safety_identifier)):
        if len(value or "") > limits.max_label:
            raise invalid(f"{name} has {len(value or '')} characters, at most {limits.max_label} are allowed", name)
    _check_metadata(request.metadata or {})


def _check_keeping(request: ResponsesRequest) -> None:
    if request.background and not request.is_stored:
        raise invalid("background is for responses that are stored: leave store out", "background")
    if request.resumable and not request.is_stored:
        raise invalid("resumable is for responses that are stored: leave store out", "resumable")
    if request.stream_options is not None and request.stream_options.include_obfuscation:
        raise refused("stream_options.include_obfuscation")


def _check_words(request: ResponsesRequest) -> None:
    """What is one of few words."""
    if request.truncation not in (None, "auto", "disabled"):
        raise invalid('truncation must be "auto" or "disabled"', "truncation")
    if request.text is not None and request.text.verbosity not in (None, *_VERBOSITY):
        raise invalid('text.verbosity must be "low", "medium" or "high"', "text.verbosity")
    if request.reasoning is not None:
        for name in ("summary", "generate_summary"):
            if getattr(request.reasoning, name) not in (None, *_SUMMARIES):
                path = f"reasoning.{name}"
                raise invalid(f'{path} must be "auto", "concise" or "detailed"', path)


def _check_metadata(metadata: dict[str, str]) -> None:
    if len(metadata) > _MOST_PAIRS:
        raise invalid(f"metadata has {len(metadata)} pairs, at most {_MOST_PAIRS} are allowed", "metadata")
    for key, value in metadata.items():
        if len(key) > _MOST_KEY or len(value) > _MOST_VALUE:
            message = f"metadata may have keys of {_MOST_KEY} characters and values of {_MOST_VALUE}"
            raise invalid(f"{message}: {key[:_MOST_KEY]!r} has more", "metadata")


def chat_body(
    request: ResponsesRequest, items: Sequence[Item], limits: Limits, variables: Collection[str]
) -> dict[str, Any]:
    """The same request as a body of /v1/chat/completions, less how long its answer may be. Raises ApiError 400.

    ``items``: the whole conversation. ``variables``: those that the model's template knows.
    """
    verbosity = None if request.text is None else request.text.verbosity
    by_words = "" if verbosity is None or "verbosity" in variables else _VERBOSITY[verbosity]
    instructions = "\n\n".join(filter(None, (request.instructions, by_words)))
    body: dict[str, Any] = {
        "messages": chat_messages(instructions, items, limits),
        "tools": chat_tools(request.tools, limits),
        "tool_choice": chat_tool_choice(request.tool_choice),
        "response_format": _response_format(request.text),
        "reasoning_effort": None if request.reasoning is None else request.reasoning.effort,
        "verbosity": verbosity if "verbosity" in variables else None,
    }
    for name in (
        *("model", "temperature", "top_p", "parallel_tool_calls", "user", "safety_identifier", "service_tier"),
        *("prompt_cache_key", "metadata", "top_k", "seed", "stop", "cache_salt", "priority", "timeout"),
    ):
        body[name] = getattr(request, name)
    if request.wants_logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs or 0}
    return {name: value for name, value in body.items() if value is not None}


def _response_format(text: ResponseText | None) -> dict[str, Any] | None:
    if text is None or text.format is None:
        return None
    format = text.format
    if format.type not in ("text", "json_object", "json_schema"):
        what = f'{format.type[:100]!r} is not served: use "text", "json_object" or "json_schema"'
        raise refused("text.format.type", what)
    if format.type != "json_schema":
        return {"type": format.type}
    if format.schema is None:
        raise invalid("text.format.schema is missing", "text.format.schema", "missing_field")
    schema = {"name": format.name, "schema": format.schema, "description": format.description, "strict": format.strict}
    return {"type": "json_schema", "json_schema": schema}
