"""Errors of the Responses API: OpenAI's shape, with the names that fields have here."""

from __future__ import annotations

from tokenizer_svc.api_error import ApiError
from tokenizer_svc.renaming import renamed, rules

_ROOT = "/v1/responses"
_NAMES = rules(
    (r"tools\[(\d+)\]\.function\.", r"tools[\1]."),
    (r"tool_choice\.function\.", "tool_choice."),
    (r"tool_choice\.allowed_tools\.", "tool_choice."),
    (r"response_format\.json_schema\.", "text.format."),
    (r"response_format", "text.format"),
    (r"reasoning_effort$", "reasoning.effort"),
    (r"verbosity$", "text.verbosity"),
    (r"max_(completion_)?tokens$", "max_output_tokens"),
    (r"messages$", "input"),
)


def is_responses(path: str) -> bool:
    """Whether a path is one of the Responses API."""
    return path == _ROOT or path.startswith(f"{_ROOT}/")


def of_chat(error: ApiError) -> ApiError:
    """An error of the chat that a request amounts to, as a client here sees it."""
    return renamed(error, _NAMES)
