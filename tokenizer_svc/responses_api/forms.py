"""What types do not say of values in the Responses API: schemas of what is taken, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizer_svc.limits import Limits
from tokenizer_svc.responses_api.refused import INCLUDABLE

Schema = dict[str, Any]

_STRING: Schema = {"type": "string"}
_NULL: Schema = {"type": "null"}


def responses_forms(limits: Limits) -> Mapping[tuple[str, str], Schema]:
    """By struct and field."""
    request, counted = "ResponsesRequest", "InputTokensRequest"
    label = _optional({"type": "string", "maxLength": limits.max_label})
    shared = {
        "tools": _optional({"type": "array", "maxItems": limits.max_tools, "items": _tool(limits)}),
        "tool_choice": _optional({"anyOf": [{"enum": ["none", "auto", "required"]}, {"type": "object"}]}),
        "truncation": {"enum": ["auto", "disabled", None]},
        "previous_response_id": _optional({"type": "string", "pattern": "^resp_[0-9a-f]{16}$"}),
    }
    return {
        **{(struct, field): schema for struct in (request, counted) for field, schema in shared.items()},
        (request, "input"): {"anyOf": [_STRING, _items(limits)]},
        (counted, "input"): {"anyOf": [_STRING, _items(limits), _NULL]},
        (request, "include"): _optional({"type": "array", "items": {"enum": list(INCLUDABLE)}}),
        (request, "max_output_tokens"): _optional({"type": "integer", "minimum": 1}),
        (request, "top_logprobs"): _optional({"type": "integer", "minimum": 0, "maximum": 20}),
        (request, "metadata"): _optional(_METADATA),
        (request, "safety_identifier"): label,
        ("ResponseText", "verbosity"): {"enum": ["low", "medium", "high", None]},
        ("ResponseTextFormat", "type"): {"enum": ["text", "json_object", "json_schema"]},
        ("ResponseReasoning", "summary"): _SUMMARY,
        ("ResponseReasoning", "generate_summary"): _SUMMARY,
    }


def _optional(schema: Schema) -> Schema:
    return {"anyOf": [schema, _NULL]}


_SUMMARY: Schema = {"enum": ["auto", "concise", "detailed", None]}
_METADATA: Schema = {
    "type": "object",
    "maxProperties": 16,
    "propertyNames": {"maxLength": 64},
    "additionalProperties": {"type": "string", "maxLength": 512},
}


def _items(limits: Limits) -> Schema:
    part = {
        "type": "object",
        "required": ["type", "text"],
        "properties": {"type": {"enum": ["input_text", "output_text"]}, "text": _STRING},
    }
    content: Schema = {"anyOf": [_STRING, {"type": "array", "maxItems": limits.max_parts, "items": part}]}
    roles = {"enum": ["user", "assistant", "system", "developer"]}
    message = _item("message", {"role": roles, "content": content})
    call = _item("function_call", dict.fromkeys(("call_id", "name", "arguments"), _STRING))
    output = _item("function_call_output", {"call_id": _STRING, "output": content})
    items = {"anyOf": [message, call, output]}
    return {"type": "array", "minItems": 1, "maxItems": limits.max_messages, "items": items}


def _item(kind: str, fields: Schema) -> Schema:
    properties = {"type": {"const": kind}, **fields}
    return {"type": "object", "required": list(properties), "properties": properties}


def _tool(limits: Limits) -> Schema:
    name = {"type": "string", "minLength": 1, "maxLength": limits.max_tool_name, "pattern": "^[a-zA-Z0-9_-]+$"}
    properties: Schema = {
        "type": {"const": "function"},
        "name": name,
        "description": {"type": ["string", "null"]},
        "parameters": {"type": ["object", "null"]},
        "strict": {"type": ["boolean", "null"]},
    }
    return {"type": "object", "required": ["type", "name"], "properties": properties}
