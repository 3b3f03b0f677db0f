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
_MEDIA = "only text is served"
_ADAPTERS = "adapters are not served"
_INTERNAL = "it steers another server's insides"
_BEAMS = "beam search is not served"
_SESSIONS = "sessions are not served; a shared prefix is reused by itself"
_IDS = "request ids are made by the server; for its logs send the header X-Request-Id"
_EXPERTS = "there are no routed experts"
_RENDERED = "the rendered prompt is not returned: return_token_ids returns its tokens"

COMMON = {
    "best_of": "use n",
    "length_penalty": _BEAMS,
    "early_stopping": _BEAMS,
    "use_beam_search": _BEAMS,
    "logit_processors": "use logit_bias",
    "logits_processors": "use logit_bias",
    "custom_logit_processor": "use logit_bias",
    "return_hidden_states": "hidden states are not served",
    "structural_tag": _STRUCTURE,
    "guided_decoding_backend": _INTERNAL,
    "guided_whitespace_pattern": "use whitespace",
    "lora": _ADAPTERS,
    "lora_path": _ADAPTERS,
    "lora_request": _ADAPTERS,
    "adapter": _ADAPTERS,
    "session_params": _SESSIONS,
    "session_id": _SESSIONS,
    "rid": _IDS,
    "request_id": _IDS,
    "extra_key": "use cache_salt",
    "custom_labels": "metrics have no labels of clients",
    "kv_transfer_params": _INTERNAL,
    "ec_transfer_params": _INTERNAL,
    "vllm_xargs": _INTERNAL,
    "custom_params": _INTERNAL,
    "bootstrap_host": _INTERNAL,
    "bootstrap_port": _INTERNAL,
    "bootstrap_room": _INTERNAL,
    "data_parallel_rank": _INTERNAL,
    "routed_dp_rank": _INTERNAL,
    "disagg_prefill_dp_rank": _INTERNAL,
    "ngram_corpus_id": _INTERNAL,
    "return_routed_experts": _EXPERTS,
    "routed_experts_start_len": _EXPERTS,
    "routed_experts_prompt_start": _EXPERTS,
    "watermarking": "watermarks are not served",
    "repetition_detection": "use repetition_penalty",
    "stream_interval": "every token is sent as it comes",
}
"""Field to what to do instead, for all APIs."""

OPENAI = COMMON | {
    "store": "answers are not kept",
    "prompt_cache_retention": "the cache keeps what was used last",
    "prompt_cache_options": "the cache keeps what was used last",
    "return_cached_tokens_details": "usage has the number of cached tokens",
    "return_token_offsets": "logprobs of completions have text_offset",
    "images_config": _MEDIA,
    "thinking_token_budget": "use max_tokens, or reasoning_effort where the model's template knows it",
    "return_prompt_token_ids": "use return_token_ids, which returns those of the prompt, too",
    "return_prompt_text": _RENDERED,
}

CHAT = OPENAI | {
    "functions": "use tools",
    "function_call": "use tool_choice",
    "audio": _MEDIA,
    "modalities": _MEDIA,
    "prediction": "predicted outputs are not served",
    "reasoning": "use reasoning_effort",
    "web_search_options": "web search is not served",
    "moderation": "moderation is not served",
    "chat_template": "a template is a program, and only the model's own is run: use /v1/completions",
    "mm_processor_kwargs": _MEDIA,
    "media_io_kwargs": _MEDIA,
    "max_dynamic_patch": _MEDIA,
    "min_dynamic_patch": _MEDIA,
    "use_audio_in_video": _MEDIA,
    "echo": "use /v1/completions for plain texts and add the prompt yourself",
    "input_ids": "use /v1/completions",
    "task": "say it in a message",
    "return_meta_info": "use /generate, whose answers have meta_info",
}

COMPLETIONS = OPENAI | {
    "suffix": "filling in the middle is not served: put what comes before and after into the prompt",
    "prompt_embeds": "send text or token ids",
}

