"""What fields of requests mean, in a sentence each.

A name means the same in all APIs, or is listed with its struct. Read by the OpenAPI document, and through it by /docs
and docs/api.md. Knows nothing of routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from tokenizer_svc.openapi_defaults import IN_WORDS, default_of

MEANINGS: Mapping[str, str] = {
    "model": "One of the names that /v1/models lists",
    "messages": "The conversation so far, oldest first",
    "prompt": "What to continue: a text, token ids, or several of either",
    "text": "What to continue: a text or several",
    "input_ids": "What to continue, as token ids",
    "input": "What to work on",
    "segments": "A template: texts, and gaps that the model fills",
    "sampling_params": "How to draw tokens: one for all prompts, or one for each",
    "role": "Who speaks",
    "content": "What was said",
    "name": "A name for who speaks, or for what is described",
    "temperature": "How much chance there is in a draw; 0 takes the likeliest token",
    "top_p": "Draw among the likeliest tokens that have this much of the probability together",
    "top_k": "Draw among so many of the likeliest tokens; 0 and -1: all",
    "min_p": "Draw among tokens at least this likely, measured by the likeliest",
    "frequency_penalty": "Makes tokens less likely each time they have been written",
    "presence_penalty": "Makes tokens less likely once they have been written",
    "repetition_penalty": "Makes tokens of prompt and answer less likely; 1 does nothing",
    "seed": "The same seed draws the same tokens, whatever runs beside",
    "sampling_seed": "SGLang's name for seed",
    "n": "So many answers to each prompt",
    "max_tokens": "Most tokens of an answer; 0: the prompt is computed and nothing is written",
    "max_completion_tokens": "Another name for max_tokens",
    "max_output_tokens": "Another name for max_tokens",
    "max_new_tokens": "SGLang's name for max_tokens",
    "min_tokens": "No end of any kind before so many tokens",
    "min_new_tokens": "SGLang's name for min_tokens",
    "stop": "Texts, or ids of tokens, that end an answer",
    "stop_sequences": "Texts that end an answer",
    "stop_token_ids": "Tokens that end an answer",
    "stop_regex": "Patterns that end an answer",
    "ignore_eos": "Go on after the model's own end",
    "include_stop_str_in_output": "Leave the stop text in the answer",
    "no_stop_trim": "SGLang's name for include_stop_str_in_output",
    "skip_special_tokens": "Show no tokens that have a meaning for the model alone",
    "logit_bias": "Added to the logits of tokens, by their ids",
    "allowed_token_ids": "The only tokens that may be drawn",
    "bad_words": "Texts that may not be written",
    "logprobs": "Log-probabilities of what was written",
    "top_logprobs": "So many of the likeliest tokens besides, at each place",
    "prompt_logprobs": "Log-probabilities of the prompt, with so many of the likeliest tokens",
    "return_logprob": "Log-probabilities of what was written",
    "logprob_start_len": "From which token of the prompt on; -1: of the answer alone",
    "top_logprobs_num": "So many of the likeliest tokens besides, at each place",
    "token_ids_logprob": "And these tokens, whatever their rank",
    "return_text_in_logprobs": "With the text of each token",
    "return_tokens_as_token_ids": "Tokens of log-probabilities as token_id:…",
    "return_token_ids": "The ids of prompt and answer, too",
    "echo": "Begin the answer with its prompt",
    "suffix": "What follows the gap",
    "stream": "The answer as server-sent events while it is written",
    "stream_options": "What a stream tells besides",
    "include_usage": "Tokens counted, at the end of the stream",
    "continuous_usage_stats": "Tokens counted so far, with each piece",
    "resumable": "A stream that can be gone on with after its connection broke",
    "background": "Answer at once where the answer will be, and go on without the client",
    "timeout": "Seconds after which nobody wants the answer any more",
    "priority": "Who goes first; a higher number does",
    "user": "Who it is for: the machine is shared fairly between them where there are no keys",
    "cache_salt": "Cached prefixes are reused under the same salt alone",
    "tools": "What the model may call",
    "tool_choice": "Whether it must call, and what",
    "parallel_tool_calls": "Whether it may call several at once",
    "tool_calls": "What the model called",
    "tool_call_id": "Which call this is the result of",
    "reasoning_effort": "How long the model should think, where its template knows that",
    "reasoning_content": "What the model thought",
    "include_reasoning": "Whether thoughts are shown",
    "separate_reasoning": "Whether thoughts are told apart from the answer",
    "stream_reasoning": "Whether thoughts are streamed as they come",
    "add_generation_prompt": "End the prompt with the words that make the model answer",
    "continue_final_message": "Go on with the last message",
    "chat_template_kwargs": "Variables of the chat template",
    "chat_template": "A template in place of the model's own",
    "add_special_tokens": "Begin with the tokens that the model's texts begin with",
    "truncate_prompt_tokens": "Keep so many tokens of the prompt, the last ones",
    "response_format": "What the answer must be: text, JSON, or JSON of a schema",
    "structured_outputs": "What the answer must be, as vLLM has it",
    "regex": "The answer matches this pattern",
    "choice": "The answer is one of these",
    "json": "The answer is JSON of this schema",
    "json_object": "The answer is a JSON object",
    "json_schema": "The answer is JSON of this schema",
    "schema": "A JSON schema",
    "grammar": "The answer obeys this grammar, in Lark's or llama.cpp's form",
    "ebnf": "SGLang's name for grammar",
    "guided_json": "vLLM's earlier name for json_schema",
    "guided_regex": "vLLM's earlier name for regex",
    "guided_choice": "vLLM's earlier name for choice",
    "guided_grammar": "vLLM's earlier name for grammar",
    "guided_json_object": "The answer is a JSON object",
    "whitespace": "Where JSON may have blanks",
    "jump_forward": "Whether text that a grammar leaves no choice about is appended without a draw",
    "documents": "What the model may look things up in, where its template knows that",
    "verbosity": "How much the model should say, where its template knows that",
    "metadata": "Labels of the client's own, given back with what is kept",
    "safety_identifier": "Whom it is for, as OpenAI's newer clients say it",
    "prompt_cache_key": "Cached prefixes are found by themselves: taken, and of no effect",
    "service_tier": "There is one tier",
    "speed": "There is one speed",
    "spaces_between_special_tokens": "Blanks between special tokens, where they are shown",
    "logprob_token_ids": "Log-probabilities of these tokens besides",
    "truncation_side": "Whether the end (left) or the beginning (right) of a prompt that is too long is kept",
    "system": "What the model is told before the conversation",
    "instructions": "What the model is told before the conversation",
    "thinking": "Whether, and for how long, the model thinks first",
    "reasoning": "How the model thinks first",
    "output_config": "What the answer must be, and how long the model should think",
    "include": "What is told besides",
    "max_tool_calls": "Most calls of built-in tools",
    "previous_response_id": "The answer that this goes on from",
    "store": "Whether the answer can be fetched and gone on from later",
    "truncation": "What is done with a conversation that does not fit",
    "encoding_format": "Vectors as lists of numbers, or as base64 of float32",
    "dimensions": "The length of a vector",
    "pooling": "How the vectors of a prompt's tokens become one",
    "normalize": "Vectors of length one",
    "query": "What the items are judged with",
    "items": "What is judged, each by itself",
    "item_first": "The item before the query",
    "label_token_ids": "The tokens whose probabilities are the scores",
    "apply_softmax": "Scores that add up to one",
    "tokens": "Token ids",
    "return_token_strs": "The text of each token, too",
    "text_1": "The first of two texts that are compared, or several",
    "text_2": "The second of two texts that are compared, or several",
    "stream_output": "Each event has what is new, not all so far",
    "incremental_streaming_output": "SGLang's newer name for stream_output",
    "abort_message": "For those who wait for the answers",
    "abort_all": "End all of the caller's requests",
    "mode": "What becomes of requests under way",
    "request_id": "The id of an answer",
    "rid": "The id of an answer, as SGLang calls it",
    "strict": "Taken as true: schemas are always obeyed",
    "description": "For people and models",
    "type": "What kind of thing this is",
}
BY_PLACE: Mapping[tuple[str, str], str] = {
    ("GenerateRequest", "rid"): "Ids of the client's own: one, or one for each prompt",
    ("ContextRequest", "parts"): "What is added, in order",
    ("ContextRequest", "tools"): "Functions that the model may call, for the whole conversation",
    ("ContextRequest", "group"): "A hint: calls of one group share their beginning, and are computed beside each other",
    ("ContextRequest", "prefill"): "Compute the whole context now, although nothing may be written",
    ("ContextRequest", "keep"): "false: nothing goes on from this context, and only its answer is kept for a minute",
    ("ContextRequest", "release"): "Contexts that nobody needs any more",
    ("TextPart", "text"): "Text: by itself, or of the open message",
    ("OpenPart", "role"): "Who speaks in the message that begins here",
    ("MessagePart", "message"): "A whole message, as in a chat",
    ("GenPart", "name"): "What the answer calls this part",
    ("GenPart", "max_tokens"): "Most tokens of this part; all that fit where it is left out",
    ("GenPart", "n"): "So many texts; the context goes on with the first",
    ("GenPart", "choices"): "One of these texts, drawn token by token",
    ("SelectPart", "name"): "What the answer calls this part",
    ("SelectPart", "choices"): "The texts that are scored, of which the best is appended",
    ("SelectPart", "method"): "How the best is found",
    ("ScoreRequest", "pooling"): "How the vectors of a text's tokens become one",
}
"""Where a name means something else: by struct and field."""


def explain(schemas: MutableMapping[str, dict[str, Any]], requests: Iterable[str]) -> None:
    """Write meanings and defaults into the schemas of requests and of what these hold."""
    for name in reachable(schemas, requests):
        for field, schema in schemas[name].get("properties", {}).items():
            if meaning := BY_PLACE.get((name, field)) or MEANINGS.get(field):
                schema.setdefault("description", meaning)
            if field not in schemas[name].get("required", ()) and schema.get("default") is None:
                schema["default"] = default_of(name, field, schema)
                if (name, field) in IN_WORDS:
                    schema["x-default"] = IN_WORDS[name, field]


def reachable(schemas: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """These schemas and all that they refer to, each once, in the order they are met."""
    found: dict[str, None] = {}
    left = [*names]
    while left:
        name = left.pop(0)
        if name not in found:
            found[name] = None
            left += _references(schemas[name])
    return [*found]


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if isinstance(target := schema.get("$ref"), str):
            yield target.rpartition("/")[2]
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)
