"""Fields of other servers: each refused by name when it asks for something, each accepted when it does not."""

from __future__ import annotations

from typing import Any

import aiohttp

from tests.tokenizer_svc.downstream import Downstream
from tokenizer_svc import unsupported

BODIES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "/v1/chat/completions": ({"messages": [{"role": "user", "content": "hi"}]}, unsupported.CHAT),
    "/v1/completions": ({"prompt": "hi"}, unsupported.COMPLETIONS),
    "/generate": ({"text": "hi"}, unsupported.GENERATE),
}

ASKING: dict[str, list[Any]] = {
    "response_format": [{"type": "json_object"}, {"type": "json_schema", "json_schema": {}}],
    "guided_decoding_backend": ["xgrammar"],
    "best_of": [2],
    "modalities": [["text", "audio"]],
    "length_penalty": [1.5],
    "logprob_start_len": [0],
    "stream_interval": [4],
}
"""Values that ask for something; any other field is asked for with some plain values."""

NOTHING: dict[str, list[Any]] = {
    "response_format": [{"type": "text"}],
    "guided_decoding_backend": ["auto"],
    "modalities": [["text"]],
    "best_of": [1],
    "length_penalty": [1.0],
    "logprob_start_len": [-1],
    "stream_interval": [1],
    "thinking_token_budget": [-1],
    "prompt_cache_retention": ["in_memory"],
    "prompt_cache_options": [{"mode": "implicit"}],
    "routed_experts_start_len": [0],
}


async def test_each_is_refused_by_name(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    for path, (body, fields) in BODIES.items():
        for name in fields:
            for value in ASKING.get(name, [True, "x", ["x"], {"x": 1}, 1]):
                async with http.post(path, json=body | {name: value}) as response:
                    answer = await response.json()
                assert response.status == 400, (path, name, value)
                assert answer["error"]["param"] == name
                assert answer["error"]["code"] == "unsupported_parameter"
                assert f"'{name}' is not supported" in answer["error"]["message"]
    assert not downstream.generates


async def test_sampling_params_are_refused_by_path(http: aiohttp.ClientSession) -> None:
    for name in unsupported.SAMPLING_PARAMS:
        params = {name: ASKING.get(name, ["x"])[0]}
        for value, prefix in ((params, "sampling_params"), ([params], "sampling_params[0]")):
            async with http.post("/generate", json={"text": ["hi"], "sampling_params": value}) as response:
                assert response.status == 400
                assert (await response.json())["error"]["param"] == f"{prefix}.{name}"


async def test_values_that_ask_for_nothing_pass(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    for path, (body, fields) in BODIES.items():
        for nothing in (None, False, "", [], {}):
            async with http.post(path, json=body | dict.fromkeys(fields, nothing)) as response:
                assert response.status == 200, await response.text()
        for name in fields.keys() & NOTHING.keys():
            for value in NOTHING[name]:
                async with http.post(path, json=body | {name: value}) as response:
                    assert response.status == 200, (path, name, value)


async def test_what_nobody_knows_is_ignored(http: aiohttp.ClientSession) -> None:
    for path, (body, _) in BODIES.items():
        async with http.post(path, json=body | {"frobnicate": {"deep": [1]}}) as response:
            assert response.status == 200


async def test_messages(http: aiohttp.ClientSession) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"role": "user", "content": [{"type": "text", "text": "look"}, image]}, "messages[0].content[1].type"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "messages[0].content[0].type"),
        ({"role": "function", "name": "f", "content": "4"}, "messages[0].role"),
        ({"role": "assistant", "content": "a", "function_call": {"name": "f"}}, "messages[0].function_call"),
        ({"role": "assistant", "content": "a", "audio": {"id": "a"}}, "messages[0].audio"),
    ]
    for message, param in cases:
        async with http.post("/v1/chat/completions", json={"messages": [message]}) as response:
            assert response.status == 400
            assert (await response.json())["error"]["param"] == param


async def test_stream_options(http: aiohttp.ClientSession) -> None:
    name = "include_obfuscation"
    body = {"prompt": "a", "stream": True, "stream_options": {name: True}}
    async with http.post("/v1/completions", json=body) as response:
        assert (await response.json())["error"]["param"] == f"stream_options.{name}"