_OF_OTHER_APIS = {
    "prompt_logprobs": "use return_logprob and logprob_start_len",
    "truncate_prompt_tokens": "shorten the prompt before sending it",
    "return_token_ids": "answers have output_ids",
    "return_tokens_as_token_ids": "answers have output_ids",
}

GENERATE = (
    {name: instead for name, instead in COMMON.items() if name != "rid"}
    | _OF_OTHER_APIS
    | dict.fromkeys(StructureFields.__struct_fields__, "put it into sampling_params")
    | {
        "image_data": _MEDIA,
        "audio_data": _MEDIA,
        "video_data": _MEDIA,
        "modalities": _MEDIA,
        "input_embeds": "send text or input_ids",
        "return_sampling_mask": "use return_logprob and top_logprobs_num",
        "return_flat_raw_top_logprobs": "use top_logprobs_num",
        "return_routed_experts": _INTERNAL,
        "return_entropy": "use return_logprob and top_logprobs_num",
        "lora_id": _ADAPTERS,
        "extra_key": "use cache_salt",
        "max_thinking_tokens": "use a template with a bounded part",
        "positional_embed_overrides": "send text or input_ids",
    }
)

SAMPLING_PARAMS = COMMON | _OF_OTHER_APIS

EMBEDDINGS = {
    "dimensions": "vectors of this model cannot be cut: leave it out",
    "messages": "send the text of the conversation as input",
    "additional_data": "put it into the texts",
    "lora_path": _ADAPTERS,
}

SCORE = {
    "queries": "send text_1 and text_2",
    "documents": "send text_1 and text_2",
    "data_1": "send text_1 and text_2",
    "data_2": "send text_1 and text_2",
    "truncate_prompt_tokens": "shorten the texts before sending them",
    "lora_path": _ADAPTERS,
}

TOKENIZE = {
    "chat_template": "the model's own template is used",
    "mm_processor_kwargs": _MEDIA,
}

CONTEXTS = {
    "messages": "send them as parts",
    "prompt": "send it as a part of the type text",
    "resumable": "send the same request again with the same id: what was computed is kept",
    "background": "send the request again with the same id to fetch its answer",
    "metadata": "requests for contexts carry none",
    "reasoning_effort": "use chat_template_kwargs",
    "documents": "use chat_template_kwargs, or put them into a message",
    **dict.fromkeys(("temperature", "max_tokens", "stop", "seed", "n"), "say it in each part of the type gen"),
    **dict.fromkeys(StructureFields.__struct_fields__, "say it in each part of the type gen"),
}

CONTEXT_GEN = COMMON | {
    "max_completion_tokens": "use max_tokens",
    "prompt_logprobs": "use a part of the type select, or /v1/completions",
    "logprob_token_ids": "use top_logprobs, or /v1/chat/completions",
    "truncate_prompt_tokens": "a context is never shortened: send what should be in it",
    "echo": "the answer has the text of this part alone",
    "return_token_ids": "it is a field of the whole request",
    "tools": "they are said once, where parent is null",
    "stream": "it is a field of the whole request",
    "timeout": "it is a field of the whole request",
    "priority": "it is a field of the whole request",
    "separate_reasoning": "reasoning is always told apart",
    "include_reasoning": "reasoning is always told apart",
}

_NEUTRAL: dict[str, tuple[object, ...]] = {
    "function_call": ("none",),
    "response_format": ({"type": "text"},),
    "guided_decoding_backend": ("auto",),
    "modalities": (["text"],),
    "length_penalty": (1, 1.0),
    "prompt_cache_retention": ("in_memory", "in-memory"),
    "prompt_cache_options": ({"mode": "implicit"},),
    "routed_experts_start_len": (0,),
    "routed_experts_prompt_start": (0,),
    "stream_interval": (1,),
    "thinking_token_budget": (-1,),
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
