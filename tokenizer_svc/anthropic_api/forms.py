"""What types do not say of the values of Anthropic's fields: schemas of what is taken, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizer_svc.limits import Limits

Schema = dict[str, Any]

_STRING: Schema = {"type": "string"}


def messages_forms(limits: Limits) -> Mapping[tuple[str, str], Schema]:
    """By struct and field."""
    texts = _content(limits, _block("text", "text"))
    every = _content(
        limits,
        _block("text", "text"),
        _block("thinking"),
        {**_block("tool_use", "id", "name"), "description": "In turns of the assistant"},
        {**_block("tool_result", "tool_use_id"), "description": "In turns of the user"},
    )
    tools = {"anyOf": [{"type": "array", "maxItems": limits.max_tools, "items": _tool(limits)}, {"type": "null"}]}
    choice = {"anyOf": [_CHOICE, {"type": "null"}]}
    label: Schema = {"anyOf": [{"type": "string", "maxLength": limits.max_label}, {"type": "null"}]}
    stop = {"type": "string", "minLength": 1, "maxLength": limits.max_stop_length}
    stops: Schema = {"anyOf": [{"type": "array", "maxItems": limits.max_stop_strings, "items": stop}, {"type": "null"}]}
    found: dict[tuple[str, str], Schema] = {
        ("MessagesTurn", "role"): {"enum": ["user", "assistant", "system"]},
        ("MessagesTurn", "content"): every,
        ("MessagesRequest", "stop_sequences"): stops,
        ("Metadata", "user_id"): label,
        ("Thinking", "type"): {"enum": ["enabled", "disabled", "adaptive"]},
        ("Thinking", "display"): {"enum": ["summarized", "omitted", None]},
        ("OutputFormat", "type"): {"const": "json_schema"},
    }
    for struct in ("MessagesRequest", "MessagesCountRequest"):
        found[struct, "system"] = {"anyOf": [*texts["anyOf"], {"type": "null"}]}
        found[struct, "tools"] = tools
        found[struct, "tool_choice"] = choice
    return found


def _content(limits: Limits, *blocks: Schema) -> Schema:
    return {"anyOf": [_STRING, {"type": "array", "maxItems": limits.max_parts, "items": {"anyOf": list(blocks)}}]}


def _block(kind: str, *required: str) -> Schema:
    properties: Schema = {"type": {"const": kind}, **dict.fromkeys(required, _STRING)}
    if kind == "tool_use":
        properties["input"] = {"type": "object"}
    return {"type": "object", "required": ["type", *required], "properties": properties}


def _tool(limits: Limits) -> Schema:
    name = {"type": "string", "minLength": 1, "maxLength": limits.max_tool_name, "pattern": "^[a-zA-Z0-9_-]+$"}
    properties: Schema = {
        "name": name,
        "input_schema": {"type": "object"},
        "description": {"type": ["string", "null"]},
        "strict": {"type": ["boolean", "null"]},
    }
    return {"type": "object", "required": ["name", "input_schema"], "properties": properties}


_CHOICE: Schema = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"enum": ["auto", "any", "none", "tool"]}},
}
