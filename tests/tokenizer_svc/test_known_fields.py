"""Every field that OpenAI, vLLM and SGLang know is served or refused by name: none is accepted and ignored.

OpenAI's are read from its client. Sources of the others: vLLM's entrypoints/openai/chat_completion/protocol.py and
completion/protocol.py, SGLang's srt/entrypoints/openai/protocol.py, both as of summer 2026.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params

from tokenizer_svc import unsupported
from tokenizer_svc.openai_fields import ChatRequest, CompletionRequest

VLLM = """
    model frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed stop stream stream_options
    temperature top_p user use_beam_search top_k min_p repetition_penalty watermarking length_penalty stop_token_ids
    include_stop_str_in_output ignore_eos min_tokens skip_special_tokens spaces_between_special_tokens
    truncate_prompt_tokens truncation_side prompt_logprobs logprob_token_ids allowed_token_ids bad_words
    add_special_tokens response_format structured_outputs priority request_id session_id return_tokens_as_token_ids
    return_token_ids routed_experts_prompt_start return_token_offsets cache_salt kv_transfer_params ec_transfer_params
    vllm_xargs repetition_detection thinking_token_budget stream_interval echo
"""
VLLM_CHAT = """
    messages top_logprobs max_completion_tokens tools tool_choice reasoning_effort include_reasoning parallel_tool_calls
    add_generation_prompt continue_final_message documents chat_template chat_template_kwargs media_io_kwargs
    mm_processor_kwargs return_prompt_text
"""
VLLM_COMPLETIONS = ["prompt", "suffix", "prompt_embeds"]

SGLANG = """
    model frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed stop stream stream_options
    temperature top_p user return_hidden_states return_routed_experts routed_experts_start_len return_token_ids
    return_cached_tokens_details top_k min_p min_tokens regex ebnf repetition_penalty stop_token_ids stop_regex
    no_stop_trim ignore_eos skip_special_tokens lora_path session_id session_params response_format custom_params
    custom_logit_processor images_config bootstrap_host bootstrap_port bootstrap_room routed_dp_rank
    disagg_prefill_dp_rank data_parallel_rank rid extra_key cache_salt ngram_corpus_id priority
"""
SGLANG_CHAT = """
    messages top_logprobs max_completion_tokens tools tool_choice parallel_tool_calls return_prompt_token_ids
    return_meta_info reasoning_effort reasoning task continue_final_message separate_reasoning stream_reasoning
    chat_template_kwargs max_dynamic_patch min_dynamic_patch use_audio_in_video input_ids
"""
SGLANG_COMPLETIONS = ["prompt", "echo", "suffix", "best_of", "json_schema", "custom_labels"]


def openai_fields(kind: type) -> Iterable[str]:
    return kind.__annotations__


CHAT = {
    "openai": openai_fields(chat_create_params.CompletionCreateParamsBase),
    "vllm": [*VLLM.split(), *VLLM_CHAT.split()],
    "sglang": [*SGLANG.split(), *SGLANG_CHAT.split()],
}
COMPLETIONS = {
    "openai": openai_fields(completion_create_params.CompletionCreateParamsBase),
    "vllm": [*VLLM.split(), *VLLM_COMPLETIONS],
    "sglang": [*SGLANG.split(), *SGLANG_COMPLETIONS],
}


@pytest.mark.parametrize("server", CHAT)
def test_chats(server: str) -> None:
    known = {*ChatRequest.__struct_fields__, *unsupported.CHAT}
    assert sorted(set(CHAT[server]) - known) == []


@pytest.mark.parametrize("server", COMPLETIONS)
def test_completions(server: str) -> None:
    known = {*CompletionRequest.__struct_fields__, *unsupported.COMPLETIONS}
    assert sorted(set(COMPLETIONS[server]) - known) == []


def test_nothing_is_both_served_and_refused() -> None:
    assert unsupported.CHAT.keys() & set(ChatRequest.__struct_fields__) == set()
    assert unsupported.COMPLETIONS.keys() & set(CompletionRequest.__struct_fields__) == set()


def test_every_refusal_says_what_to_do_or_why() -> None:
    assert all(len(hint) >= 5 for hint in (*unsupported.CHAT.values(), *unsupported.COMPLETIONS.values()))
