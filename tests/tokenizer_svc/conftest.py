"""Front doors on a real port, before a downstream that the test plays."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import openai
import pytest
import pytest_asyncio

from shared.bus import Bus
from shared.config import Settings
from shared.model_files import ModelFiles
from shared.protocol import ModelCard
from shared.registry import Role, State
from shared.service import Context, run
from shared.tokenizer import Tokenizer
from tests.tokenizer_svc.downstream import CARD, Downstream, Script, hello_world
from tokenizer_svc.service import serve

StartDoor = Callable[..., Awaitable[Context]]


async def until_ready(http: aiohttp.ClientSession) -> None:
    """The others must have been heard of twice: what lies there at the start may have been left by the dead."""
    async with asyncio.timeout(10):
        while (await http.get("/ready")).status != 200:
            await asyncio.sleep(0.05)


@pytest.fixture
def card() -> ModelCard:
    """What the downstream serves; a module of tests may have its own."""
    return CARD


@pytest.fixture
def script() -> Script:
    """What the downstream answers at first; a module of tests may have its own."""
    return hello_world


@pytest_asyncio.fixture
async def downstream(bus: Bus, card: ModelCard, script: Script) -> AsyncIterator[Downstream]:
    downstream = Downstream(bus)
    downstream.card = card
    downstream.script = script
    await downstream.start()
    yield downstream
    await downstream.stop()


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


@pytest_asyncio.fixture
async def start_door(
    downstream: Downstream, redis_url: str, namespace: str, port: int, toy_model: Path, tmp_path: Path
) -> AsyncIterator[StartDoor]:
    """Start front doors; all listen on one port and are stopped at the end."""
    running: list[tuple[Context, asyncio.Task[None]]] = []

    async def start(replica: str = "t", **overrides: object) -> Context:
        values: dict[str, object] = {"model": str(toy_model), "served_model_name": ("toy",), "cache_dir": tmp_path}
        values["drain_timeout"] = 0
        settings = Settings(
            **{"redis": redis_url, "namespace": namespace, "port": port, "replica": replica, **values, **overrides}  # type: ignore[arg-type]
        )
        context = Context(Role.TOKENIZER, settings, Bus.connect(redis_url, namespace))
        task = asyncio.create_task(run(context, serve))
        while context.pulse.state is not State.READY:
            if task.done():
                task.result()
            await asyncio.sleep(0.005)
        running.append((context, task))
        return context

    yield start
    for context, task in running:
        context.stopping.set()
        await task


@pytest_asyncio.fixture
async def door(start_door: StartDoor) -> Context:
    return await start_door()


@pytest_asyncio.fixture
async def http(door: Context, url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A session on one running front door."""
    async with aiohttp.ClientSession(url) as session:
        yield session


@pytest_asyncio.fixture
async def client(door: Context, url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's own client on one running front door."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def toy_tokenizer(toy_model: Path) -> Tokenizer:
    return Tokenizer.load(ModelFiles("toy", "huggingface", toy_model), toy_model)
