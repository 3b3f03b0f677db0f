"""A rolling restart and an orderly stop of real processes under load: no stream breaks."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.rootstream.running import BANNER, Running, end
from tests.toy import make_toy_model

pytestmark = pytest.mark.slow
_TOKENS = 150


class Refused(Exception):
    """What a front door said that takes nobody."""


class Load:
    """Clients that ask again and again, each on connections of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.whole = 0
        self.refused: list[str] = []
        self.broken: list[str] = []
        self.over = asyncio.Event()
        self.expected: list[int] = []

    async def ask(self, tokens: int = _TOKENS) -> list[int]:
        """One greedy stream of tokens. Raises if it is refused or broken."""
        body: dict[str, Any] = {
            "input_ids": [5, 6, 7, 8],
            "sampling_params": {"temperature": 0, "max_new_tokens": tokens, "ignore_eos": True},
        }
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.url}/generate", json=body) as response,
        ):
            if response.status == 503:
                raise Refused(await response.text())
            response.raise_for_status()
            return (await response.json())["output_ids"]

    async def client(self) -> None:
        while not self.over.is_set():
            try:
                tokens = await self.ask()
            except Refused as refused:
                self.refused.append(str(refused))
                await asyncio.sleep(0.05)
            except (aiohttp.ClientError, OSError) as error:
                self.broken.append(repr(error))
            else:
                self.whole += 1
                if tokens != self.expected:
                    self.broken.append(f"other tokens, {len(tokens)} of them")


@pytest.fixture
def running(tmp_path: Path) -> Any:
    launcher = Running(tmp_path, make_toy_model(tmp_path / "toy"), "--dtype", "float32", "--lease", "1")
    try:
        launcher.wait_for(BANNER)
        yield launcher
    finally:
        end(launcher)


async def test_a_rolling_restart_and_then_a_stop_break_no_stream(running: Running) -> None:
    load = Load(f"http://127.0.0.1:{running.port}")
    load.expected = await load.ask()
    before = {process.pid for process in running.family()}
    redis = running.child("valkey").pid
    clients = [asyncio.create_task(load.client()) for _ in range(8)]
    running.process.send_signal(signal.SIGUSR1)
    await asyncio.to_thread(running.wait_for, "rolling restart: done")
    whole, refused = load.whole, list(load.refused)
    assert {process.pid for process in running.family()} & before <= {redis}
    running.process.send_signal(signal.SIGTERM)
    load.over.set()
    code = await asyncio.to_thread(running.process.wait, 60)
    await asyncio.gather(*clients)
    assert code == 0, running.output()
    assert whole > 0
    assert refused == [], "whoever came in the meantime found somebody"
    assert load.broken == [], running.output()
    assert load.whole + len(load.refused) >= whole + len(clients), "who was in when it stopped got the whole answer"
    assert "Traceback" not in running.output()
