"""The embedded Redis dies and is back, with its data or, where it cannot be read, saying so."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from rootstream import redis_keeper
from rootstream.embedded import EmbeddedServer
from shared.bus import Bus
from shared.config import WORKER


@contextlib.asynccontextmanager
async def kept(server: EmbeddedServer, said: list[str]) -> AsyncIterator[None]:
    server.start()
    keeping = asyncio.create_task(redis_keeper.keep(server, said.append))
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        server.stop()


def kill(server: EmbeddedServer) -> None:
    assert server.pid is not None
    psutil.Process(server.pid).kill()


async def test_it_is_back_at_once_with_its_data(tmp_path: Path) -> None:
    said: list[str] = []
    server = EmbeddedServer(tmp_path)
    async with kept(server, said):
        bus = Bus.connect(server.url, "n")
        epoch = await bus.next_epoch(WORKER)
        began = time.monotonic()
        kill(server)
        longest = await _held_up(bus.next_epoch(WORKER))
        assert await bus.next_epoch(WORKER) > epoch
        assert time.monotonic() - began < 2
        assert longest < 0.2, "the loop goes on meanwhile"
        await bus.close()
    assert said == ["the embedded Redis ended with signal SIGKILL; starting it again in 0.25 s"]


@pytest.mark.parametrize(("manifest", "lost", "kept_keys"), [(False, "the rest", 1), (True, "all of it", 0)])
async def test_data_that_cannot_be_read_is_cut_and_that_is_said(
    tmp_path: Path, manifest: bool, lost: str, kept_keys: int
) -> None:
    said: list[str] = []
    server = EmbeddedServer(tmp_path)
    async with kept(server, said):
        bus = Bus.connect(server.url, "n")
        await bus.ask(("SET", "early", "1"), ("SET", "late", "corrupt me"))
        [log] = (tmp_path / "appendonlydir").glob("*.manifest" if manifest else "*.incr.aof")
        content = log.read_bytes().replace(b"$10", b"$xx") if not manifest else b"nonsense"
        log.write_bytes(content)
        kill(server)
        assert await bus.ask(("DBSIZE",)) == [kept_keys]
        await bus.close()
    assert len(said) == 2
    assert f"{lost} is lost" in said[1]
    copy = tmp_path / "appendonlydir.unreadable-1"
    assert str(copy) in said[1]
    assert (copy / log.name).read_bytes() == content


async def _held_up(work: object) -> float:
    """The longest time in which the event loop did not come round while ``work`` was done, seconds."""
    task = asyncio.ensure_future(work)  # type: ignore[arg-type]
    longest, last = 0.0, time.monotonic()
    while not task.done():
        await asyncio.sleep(0.005)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    await task
    return longest
