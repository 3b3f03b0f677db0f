"""A worker whose step does not end: told soon, and taken back when it goes on."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from gpu_worker.lock_step import LockStep
from tests.stack import Stack, running


async def until_ready(stack: Stack, ready: bool, patience: float) -> dict[str, object]:
    async with asyncio.timeout(patience):
        while True:
            async with stack.http.get(f"{stack.url}/ready") as response:
                if (response.status == 200) == ready:
                    return await response.json()
            await asyncio.sleep(0.01)


async def test_a_step_that_does_not_end(
    redis_url: str, namespace: str, toy_model: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    goes_on.set()
    run = LockStep.run

    def held(self: LockStep, *arguments: object) -> object:
        goes_on.wait()
        return run(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(LockStep, "run", held)
    async with running(redis_url, namespace, toy_model, cache_dir) as stack:
        expected = await stack.generate([5, 6, 7], 8)
        goes_on.clear()
        asking = asyncio.create_task(stack.generate([5, 6, 7], 8))
        began = time.monotonic()
        answer = await until_ready(stack, False, 3)
        took = time.monotonic() - began
        assert answer["missing"] == ["worker is not ready"]
        async with stack.http.get(f"{stack.url}/health") as response:
            [worker] = (await response.json())["processes"]["worker"]
        goes_on.set()
        assert (worker["state"], worker["detail"][:26]) == ("stuck", "has been at the same work ")
        assert took < 2
        await until_ready(stack, True, 3)
        assert (await asking)["output_ids"] == expected["output_ids"]
