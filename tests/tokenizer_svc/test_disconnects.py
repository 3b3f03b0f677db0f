"""A client that leaves frees what it holds: every id it caused is aborted and untracked at once."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from shared.protocol import Generate, Untrack
from shared.service import Context
from tests.tokenizer_svc.conftest import StartDoor
from tests.tokenizer_svc.downstream import Downstream, Script, admitted_only, endless, silent

HI = [{"role": "user", "content": "hi"}]
CASES: list[tuple[str, dict[str, Any], int]] = [
    ("/v1/chat/completions", {"messages": HI}, 1),
    ("/v1/chat/completions", {"messages": HI, "n": 3}, 3),
    ("/v1/completions", {"prompt": ["a", "b"], "n": 2}, 4),
    ("/generate", {"text": ["a", "b", "c"]}, 3),
]


@pytest.mark.parametrize(("path", "body", "count"), CASES)
@pytest.mark.parametrize("script", [silent, admitted_only, endless])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves(
    http: aiohttp.ClientSession,
    downstream: Downstream,
    path: str,
    body: dict[str, Any],
    count: int,
    script: Script,
    stream: bool,
) -> None:
    downstream.script = script
    asking = asyncio.create_task(http.post(path, json=body | {"stream": stream}))
    await downstream.until(lambda: len(downstream.generates) == count)
    if stream and script is not silent:
        response = await asking  # the headers are there; the answer is not
        response.close()
    else:
        asking.cancel()
    await downstream.until(lambda: len(downstream.aborted) == count)
    assert downstream.aborted == downstream.generates.keys()
    await downstream.until(lambda: len(downstream.received(Untrack)) == count)
    assert {untrack.id for untrack in downstream.received(Untrack)} == downstream.aborted


async def test_a_client_that_leaves_while_its_request_is_written(
    http: aiohttp.ClientSession, downstream: Downstream, door: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The abort must not overtake the request."""
    downstream.script = silent
    transaction = door.bus.transaction
    held = asyncio.Event()
    writing = asyncio.Event()

    def slow() -> Any:
        writes = transaction()
        commit = writes.commit

        async def later(patience: float = 30) -> list[Any]:
            writing.set()
            await held.wait()
            return await commit(patience)

        writes.commit = later  # type: ignore[method-assign]
        return writes

    monkeypatch.setattr(door.bus, "transaction", slow)
    asking = asyncio.create_task(http.post("/v1/completions", json={"prompt": "a"}))
    await writing.wait()
    asking.cancel()
    await asyncio.sleep(0.05)  # the server notices that the client left
    assert not downstream.messages
    held.set()
    await downstream.until(lambda: len(downstream.aborted) == 1)
    kinds = [type(message).__name__ for message in downstream.messages if type(message).__name__ != "Track"]
    assert kinds.index("Generate") < kinds.index("Abort")


async def test_finished_answers_are_not_aborted(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    for stream in (True, False):
        async with http.post("/v1/completions", json={"prompt": "a", "stream": stream}) as response:
            await response.read()
    downstream.script = silent
    asking = asyncio.create_task(http.post("/v1/completions", json={"prompt": "a"}))
    await downstream.until(lambda: len(downstream.generates) == 3)
    asking.cancel()
    await downstream.until(lambda: bool(downstream.aborted))
    assert downstream.aborted == {downstream.received(Generate)[-1].id}


async def test_a_new_process_aborts_what_its_predecessor_left(
    start_door: StartDoor, downstream: Downstream, url: str
) -> None:
    downstream.script = silent
    door = await start_door("t")
    async with aiohttp.ClientSession(url) as http:
        asking = asyncio.create_task(http.post("/v1/completions", json={"prompt": "a"}))
        await downstream.until(lambda: len(downstream.generates) == 1)
        [left] = downstream.generates
        await start_door("other")
        await start_door(door.replica)  # as a restarted process finds it: live requests under its own name
        await downstream.until(lambda: left in downstream.aborted)
        asking.cancel()


async def test_a_detokenizer_that_stays_away_ends_its_requests(
    http: aiohttp.ClientSession, downstream: Downstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shared.registry import Role, State

    monkeypatch.setattr("tokenizer_svc.service._LOST_S", 0.0)
    monkeypatch.setattr("shared.hearing.STALE_S", 0.8)
    downstream.script = silent
    asking = asyncio.create_task(http.post("/v1/completions", json={"prompt": "a"}))
    await downstream.until(lambda: len(downstream.generates) == 1)
    await downstream.set_state(Role.DETOKENIZER, "d2", State.READY)
    await downstream.set_state(Role.DETOKENIZER, "d", None)
    response = await asking
    assert response.status == 503
    assert "went away" in (await response.json())["error"]["message"]
    await downstream.until(lambda: len(downstream.aborted) == 1)
