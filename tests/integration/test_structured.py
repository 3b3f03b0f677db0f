"""Constrained output through all four services: valid, the same however it came about, and counted right.

The toy model's weights are random and the temperature is 1: only the engine can make such output valid.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import pytest_asyncio
from aiohttp import ClientResponse

from shared.registry import Role
from tests.stack import Stack, running

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["red", "green"]}, "maxItems": 3},
        "note": {"type": ["string", "null"], "maxLength": 5},
    },
    "required": ["name", "age"],
}
NESTED = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"v": {"enum": [1, 2]}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["v", "next"],
        }
    },
    "$ref": "#/$defs/node",
}
WISHES: list[dict[str, Any]] = [
    {"regex": "[a-z]{2,9}( [a-z]{2,9}){0,3}"},
    {"regex": '\\{"id": "[0-9a-f]{8}", "state": "(ready|not ready yet|gone)", "size": [1-9][0-9]{0,3}\\}'},
    {"choice": ["yes", "no", "yes and no", "\u00e9t\u00e9"]},
    {"json_schema": PERSON},
    {"json_schema": PERSON, "whitespace": "compact"},
    {"json_schema": NESTED},
    {"ebnf": 'root ::= "(" root ")" | "x"'},
]


def is_valid(wish: dict[str, Any], text: str) -> bool:
    if "regex" in wish:
        return re.fullmatch(wish["regex"], text, re.ASCII) is not None
    if "choice" in wish:
        return text in wish["choice"]
    if "json_schema" in wish:
        jsonschema.validate(json.loads(text), wish["json_schema"])
        return True
    return re.fullmatch(r"\(*x\)*", text) is not None and text.count("(") == text.count(")")


@pytest_asyncio.fixture
async def stack(redis_url: str, namespace: str, toy_model: Path, cache_dir: Path) -> Any:
    async with running(redis_url, namespace, toy_model, cache_dir) as stack:
        yield stack


async def ask(stack: Stack, wish: dict[str, Any], seed: int, prompt: str = "you are", **params: Any) -> dict[str, Any]:
    extra = {key: params.pop(key) for key in ("cache_salt", "stream") if key in params}
    sampling = {"temperature": 1, "max_new_tokens": 120, "sampling_seed": seed} | wish | params
    return await stack.post("/generate", {"text": prompt, "sampling_params": sampling, **extra})


async def outputs(stack: Stack, **params: Any) -> list[list[int]]:
    """What every wish gets with a few seeds, all at once."""
    asked = [ask(stack, wish, seed, **params) for wish in WISHES for seed in range(3)]
    return [answer["output_ids"] for answer in await asyncio.gather(*asked)]


async def test_every_finished_output_is_valid(stack: Stack) -> None:
    wishes = [(wish, seed, jump) for wish in WISHES for seed in range(4) for jump in ("canonical", "exact", "off")]
    answers = await asyncio.gather(*(ask(stack, wish, seed, jump_forward=jump) for wish, seed, jump in wishes))
    finished = 0
    for (wish, _, _), answer in zip(wishes, answers, strict=True):
        meta = answer["meta_info"]
        if meta["finish_reason"]["type"] == "stop":
            assert is_valid(wish, answer["text"]), answer["text"]
            finished += 1
        else:
            assert meta["completion_tokens"] == 120, "only max_tokens cuts an answer"
    assert finished > len(answers) / 2
    assert await stack.metric("rootstream_forced_tokens_total") > 0


async def test_exact_is_off_token_for_token(stack: Stack) -> None:
    assert await outputs(stack, jump_forward="exact") == await outputs(stack, jump_forward="off")


@pytest.mark.parametrize(
    "settings",
    [
        {"page_size": 1},
        {"lease": 1},
        {"lease": 3, "chunk_tokens": 7},
        {"radix_cache": False},
        {"kv_memory": "80KiB", "page_size": 4, "lease": 2, "max_running": 8, "context_length": 256},
    ],
    ids=str,
)
async def test_settings_and_preemption_change_nothing(
    settings: dict[str, Any], redis_url: str, namespace: str, toy_model: Path, cache_dir: Path
) -> None:
    async with running(redis_url, namespace, toy_model, cache_dir) as stack:
        expected = await outputs(stack)
    async with running(redis_url, f"{namespace}b", toy_model, cache_dir, **settings) as stack:
        assert await outputs(stack) == expected, "cold"
        assert await outputs(stack) == expected, "with prefix hits"
        if "kv_memory" in settings:
            assert await stack.metric("rootstream_preemptions_total") > 0


@pytest.mark.parametrize("role", [Role.WORKER, Role.SCHEDULER, Role.DETOKENIZER])
async def test_a_restart_in_the_middle_changes_nothing(stack: Stack, role: Role) -> None:
    expected = await outputs(stack)
    asking = asyncio.create_task(outputs(stack))
    await asyncio.sleep(0.15)
    await stack.kill(role)
    stack.start(role)
    assert await asking == expected


async def events(response: ClientResponse) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) async for line in response.content if line.startswith(b"data: {")]


@pytest.mark.parametrize("jump", ["canonical", "off"])
async def test_a_stream_adds_up_to_the_whole_answer_and_its_usage(stack: Stack, jump: str) -> None:
    for wish in WISHES:
        body = {
            "prompt": "you are", "max_tokens": 120, "seed": 5, "temperature": 1, "jump_forward": jump, **wish
        }  # fmt: skip
        whole = await stack.post("/v1/completions", body)
        streamed = body | {"stream": True, "stream_options": {"include_usage": True}}
        async with stack.http.post(f"{stack.url}/v1/completions", json=streamed) as response:
            chunks = await events(response)
        text = "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
        assert text == whole["choices"][0]["text"]
        assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
        details = whole["usage"]["completion_tokens_details"]
        assert chunks[-1]["usage"]["completion_tokens_details"] == details
        native = await ask(stack, wish, 5, jump_forward=jump)
        assert native["text"] == text
        assert len(native["output_ids"]) == native["meta_info"]["completion_tokens"]
        assert whole["usage"]["completion_tokens"] == native["meta_info"]["completion_tokens"]
        assert details["forced_tokens"] == native["meta_info"]["forced_tokens"] <= len(native["output_ids"])
        assert jump != "off" or details["forced_tokens"] == 0


async def test_choices_of_one_request_each_have_their_own_state(stack: Stack) -> None:
    wish = WISHES[1]
    answers = await ask(stack, wish, 3, n=6)
    texts = [answer["text"] for answer in answers]
    assert len(set(texts)) > 1
    for answer in answers:
        if answer["meta_info"]["finish_reason"]["type"] == "stop":
            assert is_valid(wish, answer["text"])
    alone = [(await ask(stack, wish, 3 + index))["text"] for index in range(6)]
    assert texts == alone


async def test_stop_strings_end_forced_text_too(stack: Stack) -> None:
    answer = await ask(stack, {"regex": "the quick brown fox jumps"}, 1, stop=["brown"])
    assert answer["text"] == "the quick "
    assert answer["meta_info"]["finish_reason"] == {"type": "stop", "matched": "brown"}


TEMPLATE = ['{ "name": "', {"gen": "name", "max_tokens": 5}, '", "age": ', {"gen": "age", "regex": "[0-9]{1,3}"}, " }"]


async def test_a_template_is_one_request(stack: Stack) -> None:
    for seed in range(8):
        body = {"text": "you are", "segments": TEMPLATE, "sampling_params": {"temperature": 1, "sampling_seed": seed}}
        answer = await stack.post("/generate", body)
        values = answer["values"]
        assert answer["text"] == f'{{ "name": "{values["name"]}", "age": {values["age"]} }}'
        assert re.fullmatch("[0-9]{1,3}", values["age"])
        assert '"' not in values["name"]
        assert answer["meta_info"]["finish_reason"]["type"] == "stop"
        assert answer["meta_info"]["forced_tokens"] > 0
        async with stack.http.post(f"{stack.url}/generate", json=body | {"stream": True}) as response:
            chunks = await events(response)
        assert chunks[-1]["text"] == answer["text"]
        assert chunks[-1]["values"] == values
        assert chunks[0]["values"] == {}


@pytest.mark.parametrize("jump", ["canonical", "exact", "off"])
async def test_the_parts_of_a_template_keep_their_budgets(stack: Stack, jump: str) -> None:
    segments = ["say ", {"gen": "a", "max_tokens": 3}, "; then ", {"gen": "b", "max_tokens": 2, "stop": "; "}, "; end"]
    found: list[dict[str, str]] = []
    for seed in range(6):
        body = {"segments": segments, "sampling_params": {"sampling_seed": seed, "jump_forward": jump}}
        answer = await stack.post("/generate", body)
        values = answer["values"]
        assert answer["text"] == f"{values['a']}; then {values['b']}; end"
        assert answer["meta_info"]["completion_tokens"] <= 3 + 2 + 24
        found.append(values)
    assert len({value["a"] for value in found}) > 1


async def test_exact_is_off_in_templates_too(stack: Stack) -> None:
    segments = [
        "say ", {"gen": "a", "max_tokens": 3}, "; then ", {"gen": "b", "regex": "(abcde|abcxy)[a-z]*", "max_tokens": 4},
        "; and ", {"gen": "c", "choice": ["one", "other"]}, ".",
    ]  # fmt: skip
    for seed in range(10):
        found = []
        for jump in ("exact", "off"):
            params = {"temperature": 1, "sampling_seed": seed, "jump_forward": jump}
            answer = await stack.post("/generate", {"segments": segments, "sampling_params": params})
            found.append((answer["output_ids"], answer["values"]))
        assert found[0] == found[1]


async def test_the_last_part_of_a_template_ends_at_its_budget(stack: Stack) -> None:
    body = {"segments": ["the ", {"gen": "rest", "max_tokens": 4}], "sampling_params": {"ignore_eos": True}}
    answer = await stack.post("/generate", body)
    assert answer["meta_info"]["completion_tokens"] == 4
    assert answer["meta_info"]["finish_reason"]["type"] == "length"
    assert answer["values"] == {"rest": answer["text"]}


async def test_every_token_is_an_allowed_one(stack: Stack) -> None:
    allowed = [*range(70, 100, 3), 200, 301]
    for seed in range(3):
        answer = await ask(stack, {"allowed_token_ids": allowed}, seed, max_new_tokens=40)
        assert answer["meta_info"]["completion_tokens"] == 40, "only an end-of-sequence token would end it"
        assert set(answer["output_ids"]) <= set(allowed)
        assert len(set(answer["output_ids"])) > 3
    one = await ask(stack, {"allowed_token_ids": [99]}, 1, max_new_tokens=5)
    assert one["output_ids"] == [99] * 5
    for wrong in ([-1], [10**6], list(range(5000))):
        with pytest.raises(AssertionError, match="allowed_token_ids"):
            await ask(stack, {"allowed_token_ids": wrong}, 1)
