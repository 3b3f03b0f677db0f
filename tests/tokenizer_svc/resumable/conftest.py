"""Several front doors, each on a port of its own, that can be killed or stopped in their tracks."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio

from shared.bus import Bus
from shared.config import Settings
from shared.protocol import Finish, Generate
from shared.registry import Role, State
from shared.service import Context, run
from tests.stack import free_port
from tests.tokenizer_svc.downstream import Downstream, texts
from tokenizer_svc.resumable import resumables, service
from tokenizer_svc.resumable.entries import Placed
from tokenizer_svc.resumable.log import Appended
from tokenizer_svc.resumable.service import RedisLogs
from tokenizer_svc.service import serve

WORDS = ["Once", " upon", " a", " tïme", " there", " was", " 日本", " a", " fox", "."]


class Story:
    """Ten words for each request, as far as they may be told. Told again they come from the first on, in other rows."""

    def __init__(self, upto: int = len(WORDS)) -> None:
        self.upto = upto
        self._more = asyncio.Event()
        self._told: Counter[int] = Counter()  # how often, by request

    def go_on(self, upto: int = len(WORDS)) -> None:
        self.upto = upto
        more, self._more = self._more, asyncio.Event()
        more.set()

    async def __call__(self, downstream: Downstream, generate: Generate) -> None:
        await downstream.admit(generate, cached=3)
        self._told[generate.id] += 1
        step = self._told[generate.id]  # words in a row
        for first in range(0, len(WORDS), step):
            while first >= self.upto:
                await self._more.wait()
            words = WORDS[first : first + step]
            await self._say(downstream, generate, first, range(10 + first, 10 + first + len(words)), "".join(words))
        await self._say(downstream, generate, len(WORDS), [2], "", Finish.STOP, 2)

    async def _say(
        self,
        downstream: Downstream,
        generate: Generate,
        first: int,
        tokens: Sequence[int],
        text: str,
        finish: Finish = Finish.NONE,
        matched: int | None = None,
    ) -> None:
        offset = sum(map(len, WORDS[:first]))
        await downstream.say(
            generate.reply_to, texts((generate.id, first, tokens, text, finish, matched), offsets=[offset])
        )


class Door(NamedTuple):
    """One front door."""

    context: Context
    task: asyncio.Task[None]
    url: str


class Doors:
    """Front doors by name."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self._settings = settings
        self._doors: dict[str, Door] = {}
        self._stopped: dict[Bus, asyncio.Event] = {}
        append = RedisLogs.append

        async def gated(logs: RedisLogs, id: int, placed: Placed, length: int) -> Appended:
            if gate := self._stopped.get(logs._bus):
                await gate.wait()
            return await append(logs, id, placed, length)

        monkeypatch.setattr(RedisLogs, "append", gated)

    async def start(self, name: str, **overrides: Any) -> str:
        """Start one; returns its URL."""
        port = free_port()
        settings = Settings(**{**vars(self._settings), "port": port, "replica": name, **overrides})
        context = Context(Role.TOKENIZER, settings, Bus.connect(settings.redis_url, settings.namespace))
        task = asyncio.create_task(run(context, serve))
        while context.pulse.state is not State.READY:
            if task.done():
                task.result()
            await asyncio.sleep(0.005)
        self._doors[name] = Door(context, task, f"http://127.0.0.1:{port}")
        return self._doors[name].url

    async def kill(self, name: str) -> None:
        """The nearest thing to kill -9."""
        door = self._doors.pop(name)
        door.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await door.task

    async def stop(self, name: str) -> None:
        """An orderly stop."""
        door = self._doors.pop(name)
        door.context.stopping.set()
        await door.task

    async def stop_in_its_tracks(self, name: str, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
        """Nothing comes from it any more until the event is set, and to the others it is gone."""
        context = self._doors[name].context
        gate = self._stopped[context.bus] = asyncio.Event()

        async def no_beat() -> None:
            return None

        monkeypatch.setattr(context, "beat", no_beat)
        await context.peers.leave(context.pulse)
        return gate

    async def end(self) -> None:
        for door in self._doors.values():
            door.context.stopping.set()
            await door.task


@pytest_asyncio.fixture
async def doors(
    downstream: Downstream,
    redis_url: str,
    namespace: str,
    toy_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Doors]:
    monkeypatch.setattr(resumables, "_LOOK_S", 0.02)
    monkeypatch.setattr(resumables, "_SUSPECT_S", 0.1)
    monkeypatch.setattr(service, "_FOLLOW_MS", 20)
    monkeypatch.setattr("tokenizer_svc.service._STOP_GRACE_S", 0.1)
    settings = Settings(
        model=str(toy_model), served_model_name=("toy",), cache_dir=tmp_path, redis=redis_url, namespace=namespace
    )
    doors = Doors(settings, monkeypatch)
    yield doors
    await doors.end()


@pytest_asyncio.fixture
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    """A session that keeps no connection alive: each request may be the last of its door."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


def events(body: bytes) -> list[bytes]:
    """The complete events in what a client has received."""
    return [event + b"\n\n" for event in body.split(b"\n\n")[:-1]]


def event_id(event: bytes) -> str:
    """The id of an event."""
    [first, _] = event.split(b"\n", 1)
    assert first.startswith(b"id: ")
    return first[4:].decode()


async def read_events(response: aiohttp.ClientResponse, count: int) -> bytes:
    """What comes until so many events are there."""
    body = b""
    async with asyncio.timeout(20):
        while len(events(body)) < count:
            body += await response.content.readany()
    return body
