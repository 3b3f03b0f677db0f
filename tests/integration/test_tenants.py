"""Tenants across all processes: what one has asked says nothing to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.stack import Stack, running

PROMPT = list(range(40, 120))
KEYS = "alice:secret-of-alice,bob:secret-of-bob"


async def cached(stack: Stack, name: str, **fields: Any) -> int:
    """How many tokens of the prompt were there already, for this tenant."""
    body = {"prompt": PROMPT, "max_tokens": 2, **fields}
    headers = {"Authorization": f"Bearer secret-of-{name}"}
    async with stack.http.post(f"{stack.url}/v1/completions", json=body, headers=headers) as response:
        assert response.status == 200, await response.text()
        return (await response.json())["usage"]["prompt_tokens_details"]["cached_tokens"]


async def test_a_tenants_prompts_warm_nobody_elses_cache(
    redis_url: str, namespace: str, toy_model: Path, cache_dir: Path
) -> None:
    async with running(redis_url, namespace, toy_model, cache_dir, api_keys=KEYS) as stack:
        assert await cached(stack, "alice") == 0
        assert await cached(stack, "alice") > 0
        assert await cached(stack, "bob") == 0, "time to the first token would tell what alice has asked"
        for salt in ("alice/", "../alice/", "alice"):
            assert await cached(stack, "bob", cache_salt=salt) == 0, "nor can it be asked for"
        assert await cached(stack, "bob") > 0


@pytest.mark.parametrize("salt", ["", "s"])
async def test_a_shared_cache_is_warm_for_all_of_one_salt(
    redis_url: str, namespace: str, toy_model: Path, cache_dir: Path, salt: str
) -> None:
    async with running(redis_url, namespace, toy_model, cache_dir, api_keys=KEYS, share_cache=True) as stack:
        assert await cached(stack, "alice", cache_salt=salt) == 0
        assert await cached(stack, "bob", cache_salt=salt) > 0
        assert await cached(stack, "bob", cache_salt=salt + "-other") == 0
