"""Log-probabilities where an answer changes from reasoning to content to calls: every token once, beside its text."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from shared.bus import Bus
from shared.protocol import Finish, Generate
from shared.scores import TokenScores, packed
from shared.tokenizer import Tokenizer
from tests.tokenizer_svc.conftest import StartDoor
from tests.tokenizer_svc.downstream import CARD, Downstream, Script, texts
from tests.tokenizer_svc.test_reasoning_api import LIKE_QWEN3
from tests.toy import make_toy_model

CALL = '<tool_call>\n{"name": "get_time", "arguments": {"where": "Köln"}}\n</tool_call>'
SAID = "<think>\nHm < fox.\n</think>\n\nA <tool fox: ö"
ANSWERS = {
    "content": "A fox, ö",
    "reasoning": SAID,
    "reasoning, then a call": f"<think>\nHm.\n</think>\n\n{CALL}",
    "all of it": f"{SAID}! {CALL}\n{CALL}",
    "reasoning that is cut": "<think>\nHm </thi",
    "a call that is cut": f"A. {CALL[:14]}",
}
EVERY = pytest.mark.parametrize("said", ANSWERS.values(), ids=ANSWERS)
SIZES = pytest.mark.parametrize("size", [1, 3, 1000])
TOOL = {"name": "get_time", "parameters": {"type": "object", "properties": {"where": {"type": "string"}}}}
CHAT = {"messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "function", "function": TOOL}]}
RESPONSE = {"input": "hi", "tools": [{"type": "function", **TOOL}], "include": ["message.output_text.logprobs"]}


@pytest_asyncio.fixture
async def downstream(bus: Bus) -> AsyncIterator[Downstream]:
    downstream = Downstream(bus)
    downstream.card = msgspec.structs.replace(CARD, context_length=4000, num_pages=1000)
    await downstream.start()
    yield downstream
    await downstream.stop()


@pytest_asyncio.fixture
async def http(
    start_door: StartDoor, downstream: Downstream, url: str, tmp_path: Path
) -> AsyncIterator[aiohttp.ClientSession]:
    model = make_toy_model(tmp_path / "model")
    (model / "chat_template.jinja").write_text(LIKE_QWEN3)
    await start_door(model=str(model))
    async with aiohttp.ClientSession(url) as session:
        yield session


def scored(tokenizer: Tokenizer, said: str, size: int) -> Script:
    """An answer in the tokens of its text, ``size`` at a time, each with a score of its own; one more ends it."""
    tokens = [*tokenizer.encode(said, add_special_tokens=False), 2]

    async def script(downstream: Downstream, generate: Generate) -> None:
        await downstream.admit(generate)
        stream = tokenizer.stream((), skip_special_tokens=True)
        at, prompt = 0, len(generate.input_ids) // 4
        for start in range(0, len(tokens), size):
            part = tokens[start : start + size]
            is_last = start + size >= len(tokens)
            text = "".join(map(stream.push, part))
            row = generate.id, start, part, text, Finish.STOP if is_last else Finish.NONE, 2 if is_last else None
            scores = [TokenScores(prompt + start + i, -(start + i) / 64, 1, (), ()) for i in range(len(part))]
            said = texts(row, offsets=[at])
            await downstream.say(
                generate.reply_to, msgspec.structs.replace(said, scores=(packed(generate.id, scores),))
            )
            at += len(text)

    return script


def text_of(logprobs: list[dict[str, Any]]) -> str:
    return bytes(byte for entry in logprobs for byte in entry["bytes"]).decode()


def are_all(logprobs: list[dict[str, Any]]) -> bool:
    """Every token of the answer is there, once, in order."""
    return [entry["logprob"] for entry in logprobs] == [-index / 64 for index in range(len(logprobs))]


@EVERY
@SIZES
async def test_a_chat_shows_every_token_once(
    http: aiohttp.ClientSession, downstream: Downstream, toy_tokenizer: Tokenizer, said: str, size: int
) -> None:
    """In streams with the text that it is of, or where that is a mark, with what comes next."""
    downstream.script = scored(toy_tokenizer, said, size)
    async with http.post("/v1/chat/completions", json={**CHAT, "logprobs": True}) as response:
        whole = await response.json()
    logprobs = whole["choices"][0]["logprobs"]["content"]
    assert are_all(logprobs)
    assert len(logprobs) == whole["usage"]["completion_tokens"]
    async with http.post("/v1/chat/completions", json={**CHAT, "logprobs": True, "stream": True}) as response:
        lines = (await response.text()).split("\n\n")[:-2]
    choices = [json.loads(line[6:])["choices"][0] for line in lines]
    found: list[dict[str, Any]] = []
    for choice in choices:
        own = (choice["logprobs"] or {"content": []})["content"]
        found += own
        delta = choice["delta"]
        if text := delta.get("content") or delta.get("reasoning_content"):
            assert text_of(own).endswith(text)
            assert text_of(own).removesuffix(text).strip() in ("", "<think>", "</think>")
    assert found == logprobs
    message = {name: "".join(c["delta"].get(name) or "" for c in choices) for name in ("content", "reasoning_content")}
    assert message["content"] == (whole["choices"][0]["message"]["content"] or "")
    assert message["reasoning_content"] == whole["choices"][0]["message"].get("reasoning_content", "")


@EVERY
@SIZES
async def test_a_response_shows_the_tokens_of_its_messages(
    http: aiohttp.ClientSession, downstream: Downstream, toy_tokenizer: Tokenizer, said: str, size: int
) -> None:
    """Each once, whole or in events, and none of reasoning or calls; the end has a token, too, without a text."""
    downstream.script = scored(toy_tokenizer, said, size)
    async with http.post("/v1/responses", json=RESPONSE) as response:
        output = (await response.json())["output"]
    async with http.post("/v1/responses", json={**RESPONSE, "stream": True}) as response:
        lines = (await response.text()).split("\n")
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    told: dict[int, list[Any]] = {}
    for event in events:
        if event["type"] == "response.output_text.delta":
            assert text_of(event["logprobs"]) == event["delta"]
            told.setdefault(event["output_index"], []).extend(event["logprobs"])
    assert len(told) == sum(item["type"] == "message" for item in output)
    for index, item in enumerate(output):
        if item["type"] == "message":
            [part] = item["content"]
            texts = [entry for entry in part["logprobs"] if entry["token"] != "<|im_end|>"]
            assert texts == told[index]
            assert text_of(texts) == part["text"]
            assert (part["logprobs"][-1]["token"] == "<|im_end|>") == (index == len(output) - 1)
            scores = [entry["logprob"] for entry in part["logprobs"]]
            assert scores == [scores[0] - place / 64 for place in range(len(scores))]
    assert strip_ids(events[-1]["response"]["output"]) == strip_ids(output)


def strip_ids(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what differs between two requests."""
    return [{**item, "id": "", **({"call_id": ""} if "call_id" in item else {})} for item in items]
