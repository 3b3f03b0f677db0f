"""A process that was stopped, replaced, and goes on: it does no harm, and stands down."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from shared.config import Settings, to_environment, without_settings
from shared.registry import Role, State
from tests.stack import Stack, free_port

pytestmark = pytest.mark.slow
_MODULES = {Role.WORKER: "gpu_worker", Role.SCHEDULER: "scheduler_svc"}
_PROMPT = [5, 6, 7]
_TOKENS = 600

Start = Callable[[Role, str], Awaitable[asyncio.subprocess.Process]]


@pytest_asyncio.fixture
async def stack(redis_url: str, namespace: str, toy_model: Path, cache_dir: Path) -> AsyncIterator[Stack]:
    """Front door and detokenizer, without those whose zombies are to be seen."""
    settings = Settings(
        model=str(toy_model),
        redis=redis_url,
        namespace=namespace,
        port=free_port(),
        cache_dir=cache_dir,
        dtype="float32",
        kv_memory="16MiB",
        threads=1,
        drain_timeout=1,
    )
    stack = Stack(settings)
    async with aiohttp.ClientSession() as stack.http:
        stack.start(Role.TOKENIZER)
        stack.start(Role.DETOKENIZER)
        yield stack
        await stack.stop(Role.TOKENIZER)
        await stack.stop(Role.DETOKENIZER)


@pytest_asyncio.fixture
async def start(stack: Stack) -> AsyncIterator[Start]:
    """Starts processes, and kills them at the end."""
    started: list[asyncio.subprocess.Process] = []

    async def start(role: Role, replica: str) -> asyncio.subprocess.Process:
        environment = without_settings() | to_environment(replace(stack.settings, replica=replica, log_format="json"))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", _MODULES[role], env=environment, stderr=asyncio.subprocess.PIPE
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def until_ready(stack: Stack, role: Role, replica: str) -> None:
    door = stack.contexts[f"{Role.TOKENIZER}:0"]
    async with asyncio.timeout(60):
        while not any(p.replica == replica and p.state is State.READY for p in door.peers.ready(role)):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("role", [Role.WORKER, Role.SCHEDULER])
async def test_who_was_replaced_while_it_was_stopped_stands_down(stack: Stack, start: Start, role: Role) -> None:
    old = await start(role, "old")
    await start(next(other for other in _MODULES if other is not role), "other")
    await stack.ready()
    expected = await stack.generate(_PROMPT, _TOKENS)
    asking = asyncio.create_task(stack.generate([*_PROMPT, 8], _TOKENS))
    await asyncio.sleep(0.1)
    assert not asking.done()
    old.send_signal(signal.SIGSTOP)
    await start(role, "new")
    await until_ready(stack, role, "new")
    again = asyncio.create_task(stack.generate(_PROMPT, _TOKENS))
    await asyncio.sleep(0.1)
    old.send_signal(signal.SIGCONT)  # while both are at work
    assert old.stderr is not None
    said = await asyncio.wait_for(old.stderr.read(), 30)
    assert await old.wait() == 2
    assert f"another {role} took over namespace" in said.decode()
    assert (await again)["output_ids"] == expected["output_ids"]
    assert len((await asking)["output_ids"]) == _TOKENS
    fresh = await stack.generate([*_PROMPT, 8], _TOKENS)
    assert (await asking)["output_ids"] == fresh["output_ids"]
    await until_ready(stack, role, "new")
