"""Tools with a model of random weights at temperature 1: whatever is valid is so by grammar alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import pytest_asyncio

from tests.stack import Stack, running
from tokenizer_svc.tools.formats import ToolFormat

SCHEMAS: dict[str, dict[str, Any]] = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 12},
            "unit": {"enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer"},
        },
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
    "move": {
        "type": "object",
        "properties": {"to": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 4}},
        "required": ["to"],
        "additionalProperties": False,
    },
}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in SCHEMAS.items()]
ASKED = {"messages": [{"role": "user", "content": "Go."}], "tools": TOOLS, "temperature": 1, "max_tokens": 400}


@pytest_asyncio.fixture(params=[ToolFormat.HERMES, ToolFormat.LLAMA3_JSON, ToolFormat.MISTRAL])
async def stack(
    request: pytest.FixtureRequest, redis_url: str, namespace: str, toy_model: Path, cache_dir: Path
) -> AsyncIterator[Stack]:
    async with running(redis_url, namespace, toy_model, cache_dir, tool_format=str(request.param)) as stack:
        yield stack


def valid_calls(choice: dict[str, Any]) -> list[str]:
    """Names of the calls of a choice, whose arguments obey their schemas; one that max_tokens cut is left out."""
    calls = choice["message"].get("tool_calls", [])
    if choice["finish_reason"] == "length":
        calls = calls[:-1]
    for call in calls:
        jsonschema.validate(json.loads(call["function"]["arguments"]), SCHEMAS[call["function"]["name"]])
    return [call["function"]["name"] for call in calls]


async def test_required_calls_are_valid(stack: Stack) -> None:
    """However many there are."""
    answer = await stack.post("/v1/chat/completions", ASKED | {"tool_choice": "required", "n": 8, "seed": 1})
    names = [name for choice in answer["choices"] for name in valid_calls(choice)]
    assert set(names) == set(SCHEMAS)
    assert len(names) > 8
    assert {choice["message"]["content"] for choice in answer["choices"]} == {None}


async def test_a_named_function_is_called_once(stack: Stack) -> None:
    named = {"type": "function", "function": {"name": "move"}}
    answer = await stack.post("/v1/chat/completions", ASKED | {"tool_choice": named, "n": 4, "seed": 2})
    for choice in answer["choices"]:
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] is None
        assert valid_calls(choice) == ["move"]


async def test_a_stream_says_the_same_as_the_whole_answer(stack: Stack) -> None:
    body = ASKED | {"tool_choice": "required", "seed": 3}
    whole = await stack.post("/v1/chat/completions", body)
    async with stack.http.post(f"{stack.url}/v1/chat/completions", json=body | {"stream": True}) as response:
        lines = (await response.text()).split("\n\n")
    choices = [json.loads(line[6:])["choices"][0] for line in lines if line.startswith("data: {")]
    calls: list[dict[str, str]] = []
    for delta in (part for choice in choices for part in choice["delta"].get("tool_calls", [])):
        if "id" in delta:
            calls.append({"name": delta["function"]["name"], "arguments": ""})
        calls[delta["index"]]["arguments"] += delta["function"]["arguments"]
    [choice] = whole["choices"]
    assert calls == [call["function"] for call in choice["message"]["tool_calls"]]
    assert choices[-1]["finish_reason"] == choice["finish_reason"]


async def test_one_call_at_most(stack: Stack) -> None:
    answer = await stack.post("/v1/chat/completions", ASKED | {"parallel_tool_calls": False, "n": 4, "seed": 4})
    for choice in answer["choices"]:
        assert len(valid_calls(choice)) <= 1
