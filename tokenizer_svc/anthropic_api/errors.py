"""Errors in Anthropic's shape, on Anthropic's routes.

The types by status are those of Anthropic's reference (api/errors).
"""

from __future__ import annotations

import msgspec

from tokenizer_svc.api_error import ApiError
from tokenizer_svc.renaming import renamed, rules
from tokenizer_svc.sse import event

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_OTHERS, _OURS = "invalid_request_error", "api_error"
_FROM_OURS = 500

_ROOT = "/v1/messages"

_NAMES = rules(
    (r"tools\[(\d+)\]\.function\.parameters", r"tools[\1].input_schema"),
    (r"tools\[(\d+)\]\.function\.", r"tools[\1]."),
    (r"tool_choice\.function\.", "tool_choice."),
    (r"response_format\.json_schema\.", "output_config.format."),
    (r"reasoning_effort$", "output_config.effort"),
    (r"stop$", "stop_sequences"),
    (r"user$", "metadata.user_id"),
)
"""What chats call a field, and what it is called here."""


class MessagesError(msgspec.Struct, frozen=True):
    """What went wrong."""

    type: str
    message: str


class MessagesErrorDocument(msgspec.Struct, frozen=True):
    """What is sent."""

    type: str
    error: MessagesError
    request_id: str | None


def is_anthropic(path: str) -> bool:
    """Whether a path is one of Anthropic's API."""
    return path == _ROOT or path.startswith(f"{_ROOT}/")


def error_json(error: ApiError, request_id: str | None) -> bytes:
    """The body of a response."""
    kind = _TYPES.get(error.status, _OTHERS if error.status < _FROM_OURS else _OURS)
    return msgspec.json.encode(
        MessagesErrorDocument("error", MessagesError(kind, renamed(error, _NAMES).body.message), request_id)
    )


def error_event(error: ApiError) -> bytes:
    """How a stream ends that had begun."""
    return event(error_json(error, None), "error")
