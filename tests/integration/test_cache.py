"""Prefix reuse as a client sees it: cached_tokens are exact, and shared work is done once."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from tests.stack import running

PAGE = 16


def tokens(seed: int, count: int) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(3, 250) for _ in range(count)]


def cached(answer: dict) -> int:
    return answer["meta_info"]["cached_tokens"]


async def test_sixteen_simultaneous_requests_compute_their_prefix_once(
    redis_url: str, namespace: str, toy_model: Path, cache_dir: Path
) -> None:
    prefix = tokens(1, 1500)
    async with running(redis_url, namespace, toy_model, cache_dir, page_size=PAGE) as stack:
        answers = await asyncio.gather(*(stack.generate([*prefix, *tokens(100 + i, 20)], 4) for i in range(16)))
        shared = 1500 // PAGE * PAGE
        assert sorted(map(cached, answers)) == [0] + [shared] * 15
        computed = await stack.metric("rootstream_worker_computed_tokens_total")
        assert computed == 1520 + 15 * (1520 - shared) + 16 * 3


async def test_a_conversation_finds_all_it_has_said(
    redis_url: str, namespace: str, toy_model: Path, cache_dir: Path
) -> None:
    async with running(redis_url, namespace, toy_model, cache_dir, page_size=PAGE) as stack:
        history = tokens(2, 50)
        known = 0
        for turn in range(6):
            answer = await stack.generate(history, 30)
            assert cached(answer) == min(known, len(history) - 1) // PAGE * PAGE
            history += answer["output_ids"]
            known = len(history) - 1  # the last token drawn has no KV yet
            history += tokens(50 + turn, 10)


async def test_salts_keep_tenants_apart_and_a_flush_empties_the_cache(
    redis_url: str, namespace: str, toy_model: Path, cache_dir: Path
) -> None:
    async with running(redis_url, namespace, toy_model, cache_dir, page_size=1) as stack:
        prompt = tokens(3, 40)
        assert cached(await stack.generate(prompt, 2, cache_salt="a")) == 0
        assert cached(await stack.generate(prompt, 2, cache_salt="b")) == 0
        assert cached(await stack.generate(prompt, 2, cache_salt="a")) == 39
        async with stack.http.post(f"{stack.url}/flush_cache") as response:
            assert response.status == 200
        assert cached(await stack.generate(prompt, 2, cache_salt="a")) == 0


async def test_without_the_cache_nothing_is_reused(
    redis_url: str, namespace: str, toy_model: Path, cache_dir: Path
) -> None:
    async with running(redis_url, namespace, toy_model, cache_dir, radix_cache=False) as stack:
        prompt = tokens(4, 100)
        assert [cached(await stack.generate(prompt, 2)) for _ in range(3)] == [0, 0, 0]


async def test_a_client_that_leaves_frees_its_pages(
    redis_url: str, namespace: str, toy_model: Path, cache_dir: Path
) -> None:
    async with running(redis_url, namespace, toy_model, cache_dir, radix_cache=False) as stack:
        body = {"input_ids": tokens(5, 64), "sampling_params": {"max_new_tokens": 1900, "ignore_eos": True}}
        requests = [asyncio.create_task(stack.post("/generate", body)) for _ in range(4)]
        requests += [asyncio.create_task(stack.post("/generate", body | {"stream": True})) for _ in range(4)]
        while await stack.metric("rootstream_worker_step_tokens") < 8:
            await asyncio.sleep(0.05)
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        assert await stack.settled("rootstream_kv_pages_used", 0) == 0
        assert await stack.contexts["scheduler:0"].bus.hash(f"{namespace}:live") == {}


async def test_contexts_are_kept_until_they_are_released(
    redis_url: str, namespace: str, toy_model: Path, cache_dir: Path
) -> None:
    async with running(redis_url, namespace, toy_model, cache_dir, page_size=1) as stack:

        async def call(parent: str | None, **fields: object) -> dict:
            said = [{"type": "text", "text": "the quick brown fox "}, {"type": "gen", "name": "x", "max_tokens": 5}]
            body = {"id": f"after-{parent}", "parent": parent, "parts": said, "group": "g", **fields}
            return await stack.post("/v1/contexts", body)

        first = await call(None)
        second = await call(first["id"])
        assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == first["length"] - 1
        assert await stack.settled("rootstream_contexts", 2) == 2
        assert await stack.metric("rootstream_kv_pages_contexts") == second["length"] - 1
        await call(second["id"], keep=False, release=[first["id"], second["id"]])
        assert await stack.settled("rootstream_contexts", 0) == 0
        assert await stack.metric("rootstream_kv_pages_contexts") == 0
        assert await stack.metric("rootstream_cached_tokens_total") == first["length"] + second["length"] - 2
