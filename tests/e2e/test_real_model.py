"""The packaged model through the whole service: what a client reads is what transformers generates."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import jsonschema
import openai
import pytest
import pytest_asyncio
import torch

from tests.e2e.conftest import Server, StartServer
from tests.oracle import load_oracle

pytestmark = pytest.mark.slow

MODEL = "smollm2-135m-instruct"
QUESTIONS = [
    "What is the capital of France?",
    "Name three primary colours.",
    "Write one sentence about the sea.",
    "What is 12 plus 30?",
    "Who wrote Hamlet?",
    "Translate 'good morning' into Spanish.",
]
TOKENS = 24


@pytest.fixture(scope="module")
def server(serve: StartServer) -> Server:
    return serve("--dtype", "float32")


@pytest_asyncio.fixture
async def client(server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    """Question to transformers' greedy answer."""
    tokenizer, model = load_oracle()
    answers: dict[str, str] = {}
    for question in QUESTIONS:
        chat = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        out = model.generate(**chat, max_new_tokens=TOKENS, do_sample=False)
        answers[question] = tokenizer.decode(out[0, chat["input_ids"].shape[1] :], skip_special_tokens=True)
    return answers


async def answer(client: openai.AsyncOpenAI, question: str) -> str:
    reply = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}], max_tokens=TOKENS, temperature=0
    )
    assert reply.usage is not None
    return reply.choices[0].message.content or ""


async def streamed(client: openai.AsyncOpenAI, question: str) -> str:
    stream = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}], max_tokens=TOKENS, temperature=0, stream=True
    )
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def test_answers_equal_transformers(client: openai.AsyncOpenAI, expected: dict[str, str]) -> None:
    for question, text in expected.items():
        assert await answer(client, question) == text


async def test_streams_in_a_batch_equal_transformers(client: openai.AsyncOpenAI, expected: dict[str, str]) -> None:
    found = await asyncio.gather(*(streamed(client, question) for question in expected))
    assert found == list(expected.values())


@pytest.mark.parametrize("victim", ["gpu_worker", "scheduler_svc", "detokenizer_svc"])
async def test_a_killed_process_changes_nothing_in_a_stream(
    client: openai.AsyncOpenAI, server: Server, victim: str
) -> None:
    body = {
        "model": MODEL, "messages": [{"role": "user", "content": "Tell me a story about a fox."}],
        "max_tokens": 120, "temperature": 0, "extra_body": {"ignore_eos": True},
    }  # fmt: skip
    whole = (await client.chat.completions.create(**body)).choices[0].message.content  # type: ignore[call-overload]
    stream = await client.chat.completions.create(**body, stream=True)  # type: ignore[call-overload]
    text, deltas, finishes = "", 0, []
    async for chunk in stream:
        text += chunk.choices[0].delta.content or ""
        finishes += [chunk.choices[0].finish_reason] if chunk.choices[0].finish_reason else []
        deltas += 1
        if deltas == 20:
            server.child(victim).kill()
    assert text == whole
    assert finishes == ["length"]
    await asyncio.to_thread(server.wait_ready)


async def test_a_killed_worker_changes_nothing_in_a_constrained_stream(
    client: openai.AsyncOpenAI, server: Server
) -> None:
    names = ("name", "home", "friend", "enemy", "food", "wish", "fear", "end")
    schema = {
        "type": "object",
        "properties": {name: {"type": "string", "maxLength": 40} for name in names},
        "required": list(names),
        "additionalProperties": False,
    }
    body = {
        "model": MODEL, "messages": [{"role": "user", "content": "Invent a fox."}], "max_tokens": 400, "temperature": 0,
        "response_format": {"type": "json_schema", "json_schema": {"name": "fox", "schema": schema}},
    }  # fmt: skip
    whole = await client.chat.completions.create(**body)  # type: ignore[call-overload]
    jsonschema.validate(json.loads(whole.choices[0].message.content), schema)
    assert whole.usage.completion_tokens_details.forced_tokens > 20
    stream = await client.chat.completions.create(**body, stream=True)  # type: ignore[call-overload]
    text, deltas = "", 0
    async for chunk in stream:
        text += chunk.choices[0].delta.content or ""
        deltas += 1
        if deltas == 12:
            server.child("gpu_worker").kill()
    assert text == whole.choices[0].message.content
    await asyncio.to_thread(server.wait_ready)


CHOICES = [" Paris", " London, which lies on the Thames", " a small village", " 42"]


@pytest.mark.parametrize("method", ["token_length_normalized", "greedy_token", "unconditional_likelihood_normalized"])
async def test_a_selection_scores_as_transformers_does(client: openai.AsyncOpenAI, method: str) -> None:
    tokenizer, model = load_oracle()
    before = "The capital of France is"
    select = {"type": "select", "name": "x", "choices": CHOICES, "method": method}
    body = {"parts": [{"type": "text", "text": before}, select]}
    answer = await client.post("/contexts", body=body, cast_to=dict[str, Any])
    [part] = answer["parts"]
    for choice, ids, logprobs, index in zip(CHOICES, part["tokens"], part["logprobs"], range(4), strict=True):
        whole = tokenizer(before + choice)["input_ids"]
        assert whole[-len(ids) :] == ids
        assert likelihoods(model, whole)[-len(ids) :] == pytest.approx(logprobs, abs=2e-3)
        if method == "unconditional_likelihood_normalized":
            assert part["unconditional"][index] == pytest.approx([0, *likelihoods(model, ids)], abs=2e-3)
    if method == "token_length_normalized":
        assert part["scores"] == pytest.approx([sum(each) / len(each) for each in part["logprobs"]])
    assert method != "greedy_token" or part["text"] == CHOICES[0]


def likelihoods(model: Any, ids: list[int]) -> list[float]:
    """Of all tokens but the first, in float32."""
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1].float()
    return logits.log_softmax(-1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:], dtype=torch.long)].tolist()
