"""Requests to /v1/contexts: their fields, and what can be said of them without a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from tokenizer_svc import unsupported
from tokenizer_svc.api_error import invalid, of_validation
from tokenizer_svc.api_error import unsupported as refused
from tokenizer_svc.chat import Message
from tokenizer_svc.contexts.choosing import Method
from tokenizer_svc.limits import Limits
from tokenizer_svc.sampling import Bounds, SamplingFields

ID = r"[\w.-]{1,64}"
"""What names of contexts look like, as a pattern."""

_SANE_ID = re.compile(ID, re.ASCII)


class TextPart(msgspec.Struct, tag="text", frozen=True):
    """Text: by itself, or of the open message."""

    text: str


class OpenPart(msgspec.Struct, tag="open", frozen=True):
    """A message begins."""

    role: Literal["system", "developer", "user", "assistant"]


class ClosePart(msgspec.Struct, tag="close", frozen=True):
    """The open message ends."""


class MessagePart(msgspec.Struct, tag="message", frozen=True):
    """A whole message, as in a chat."""

    message: Message


class GenPart(SamplingFields, tag="gen", kw_only=True):
    """The model goes on. Fields are those of a chat."""

    name: str
    max_tokens: int | None = None
    min_tokens: int | None = None
    seed: int | None = None
    include_stop_str_in_output: bool | None = None
    choices: list[str] | None = None  # the same as choice
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None


class SelectPart(msgspec.Struct, tag="select", kw_only=True, frozen=True):
    """The likeliest of some texts."""

    name: str
    choices: list[str]
    method: Method = "token_length_normalized"


Part = TextPart | OpenPart | ClosePart | MessagePart | GenPart | SelectPart


class ContextRequest(msgspec.Struct, kw_only=True):
    """POST /v1/contexts: go on from a context with these parts, and keep the whole as another one."""

    parts: list[Any]  # each read by itself, so that errors say which
    id: str | None = None
    parent: str | None = None
    model: str | None = None
    tools: list[Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    group: str | None = None
    prefill: bool | None = None
    keep: bool | None = None
    release: list[str] | None = None
    return_token_ids: bool | None = None
    stream: bool | None = None
    timeout: float | None = None
    priority: int | None = None
    user: str | None = None
    cache_salt: str | None = None


class Asked(msgspec.Struct, frozen=True):
    """A valid request."""

    request: ContextRequest
    parts: tuple[Part, ...]

    @property
    def keeps(self) -> bool:
        return self.request.keep is not False


def read_request(body: Mapping[str, Any], limits: Limits) -> Asked:
    """Raises ApiError 400 naming the field."""
    unsupported.refuse(body, unsupported.CONTEXTS)
    try:
        request = msgspec.convert(body, ContextRequest)
    except msgspec.ValidationError as error:
        raise of_validation(error) from error
    bounds = Bounds()
    bounds.length("parts", len(request.parts), limits.max_context_parts, "parts")
    parts = tuple(_part(part, f"parts[{index}]", limits) for index, part in enumerate(request.parts))
    for name in ("id", "parent"):
        if (value := getattr(request, name)) is not None:
            check_id(value, name)
    released = request.release or []
    bounds.length("release", len(released), limits.max_released, "names")
    for index, id in enumerate(released):
        check_id(id, f"release[{index}]")
    for name in ("user", "group", "cache_salt"):
        bounds.label(name, getattr(request, name), limits)
    bounds.integer("priority", request.priority, -limits.priority, limits.priority, 0)
    bounds.above_zero("timeout", request.timeout, limits.max_timeout_s, 0)
    if request.parent is not None:
        for name in ("tools", "chat_template_kwargs"):
            if getattr(request, name):
                raise invalid(f"{name} are said once, where parent is null: those of the parent hold here", name)
    return Asked(request, parts)


def check_id(id: str, path: str) -> None:
    """Raises ApiError 400 for what can be no context's name."""
    if not _SANE_ID.fullmatch(id):
        raise invalid(f"{path} is {id[:80]!r}: a context's name is 1 to 64 letters, digits, '_', '.' and '-'", path)


def _part(part: Any, path: str, limits: Limits) -> Part:
    if isinstance(part, dict):
        kind: Any = part.get("type")
        if kind in ("image", "image_url"):
            raise refused(f"{path}.type", "only text is served: the model sees no pictures")
        if kind == "gen":
            unsupported.refuse(part, unsupported.CONTEXT_GEN, f"{path}.")
    try:
        read = msgspec.convert(part, Part)
    except msgspec.ValidationError as error:
        raise of_validation(error, path) from error
    match read:
        case GenPart():
            _check_gen(read, path, limits)
        case SelectPart():
            _check_select(read, path, limits)
        case _:
            pass
    return read


def _check_gen(part: GenPart, path: str, limits: Limits) -> None:
    bounds = Bounds(path)
    bounds.label("name", part.name, limits)
    if part.top_logprobs and not part.logprobs:
        where = f"{path}.top_logprobs"
        raise invalid(f"{where} is for answers with log-probabilities: set logprobs to true", where)
    bounds.integer("top_logprobs", part.top_logprobs, 0, limits.max_logprobs, 0)
    if part.choices is not None:
        _check_choices(part.choices, f"{path}.choices")


def _check_select(part: SelectPart, path: str, limits: Limits) -> None:
    bounds = Bounds(path)
    bounds.label("name", part.name, limits)
    bounds.length("choices", len(part.choices), limits.max_choices, "texts")
    _check_choices(part.choices, f"{path}.choices")


def _check_choices(choices: list[str], path: str) -> None:
    if not choices:
        raise invalid(f"{path} is an empty list: at least one text is needed", path)
    if "" in choices:
        at = choices.index("")
        raise invalid(f"{path}[{at}] is empty, which is no answer", f"{path}[{at}]")
