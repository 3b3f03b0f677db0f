"""What the types of a request's fields do not say, as schemas for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizer_svc.contexts.request import ID
from tokenizer_svc.limits import Limits

PARTS = ("TextPart", "OpenPart", "ClosePart", "MessagePart", "GenPart", "SelectPart")
"""The structs that a part may be."""


def context_forms(limits: Limits) -> Mapping[tuple[str, str], Mapping[str, Any]]:
    """By struct and field."""
    name = {"type": "string", "pattern": f"^{ID}$"}
    maybe = {"anyOf": [name, {"type": "null"}]}
    parts = {"anyOf": [{"$ref": f"#/components/schemas/{part}"} for part in PARTS]}
    texts = {
        "type": "array",
        "minItems": 1,
        "maxItems": limits.max_choices,
        "items": {"type": "string", "minLength": 1},
    }
    released = {"type": "array", "maxItems": limits.max_released, "items": name}
    label = {"type": "string", "maxLength": limits.max_label}
    return {
        ("ContextRequest", "parts"): {"type": "array", "maxItems": limits.max_context_parts, "items": parts},
        ("ContextRequest", "id"): {**maybe, "description": "The name of the context that this call makes"},
        ("ContextRequest", "parent"): {**maybe, "description": "The context that it goes on from; null: none"},
        ("ContextRequest", "release"): {"anyOf": [released, {"type": "null"}]},
        ("ContextRequest", "group"): {"anyOf": [label, {"type": "null"}]},
        ("SelectPart", "choices"): texts,
        ("GenPart", "name"): label,
        ("SelectPart", "name"): label,
    }
