"""What the types of request fields do not say of their values: the document's bounds, from where they are enforced.

Every number here is an attribute of Limits or GrammarLimits, or the size of a type. Knows nothing of routes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.grammar import Whitespace
from shared.protocol import Jump
from tokenizer_svc.anthropic_api.forms import messages_forms
from tokenizer_svc.contexts.forms import context_forms
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.limits import Limits
from tokenizer_svc.responses_api.forms import responses_forms
from tokenizer_svc.stop_regex import STOP_REGEX_LIMITS
from tokenizer_svc.template_variables import EFFORTS, VERBOSITIES

Keywords = Mapping[str, Any]
Bounds = Mapping[str, Mapping[str, Keywords]]
"""By field, then by JSON type: the keywords that its schema of that type gets."""

_INT32 = 2**31 - 1
_TOOL_NAME = "^[a-zA-Z0-9_-]+$"


def _span(low: float, high: float) -> Mapping[str, Keywords]:
    kind = "integer" if isinstance(low, int) and isinstance(high, int) else "number"
    return {kind: {"minimum": low, "maximum": high}}


def _above_zero(high: float) -> Mapping[str, Keywords]:
    return {"number": {"exclusiveMinimum": 0, "maximum": high}}


def _text(most: int, least: int = 0) -> Mapping[str, Keywords]:
    return {"string": {"minLength": least, "maxLength": most}}


def _texts(most: int) -> Mapping[str, Keywords]:
    return {"array": {"minItems": 1, "maxItems": most, "items": {"type": "string", "minLength": 1}}}


def bounds(limits: Limits, grammar: GrammarLimits) -> Bounds:
    """All bounds, by the names of fields: a name means the same in all APIs."""
    id = {"type": "integer", "minimum": 0, "maximum": _INT32}
    stop = {"type": "string", "minLength": 1, "maxLength": limits.max_stop_length}
    stop_regex = {"type": "string", "minLength": 1, "maxLength": STOP_REGEX_LIMITS.regex_bytes}
    schema = {"string": {"maxLength": grammar.schema_bytes}}
    regex, lark = _text(grammar.regex_bytes, 1), _text(grammar.lark_bytes, 1)
    seed = _span(limits.min_seed, limits.max_seed)
    penalty = _span(-limits.penalty, limits.penalty)
    length = {"integer": {"minimum": 1}}
    return {
        "temperature": _span(0.0, limits.max_temperature),
        "top_p": _above_zero(1),
        "top_k": _span(-1, _INT32),
        "min_p": _span(0.0, 1.0),
        "n": _span(1, limits.max_n),
        "frequency_penalty": penalty,
        "presence_penalty": penalty,
        "repetition_penalty": _span(limits.min_repetition_penalty, limits.max_repetition_penalty),
        "seed": seed,
        "sampling_seed": seed,
        "max_tokens": length,
        "max_completion_tokens": length,
        "logprobs": _span(0, limits.max_logprobs),
        "top_logprobs": _span(0, limits.max_logprobs),
        "prompt_logprobs": _span(0, limits.max_logprobs),
        "logprob_token_ids": {
            "array": {
                "minItems": 1,
                "maxItems": limits.max_logprob_ids,
                "items": id,
            }
        },
        "truncate_prompt_tokens": _span(-1, limits.max_part_tokens),
        "truncation_side": {"string": {"enum": ["left", "right"]}},
        "metadata": {"object": {"maxProperties": limits.max_metadata}},
        "service_tier": {"string": {"enum": ["auto", "default"]}},
        "safety_identifier": _text(limits.max_label),
        "prompt_cache_key": _text(limits.max_label),
        "reasoning_effort": {"string": {"enum": [*EFFORTS]}, "number": {"minimum": 0, "exclusiveMaximum": 1}},
        "verbosity": {"string": {"enum": [*VERBOSITIES]}},
        "max_new_tokens": {"integer": {"minimum": 0}},
        "top_logprobs_num": _span(0, limits.max_native_logprobs),
        "logprob_start_len": {"integer": {"minimum": -1}},
        "token_ids_logprob": {"array": {"maxItems": limits.max_logprob_ids}},
        "rid": _text(limits.max_label),
        "min_tokens": {"integer": {"minimum": 0}},
        "min_new_tokens": {"integer": {"minimum": 0}},
        "stop": {
            "string": stop,
            "integer": id,
            "array": {"maxItems": limits.max_stop_strings + limits.max_stop_ids, "items": {"anyOf": [stop, id]}},
        },
        "stop_regex": {"string": stop_regex, "array": {"maxItems": limits.max_stop_regexes, "items": stop_regex}},
        "stop_token_ids": {"array": {"maxItems": limits.max_stop_ids, "items": id}},
        "logit_bias": {
            "object": {
                "maxProperties": limits.max_logit_bias,
                "propertyNames": {"pattern": "^[0-9]+$", "maxLength": limits.max_number_digits},
                "additionalProperties": {"type": "number", **_span(-limits.logit_bias, limits.logit_bias)["number"]},
            }
        },
        "timeout": _above_zero(limits.max_timeout_s),
        "content": {"array": {"maxItems": limits.max_parts}},
        "cache_salt": _text(limits.max_label),
        "abort_message": _text(limits.max_label),
        "user": _text(limits.max_label),
        "priority": _span(-limits.priority, limits.priority),
        "messages": {"array": {"minItems": 1, "maxItems": limits.max_messages}},
        "segments": {"array": {"minItems": 1, "maxItems": limits.max_segments, "items": _SEGMENT}},
        "tools": {"array": {"maxItems": limits.max_tools, "items": _tool(limits)}},
        "chat_template_kwargs": {"object": {"maxProperties": limits.max_template_variables}},
        "regex": regex,
        "guided_regex": regex,
        "grammar": lark,
        "ebnf": lark,
        "guided_grammar": lark,
        "bad_words": {
            "array": {
                "maxItems": grammar.bad_words,
                "items": {"type": "string", "minLength": 1, "maxLength": grammar.bad_word},
            }
        },
        "allowed_token_ids": {"array": {"maxItems": grammar.allowed_tokens, "items": id}},
        "choice": _texts(grammar.enum_values),
        "guided_choice": _texts(grammar.enum_values),
        "json_schema": schema,
        "guided_json": schema,
        "json": schema,
        "whitespace": {"string": {"enum": [option.value for option in Whitespace]}},
        "jump_forward": {"string": {"enum": [option.value for option in Jump]}},
    }


_SEGMENT = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "required": ["gen"],
            "properties": {"gen": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,63}$"}},
        },
    ]
}


def _tool(limits: Limits) -> Keywords:
    """One of ``tools``: read with more care than a type can say, in tools/toolbox.py."""
    name = {"type": "string", "minLength": 1, "maxLength": limits.max_tool_name, "pattern": _TOOL_NAME}
    function = {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": name,
            "description": {"type": ["string", "null"]},
            "parameters": {"type": ["object", "null"]},
            "strict": {"type": ["boolean", "null"]},
        },
    }
    return {
        "type": "object",
        "required": ["type", "function"],
        "properties": {"type": {"const": "function"}, "function": function},
    }


ENUMS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("Message", "role"): ("system", "developer", "user", "assistant", "tool"),
    ("Part", "type"): ("text", "input_text", "output_text", "refusal", "thinking", "reasoning"),
    ("ResponseFormat", "type"): ("text", "json_object", "json_schema"),
}
"""Texts that are one of several, by struct and field."""


_IDS = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0, "maximum": _INT32}}


def forms(limits: Limits) -> Mapping[tuple[str, str], Keywords]:
    """Fields whose type allows mixtures that are refused: the schemas of what is taken, by struct and field."""
    many_texts = {"type": "array", "minItems": 1, "maxItems": limits.max_inputs, "items": {"type": "string"}}
    many_lists = {"type": "array", "minItems": 1, "maxItems": limits.max_inputs, "items": _IDS}
    texts = {"type": "array", "minItems": 1, "maxItems": limits.max_sequences, "items": {"type": "string"}}
    lists = {"type": "array", "minItems": 1, "maxItems": limits.max_sequences, "items": _IDS}
    return {
        ("CompletionRequest", "max_tokens"): {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]},
        ("CompletionRequest", "prompt"): {"anyOf": [{"type": "string"}, texts, _IDS, lists]},
        ("EmbeddingRequest", "input"): {"anyOf": [{"type": "string"}, many_texts, _IDS, many_lists]},
        ("ScoreRequest", "items"): {"anyOf": [{"type": "string"}, many_texts, many_lists, {"type": "null"}]},
        ("TokenizeRequest", "prompt"): {"anyOf": [{"type": "string"}, texts, {"type": "null"}]},
        ("DetokenizeRequest", "tokens"): {"anyOf": [_IDS | {"minItems": 0}, many_lists]},
        ("GenerateRequest", "text"): {"anyOf": [{"type": "string"}, texts, {"type": "null"}]},
        ("GenerateRequest", "input_ids"): {"anyOf": [_IDS, lists, {"type": "null"}]},
        **context_forms(limits),
        **messages_forms(limits),
        **responses_forms(limits),
    }


def bounded(schema: Mapping[str, Any], keywords: Mapping[str, Keywords]) -> dict[str, Any]:
    """A field's schema, or each of its alternatives, with the keywords for its type."""
    found = dict(schema)
    if "anyOf" in found:
        found["anyOf"] = [bounded(option, keywords) for option in found["anyOf"]]
    elif isinstance(kind := found.get("type"), str):
        found |= keywords.get(kind, {})
    return found
