"""What holds where a field of a request is left out or null.

A name has the same default in all APIs, or is listed with its struct. Knows nothing of routes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shared.grammar import Whitespace
from shared.protocol import Jump, PauseMode, Sampling
from tokenizer_svc.generate import NEW_TOKENS
from tokenizer_svc.openai import COMPLETION_TOKENS

_OF_SAMPLING = {
    *("temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty"),
    "min_tokens",
}
_ON = {
    *("skip_special_tokens", "add_generation_prompt", "parallel_tool_calls", "store", "keep"),
    *("separate_reasoning", "include_reasoning", "stream_reasoning"),
}
"""Switches that are on. All others are off."""

DEFAULTS: Mapping[str, Any] = {
    "n": 1,
    **{field.name: field.default for field in msgspec.structs.fields(Sampling) if field.name in _OF_SAMPLING},
    **dict.fromkeys(_ON, True),
    "min_new_tokens": 0,
    "priority": 0,
    "top_logprobs": 0,
    "top_logprobs_num": 0,
    "logprob_start_len": -1,
    "tool_choice": "auto",
    "truncation": "disabled",
    "truncation_side": "left",
    "encoding_format": "float",
    "whitespace": Whitespace.SPACED.value,
    "jump_forward": Jump.CANONICAL.value,
    "verbosity": "medium",
    "mode": PauseMode.ABORT.value,
    "strict": None,  # schemas are always obeyed
    "spaces_between_special_tokens": None,  # of no effect
}
BY_PLACE: Mapping[tuple[str, str], Any] = {
    ("CompletionRequest", "max_tokens"): COMPLETION_TOKENS,
    ("SamplingParams", "max_new_tokens"): NEW_TOKENS,
    ("CompletionRequest", "add_special_tokens"): True,
    ("EmbeddingRequest", "add_special_tokens"): True,
    ("DetokenizeRequest", "skip_special_tokens"): False,
    ("ChatRequest", "verbosity"): None,  # the template's own
    ("MessagesRequest", "tool_choice"): {"type": "auto"},
    ("MessagesCountRequest", "tool_choice"): {"type": "auto"},
}
"""Where a name has another default: by struct and field."""

_FITTING, _DRAWN, _SET = "what fits", "a random one", "that of `--pooling`"
IN_WORDS: Mapping[tuple[str, str], str] = {
    ("ChatRequest", "max_tokens"): _FITTING,
    ("ChatRequest", "max_completion_tokens"): _FITTING,
    ("ResponsesRequest", "max_output_tokens"): _FITTING,
    ("GenPart", "max_tokens"): _FITTING,
    ("GenPart", "seed"): _DRAWN,
    ("ChatRequest", "seed"): _DRAWN,
    ("CompletionRequest", "seed"): _DRAWN,
    ("ResponsesRequest", "seed"): _DRAWN,
    ("SamplingParams", "sampling_seed"): _DRAWN,
    ("EmbeddingRequest", "pooling"): _SET,
    ("ScoreRequest", "pooling"): _SET,
    ("TokenizeRequest", "add_special_tokens"): "true for texts, false for messages",
    ("ChatRequest", "add_generation_prompt"): "true unless the last message is continued",
    ("TokenizeRequest", "add_generation_prompt"): "true unless the last message is continued",
}
"""Those that no single value says."""


def default_of(struct: str, field: str, schema: Mapping[str, Any]) -> Any:
    """The value of a field that is left out; None where it then does nothing."""
    if (struct, field) in IN_WORDS:
        return None
    if (struct, field) in BY_PLACE:
        return BY_PLACE[struct, field]
    if field in DEFAULTS:
        return DEFAULTS[field]
    return False if _is_switch(schema) else None


def _is_switch(schema: Mapping[str, Any]) -> bool:
    options = schema.get("anyOf", [schema])
    kinds = {option.get("type") for option in options} - {"null"}
    return kinds == {"boolean"}
