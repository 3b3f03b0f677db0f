"""Log-probabilities over a whole deployment are transformers', whatever is cached, preempted, killed or lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import torch

from shared.registry import Role
from tests.integration.test_resuming import ids_of, second_door
from tests.stack import Stack, running
from tokenizer_svc.resumable import resumables

EXACT = 1e-4
STEM = np.random.default_rng(7).integers(3, 320, 70).tolist()
WANTED = {"return_logprob": True, "top_logprobs_num": 2, "token_ids_logprob": [5, 300]}


@pytest.fixture(scope="module")
def oracle(toy_model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(toy_model, dtype=torch.float32).eval()


@pytest_asyncio.fixture
async def stack(
    redis_url: str, namespace: str, toy_model: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stack]:
    """Little memory and small steps: prompts are computed in chunks, and rows are preempted."""
    monkeypatch.setattr(resumables, "_LOOK_S", 0.05)
    monkeypatch.setattr(resumables, "_SUSPECT_S", 0.2)
    async with running(
        redis_url, namespace, toy_model, cache_dir,
        kv_memory="300KiB", page_size=4, chunk_tokens=24, lease=2, drain_timeout=0,
    ) as stack:  # fmt: skip
        yield stack


@torch.inference_mode()
def said(oracle: Any, tokens: list[int]) -> np.ndarray:
    """[len(tokens), V]: row p is of the token at p + 1."""
    return oracle(torch.tensor([tokens])).logits[0].float().log_softmax(-1).numpy()


def check(answer: dict[str, Any], prompt: list[int], start: int, oracle: Any) -> None:
    """An answer of /generate says of all tokens from ``start`` on what transformers says."""
    meta, tokens = answer["meta_info"], [*prompt, *answer["output_ids"]]
    expected = said(oracle, tokens)
    own = meta["input_token_logprobs"] + meta["output_token_logprobs"]
    top = meta["input_top_logprobs"] + meta["output_top_logprobs"]
    asked = meta["input_token_ids_logprobs"] + meta["output_token_ids_logprobs"]
    assert [entry[1] for entry in own] == tokens[start:]
    for position in range(max(1, start), len(tokens)):
        row, at = expected[position - 1], position - start
        assert own[at][0] == pytest.approx(row[tokens[position]], abs=EXACT)
        assert [pair[0] for pair in top[at]] == pytest.approx(np.sort(row)[::-1][:2], abs=EXACT)
        assert [pair[0] for pair in top[at]] == pytest.approx([row[pair[1]] for pair in top[at]], abs=EXACT)
        assert [pair[0] for pair in asked[at]] == pytest.approx(row[[5, 300]], abs=EXACT)


def prompt_of(number: int) -> list[int]:
    return [*STEM[: 20 + 9 * (number % 6)], 3 + number]


async def ask(stack: Stack, number: int, max_tokens: int) -> dict[str, Any]:
    """Greedy or seeded; some of the prompt too, or the answer alone."""
    sampling = {"max_new_tokens": max_tokens, "temperature": number % 2, "sampling_seed": number, "ignore_eos": True}
    body = {"input_ids": prompt_of(number), "sampling_params": sampling, **WANTED}
    return await stack.post("/generate", body | ({} if number % 4 == 3 else {"logprob_start_len": number % 4 * 7}))


async def ask_all(stack: Stack, oracle: Any, max_tokens: int = 60) -> list[list[int]]:
    """All at once, and each is right."""
    answers = await asyncio.gather(*(ask(stack, number, max_tokens) for number in range(8)))
    for number, answer in enumerate(answers):
        prompt = prompt_of(number)
        check(answer, prompt, len(prompt) if number % 4 == 3 else number % 4 * 7, oracle)
        assert len(answer["output_ids"]) == max_tokens
    return [answer["output_ids"] for answer in answers]


async def test_what_is_cached_or_preempted(stack: Stack, oracle: Any) -> None:
    """Prompts that share pages, at once and again; there is not room for all."""
    found = await ask_all(stack, oracle)
    assert await ask_all(stack, oracle) == found
    assert await stack.metric("rootstream_preemptions_total") > 0


@pytest.mark.parametrize("role", [Role.WORKER, Role.DETOKENIZER, Role.SCHEDULER])
async def test_a_process_is_killed(stack: Stack, oracle: Any, role: Role) -> None:
    expected = await ask_all(stack, oracle, 100)
    asking = asyncio.create_task(ask_all(stack, oracle, 100))
    await asyncio.sleep(0.2)
    assert not asking.done(), "too fast to be hit"
    await stack.kill(role)
    stack.start(role)
    async with asyncio.timeout(60):
        assert await asking == expected


async def test_all_data_is_lost(stack: Stack, oracle: Any, namespace: str) -> None:
    """What nobody has read is said again."""
    expected = await ask_all(stack, oracle, 100)
    client = next(iter(stack.contexts.values())).bus.client
    for _ in range(2):
        asking = asyncio.create_task(ask_all(stack, oracle, 100))
        await asyncio.sleep(0.2)
        assert not asking.done(), "too fast to be hit"
        await client.delete(*[key async for key in client.scan_iter(f"{namespace}:*")])
        async with asyncio.timeout(60):
            assert await asking == expected


async def test_a_stream_that_outlives_its_front_door(stack: Stack) -> None:
    """Its log holds the scores: whoever reads it again sees the same bytes, and goes on with what was not there."""
    body = {"prompt": STEM[:30], "logprobs": 2, "echo": True, "max_tokens": 90, "temperature": 0, "ignore_eos": True}
    whole = (await stack.post("/v1/completions", body))["choices"][0]["logprobs"]
    url = await second_door(stack)
    streamed = body | {"stream": True, "resumable": True}
    response = await stack.http.post(f"{stack.url}/v1/completions", json=streamed)
    seen = b""
    while len(ids_of(seen)) < 8:
        seen += await response.content.readany()
    await stack.kill(Role.TOKENIZER, "0")
    response.close()
    seen = b"".join(event + b"\n\n" for event in seen.split(b"\n\n")[:-1])
    at = f"{url}/v1/streams/{ids_of(seen)[-1].partition(':')[0]}"
    bodies: list[bytes] = []
    for _ in range(2):
        async with asyncio.timeout(30), stack.http.get(at) as again:
            assert again.status == 200, await again.text()
            bodies.append(await again.read())
    assert bodies[0] == bodies[1]
    assert bodies[0].startswith(seen)
    events = [json.loads(event.split(b"data: ", 1)[1]) for event in bodies[0].split(b"\n\n")[:-2]]
    parts = [choice["logprobs"] for event in events for choice in event["choices"] if choice.get("logprobs")]
    assert [token for part in parts for token in part["tokens"]] == whole["tokens"]
    found, expected = [score for part in parts for score in part["token_logprobs"]], whole["token_logprobs"]
    assert found[0] is expected[0] is None
    assert found[1:] == pytest.approx(expected[1:], abs=EXACT)


async def test_the_way_of_an_evaluation_harness(stack: Stack, oracle: Any) -> None:
    """As lm-eval asks for likelihoods: lists of token ids, echoed with one more token, the likeliest beside each."""
    contexts = [STEM[:9], STEM[:33], STEM[:33], STEM[4:6]]
    continuations = [STEM[9:14], [5], [300, 6, 7], STEM[6:30]]
    prompts = [context + continuation for context, continuation in zip(contexts, continuations, strict=True)]
    body = {"prompt": prompts, "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0, "seed": 1234}
    for _ in range(2):
        answer = await stack.post("/v1/completions", body)
        assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
        for choice, prompt, context in zip(answer["choices"], prompts, contexts, strict=True):
            logprobs, expected = choice["logprobs"], said(oracle, prompt)
            assert len(logprobs["token_logprobs"]) == len(prompt) + 1
            found = sum(logprobs["token_logprobs"][len(context) : -1])
            own = [expected[at - 1][prompt[at]] for at in range(len(context), len(prompt))]
            assert found == pytest.approx(sum(own), abs=1e-3)
            is_greedy = all(expected[at - 1].argmax() == prompt[at] for at in range(len(context), len(prompt)))
            tops = list(zip(logprobs["tokens"], logprobs["top_logprobs"], strict=True))[len(context) : -1]
            assert all(max(top, key=top.__getitem__) == token for token, top in tops) == is_greedy
