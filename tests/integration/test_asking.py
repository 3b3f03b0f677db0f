"""What clients ask for, end to end, with a model of random weights at temperature 1: grammars alone make it so."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest_asyncio

from shared.registry import Role
from tests.stack import Stack, running
from tests.tokenizer_svc.test_structure import asked

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "house": {"enum": ["Gryffindor", "Ravenclaw"]},
        "age": {"type": "integer"},
        "alive": {"type": "boolean"},
    },
    "required": ["house", "age", "alive"],
    "additionalProperties": False,
}
PATTERN = r'\{"name": "[A-Z][a-z]{2,8}", "wand": \{"wood": "(oak|elm)", "length": [0-9]{1,2}\}\}'


@pytest_asyncio.fixture
async def stack(redis_url: str, namespace: str, toy_model: Path, cache_dir: Path) -> AsyncIterator[Stack]:
    async with running(redis_url, namespace, toy_model, cache_dir) as stack:
        yield stack


async def ask(stack: Stack, fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    body = {"prompt": "Once", "temperature": 1, "max_tokens": 150, "n": 4, "seed": 3} | fields | more
    return await stack.post("/v1/completions", body)


def finished(answer: dict[str, Any]) -> list[str]:
    return [choice["text"] for choice in answer["choices"] if choice["finish_reason"] == "stop"]


async def test_every_kind_of_wish_is_granted(stack: Stack) -> None:
    pattern, choice, schema, calls = await asyncio.gather(
        ask(stack, {"regex": PATTERN}),
        ask(stack, {"structured_outputs": {"choice": ["ja", "nein", "vielleicht"]}}),
        ask(stack, {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}),
        ask(stack, {"ebnf": 'root ::= "f(" root ")" | [0-9]'}),
    )
    assert [re.fullmatch(PATTERN, text) is not None for text in finished(pattern)] == [True] * 4
    assert len(finished(choice)) == 4
    assert set(finished(choice)) <= {"ja", "nein", "vielleicht"}
    for text in finished(schema):
        jsonschema.validate(json.loads(text), SCHEMA)
    for text in finished(calls):
        assert re.fullmatch(r"(f\()*[0-9]\)*", text)
        assert text.count("(") == text.count(")")
    json_objects = await ask(stack, {"guided_json_object": True})
    assert all(isinstance(json.loads(text), dict) for text in finished(json_objects))


async def test_forced_tokens_are_those_that_were_not_drawn(stack: Stack) -> None:
    answers = {mode: await ask(stack, {"regex": PATTERN}, jump_forward=mode) for mode in (True, "exact", False)}
    forced = {mode: answer["usage"]["completion_tokens_details"]["forced_tokens"] for mode, answer in answers.items()}
    assert forced[False] == 0
    assert forced[True] > answers[True]["usage"]["completion_tokens"] / 4
    assert [choice["text"] for choice in answers["exact"]["choices"]] == [
        choice["text"] for choice in answers[False]["choices"]
    ]
    assert await stack.metric("rootstream_http_forced_tokens_total") == sum(forced.values())


async def test_a_worker_that_starts_again_finds_the_grammars_of_live_requests(
    stack: Stack,
) -> None:
    """Even where Redis has lost them meanwhile."""
    fields = {"regex": "(abc, ){40}end"}
    asking = asyncio.create_task(ask(stack, fields, jump_forward=False, max_tokens=150, n=1))
    while await stack.metric("rootstream_worker_grammars_total") < 1:
        await asyncio.sleep(0.01)
    assert not asking.done()
    await stack.kill(Role.WORKER)
    bus = stack.contexts["tokenizer:0"].bus
    await bus.client.delete(bus.names.grammar(asked(fields).key))
    stack.start(Role.WORKER)
    answer = await asking
    [choice] = answer["choices"]
    assert ("abc, " * 40 + "end").startswith(choice["text"])
    assert len(choice["text"]) > 50
