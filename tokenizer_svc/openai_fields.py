"""The fields of requests of OpenAI's API, chat and completions: names and types, and nothing of what they mean."""

from __future__ import annotations

from typing import Any

import msgspec

from tokenizer_svc.chat import Message
from tokenizer_svc.prompts import RawPrompt
from tokenizer_svc.sampling import SamplingFields


class StreamOptions(msgspec.Struct):
    """What a stream carries besides text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = None


class OpenAIFields(SamplingFields, kw_only=True):
    """Fields of both requests."""

    model: str | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    include_stop_str_in_output: bool | None = None
    prompt_logprobs: int | None = None
    logprob_token_ids: list[int] | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    add_special_tokens: bool | None = None
    truncate_prompt_tokens: int | None = None
    truncation_side: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    cache_salt: str | None = None
    priority: int | None = None
    resumable: bool | None = None
    background: bool | None = None
    timeout: float | None = None


class ChatRequest(OpenAIFields, kw_only=True):
    """POST /v1/chat/completions."""

    messages: list[Message]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    documents: list[dict[str, Any]] | None = None
    reasoning_effort: str | float | None = None
    verbosity: str | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    separate_reasoning: bool | None = None
    include_reasoning: bool | None = None
    stream_reasoning: bool | None = None


class CompletionRequest(OpenAIFields, kw_only=True):
    """POST /v1/completions."""

    prompt: RawPrompt
    echo: bool | None = None
    logprobs: int | None = None
