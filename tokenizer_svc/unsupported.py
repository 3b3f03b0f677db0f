"""Fields that other servers know and this one does not serve: refused by name when they ask for something.

Values that ask for nothing (null, false, empty, the field's own neutral value) pass, so that clients that
always send a field keep working. Fields that nobody knows are ignored, as OpenAI does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizer_svc.api_error import unsupported
from tokenizer_svc.structure import StructureFields

_STRUCTURE = "use regex, choice, json_schema or grammar"
_LOGPROBS = "log probabilities are not served"
_MEDIA = "only text is served"
_ADAPTERS = "adapters are not served"
_INTERNAL = "it steers another server's insides"

COMMON = {
    "best_of": "use n",
    "length_penalty": "beam search is not served",
    "early_stopping": "beam search is not served",
    "use_beam_search": "beam search is not served",
    "logit_processors": "use logit_bias",
    "logits_processors": "use logit_bias",
    "custom_logit_processor": "use logit_bias",
    "allowed_token_ids": "use logit_bias",
    "bad_words": "use logit_bias",
    "prompt_logprobs": _LOGPROBS,
    "return_hidden_states": "hidden states are not served",
    "structural_tag": _STRUCTURE,
    "guided_decoding_backend": _INTERNAL,
    "guided_whitespace_pattern": "use whitespace",
    "lora": _ADAPTERS,
    "lora_path": _ADAPTERS,
    "lora_request": _ADAPTERS,
    "adapter": _ADAPTERS,
    "truncate_prompt_tokens": "shorten the prompt before sending it",
    "return_token_ids": "use /generate, which returns output_ids",
    "return_tokens_as_token_ids": "use /generate, which returns output_ids",
    "session_params": "sessions are not served; a shared prefix is reused by itself",
    "rid": "request ids are made by the server",
    "request_id": "request ids are made by the server",
    "kv_transfer_params": _INTERNAL,
    "vllm_xargs": _INTERNAL,
    "custom_params": _INTERNAL,
    "bootstrap_host": _INTERNAL,
    "bootstrap_port": _INTERNAL,
    "bootstrap_room": _INTERNAL,
    "data_parallel_rank": _INTERNAL,
}
"""Field to what to do instead, for all APIs."""

OPENAI = COMMON | {
    "logprobs": _LOGPROBS,
    "top_logprobs": _LOGPROBS,
    "store": "answers are not kept",
    "metadata": "answers are not kept",
    "service_tier": "there is one tier; use priority",
    "prompt_cache_key": "use cache_salt to keep caches apart; a shared prefix is reused by itself",
    "prompt_cache_retention": "the cache keeps what was used last",
}

CHAT = OPENAI | {
    "functions": "use tools",
    "function_call": "use tool_choice",
    "audio": _MEDIA,
    "modalities": _MEDIA,
    "prediction": "predicted outputs are not served",
    "reasoning_effort": "pass what the model's template knows in chat_template_kwargs",
    "verbosity": "say it in a message",
    "web_search_options": "web search is not served",
    "moderation": "moderation is not served",
    "documents": "put them into a message",
    "chat_template": "the model's own template is used",
    "continue_final_message": "use /v1/completions to continue a text",
    "mm_processor_kwargs": _MEDIA,
    "echo": "use /v1/completions for plain texts and add the prompt yourself",
}

COMPLETIONS = OPENAI | {
    "echo": "add the prompt yourself",
    "suffix": "filling in the middle is not served",
    "prompt_embeds": "send text or token ids",
}

GENERATE = (
    COMMON
    | dict.fromkeys(StructureFields.__struct_fields__, "put it into sampling_params")
    | {
        "image_data": _MEDIA,
        "audio_data": _MEDIA,
        "video_data": _MEDIA,
        "modalities": _MEDIA,
        "input_embeds": "send text or input_ids",
        "return_logprob": _LOGPROBS,
        "logprob_start_len": _LOGPROBS,
        "top_logprobs_num": _LOGPROBS,
        "token_ids_logprob": _LOGPROBS,
    }
)

SAMPLING_PARAMS = COMMON | {"stream_interval": "every token is sent as it comes"}

_NEUTRAL: dict[str, tuple[object, ...]] = {
    "function_call": ("none",),
    "response_format": ({"type": "text"},),
    "guided_decoding_backend": ("auto",),
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
    "length_penalty": (1, 1.0),
    "top_logprobs": (0,),
    "top_logprobs_num": (0,),
    "logprob_start_len": (-1,),
}
"""Values beyond null, false and empty ones that ask for nothing."""


def refuse(body: Mapping[str, Any], fields: Mapping[str, str], prefix: str = "") -> None:
    """Raises ApiError 400 naming the first field that asks for what is not served."""
    for name, value in body.items():
        if name not in fields:
            continue
        nothing = value is None or value is False or value in ("", [], {}) or _is_neutral(name, value, body)
        if not nothing:
            raise unsupported(f"{prefix}{name}", fields[name])


def _is_neutral(name: str, value: object, body: Mapping[str, Any]) -> bool:
    if isinstance(value, bool):
        return False
    return value in _NEUTRAL.get(name, ()) or (name == "best_of" and value == (body.get("n") or 1))
