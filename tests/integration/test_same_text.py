"""Greedy text does not depend on how it was computed: cache, chunks, pages, leases, neighbours, preemption.

The oracle is transformers' generate on the same weights in float32.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from tests.stack import Stack, running

OUTPUT = 24


def prompts() -> list[list[int]]:
    draw = random.Random(7)
    lengths = (1, 2, 15, 16, 17, 33, 70, 140)
    return [[draw.randrange(3, 250) for _ in range(length)] for length in lengths]


@pytest.fixture(scope="module")
def oracle(toy_model: Path) -> dict[tuple[int, ...], list[int]]:
    """Prompt to the tokens that transformers generates greedily."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(toy_model, dtype=torch.float32)
    found: dict[tuple[int, ...], list[int]] = {}
    for prompt in prompts():
        ids = torch.tensor([prompt])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=OUTPUT, min_new_tokens=OUTPUT, do_sample=False,
            eos_token_id=[], pad_token_id=0,
        )  # fmt: skip
        found[tuple(prompt)] = out[0, len(prompt) :].tolist()
    return found


async def output(stack: Stack, prompt: list[int], **params: Any) -> list[int]:
    answer = await stack.generate(prompt, OUTPUT, **params)
    return answer["output_ids"]


async def check_all(stack: Stack, oracle: dict[tuple[int, ...], list[int]]) -> None:
    for prompt, expected in oracle.items():
        assert await output(stack, list(prompt)) == expected, f"cold, {len(prompt)} tokens"
    for prompt, expected in oracle.items():
        assert await output(stack, list(prompt)) == expected, f"warm, {len(prompt)} tokens"
    draw = random.Random(11)
    strangers = [[draw.randrange(3, 250) for _ in range(draw.randrange(1, 200))] for _ in range(16)]
    noise = [asyncio.create_task(stack.generate(s, 40, temperature=1, seed=3, cache_salt="other")) for s in strangers]
    found = await asyncio.gather(*(output(stack, list(prompt), cache_salt="cold") for prompt in oracle))
    assert found == list(oracle.values()), "in a batch of strangers"
    await asyncio.gather(*noise)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"page_size": 1},
        {"lease": 1},
        {"chunk_tokens": 7},
        {"chunk_tokens": 64, "page_size": 1, "lease": 3},
        {"radix_cache": False},
        {"policy": "fcfs", "max_running": 5},
    ],
    ids=str,
)
async def test_settings(
    settings: dict[str, Any],
    redis_url: str,
    namespace: str,
    toy_model: Path,
    cache_dir: Path,
    oracle: dict[tuple[int, ...], list[int]],
) -> None:
    async with running(redis_url, namespace, toy_model, cache_dir, **settings) as stack:
        await check_all(stack, oracle)


async def test_a_forced_preemption_changes_nothing(
    redis_url: str, namespace: str, toy_model: Path, cache_dir: Path, oracle: dict[tuple[int, ...], list[int]]
) -> None:
    async with running(redis_url, namespace, toy_model, cache_dir, kv_memory="120KiB", page_size=4, lease=1) as stack:
        for _ in range(3):
            found = await asyncio.gather(*(output(stack, list(prompt)) for prompt in oracle))
            assert found == list(oracle.values())
        assert await stack.metric("rootstream_preemptions_total") > 0
