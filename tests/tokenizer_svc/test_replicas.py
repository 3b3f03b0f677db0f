"""Several front doors on one port, and detokenizers to choose from."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp
import pytest_asyncio

from shared.protocol import Generate
from shared.registry import Role, State
from shared.service import Context
from tests.tokenizer_svc.conftest import StartDoor
from tests.tokenizer_svc.downstream import Downstream, endless, silent


@pytest_asyncio.fixture
async def doors(start_door: StartDoor) -> list[Context]:
    return [await start_door("t1"), await start_door("t2")]


async def ask(url: str, body: dict[str, object], path: str = "/v1/completions") -> object:
    """One request on a connection of its own: the kernel picks the front door."""
    async with aiohttp.ClientSession(url) as http, http.post(path, json=body) as response:
        assert response.status == 200
        return await response.json()


async def test_both_serve_on_one_port(doors: list[Context], downstream: Downstream, url: str) -> None:
    await asyncio.gather(*(ask(url, {"prompt": "a"}) for _ in range(40)))
    assert set(Counter(generate.reply_to for generate in downstream.received(Generate))) == {"t1", "t2"}


async def test_abort_reaches_the_front_door_that_holds_the_request(
    doors: list[Context], downstream: Downstream, url: str
) -> None:
    downstream.script = endless
    asking = [asyncio.create_task(ask(url, {"prompt": "a", "n": 2})) for _ in range(12)]
    await downstream.until(lambda: len(downstream.generates) == 24)
    firsts = [generate.id for generate in downstream.received(Generate)][::2]
    answers = await asyncio.gather(
        *(ask(url, {"rid": f"cmpl-{id:016x}"}, "/abort_request") for id in firsts),
    )
    assert answers == [{"success": True}] * 12
    for answer in await asyncio.gather(*asking):
        assert isinstance(answer, dict)
        assert [choice["finish_reason"] for choice in answer["choices"]] == ["abort", "abort"]
        assert [choice["text"] for choice in answer["choices"]] == ["once", "once"]
    await downstream.until(lambda: len(downstream.aborted) == 24)


async def test_the_detokenizer_with_the_fewest_requests_is_picked(
    http: aiohttp.ClientSession, downstream: Downstream
) -> None:
    downstream.script = silent
    await downstream.set_state(Role.DETOKENIZER, "d2", State.READY)
    async with asyncio.timeout(10):
        while True:  # until the front door has read the new pulse
            states = await (await http.get("/health")).json()
            if len(states["processes"]["detokenizer"]) == 2:
                break
            await asyncio.sleep(0.05)
    tasks: list[asyncio.Task[aiohttp.ClientResponse]] = []
    for count in range(1, 7):
        tasks.append(asyncio.create_task(http.post("/v1/completions", json={"prompt": "a"})))
        await downstream.until(lambda count=count: len(downstream.generates) == count)
    assert Counter(generate.detokenizer for generate in downstream.received(Generate)) == {"d": 3, "d2": 3}
    for task in tasks:
        task.cancel()
