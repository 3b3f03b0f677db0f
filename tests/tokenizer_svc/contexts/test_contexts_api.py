"""What the front door says to the others for contexts, whose they are, and how long they stay."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import msgspec
import pytest

from shared.bus import Bus
from shared.protocol import Failure, Finish, Generate, Release
from tests.tokenizer_svc.conftest import StartDoor
from tests.tokenizer_svc.downstream import Downstream, endless
from tests.tokenizer_svc.test_slow_readers import LONG, Idler, Tap, cut_off, idler
from tokenizer_svc.contexts.calls import digest_of
from tokenizer_svc.contexts.store import Claimed, Dropped

__all__ = ["idler"]  # a fixture

PATH = "/v1/contexts"
TEXT = {"type": "text", "text": "a"}
GEN = {"type": "gen", "name": "x", "max_tokens": 8}


async def post(http: aiohttp.ClientSession, key: str | None = None, **body: Any) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with http.post(PATH, json=body, headers=headers) as response:
        return response.status, await response.json()


async def made(http: aiohttp.ClientSession, key: str | None = None, **body: Any) -> str:
    status, answer = await post(http, key, **body)
    assert status == 200, answer
    return answer["id"]


async def test_hints_reach_the_scheduler_under_the_tenant_s_name(
    start_door: StartDoor, downstream: Downstream, url: str
) -> None:
    await start_door(api_keys="ann:key-of-ann")
    async with aiohttp.ClientSession(url) as http:
        await made(http, "key-of-ann", parts=[TEXT, GEN | {"n": 2}], id="root", group="map")
        await made(http, "key-of-ann", parts=[TEXT, GEN], parent="root", id="end", keep=False, release=["root"])
    first, second, third = downstream.received(Generate)
    assert [each.group for each in (first, second, third)] == ["ann/map", "ann/map", ""]
    assert [each.context for each in (first, second, third)] == ["ann/root", "ann/root~1", "ann/end"]
    released = {name for release in downstream.received(Release) for name in release.contexts}
    assert released == {"ann/root~1", "ann/end", "ann/root"}


async def test_contexts_are_their_tenant_s(start_door: StartDoor, url: str) -> None:
    await start_door(api_keys="ann:key-of-ann,bob:key-of-bob")
    async with aiohttp.ClientSession(url) as http:
        id = await made(http, "key-of-ann", parts=[TEXT], id="mine")
        for method in ("GET", "DELETE"):
            async with http.request(method, f"{PATH}/{id}", headers={"x-api-key": "key-of-bob"}) as response:
                assert response.status == 404
        status, answer = await post(http, "key-of-bob", parts=[TEXT], parent=id)
        assert (status, answer["error"]["code"]) == (404, "context_not_found")
        assert await made(http, "key-of-bob", parts=[{"type": "text", "text": "other"}], id="mine") == "mine"
        await made(http, "key-of-bob", parts=[], keep=False, release=["mine"])
        assert await made(http, "key-of-ann", parts=[TEXT], parent=id)
        assert (await post(http, parts=[]))[0] == 401


async def test_any_front_door_goes_on_and_none_has_to_stay(start_door: StartDoor, url: str) -> None:
    first = await start_door("t1")
    async with aiohttp.ClientSession(url) as http:
        id = await made(http, parts=[TEXT, GEN], id="root")
        first.stopping.set()
    await start_door("t2")
    async with aiohttp.ClientSession(url) as http:
        assert await made(http, parts=[TEXT], parent=id)
        assert await made(http, parts=[TEXT, GEN], id="root") == id


async def test_what_redis_lost_is_not_there(http: aiohttp.ClientSession, bus: Bus) -> None:
    id = await made(http, parts=[TEXT])
    await bus.ask(("DEL", bus.names.context(f"/{id}")))
    assert (await post(http, parts=[TEXT], parent=id))[0] == 404


async def test_the_oldest_go_where_a_tenant_has_too_much(start_door: StartDoor, bus: Bus, url: str) -> None:
    await start_door(context_bytes="64KiB")
    async with aiohttp.ClientSession(url) as http:
        root = await made(http, parts=[{"type": "text", "text": "a b" * 500}])
        ids = [await made(http, parts=[], parent=root) for _ in range(40)]  # each of them uses the root
        left = [id for id in ids if await bus.value(bus.names.context(f"/{id}")) != msgspec.msgpack.encode(Dropped())]
        assert 4 < len(left) < 40
        assert left == ids[-len(left) :]
        assert await made(http, parts=[], parent=root)
        sizes = [len(await bus.value(bus.names.context(f"/{id}")) or b"") for id in left]
        assert sum(sizes) < 2 * 64 * 1024


async def test_a_context_s_time_begins_anew_when_it_is_used(start_door: StartDoor, bus: Bus, url: str) -> None:
    await start_door(context_keep=100)
    async with aiohttp.ClientSession(url) as http:
        id = await made(http, parts=[TEXT])
        key = bus.names.context(f"/{id}")
        await bus.ask(("EXPIRE", key, 5))
        await made(http, parts=[TEXT], parent=id)
        [seconds] = await bus.ask(("TTL", key))
        assert seconds > 90


async def test_the_call_of_a_front_door_that_died_is_taken_over(
    http: aiohttp.ClientSession, bus: Bus, downstream: Downstream
) -> None:
    body: dict[str, Any] = {"parts": [TEXT, GEN], "id": "orphan"}
    left = msgspec.msgpack.encode(Claimed(digest_of(body), "a process that is gone"))
    await bus.ask(("SET", bus.names.context("/orphan"), left, "PX", 700))
    asking = asyncio.create_task(post(http, **body))
    await asyncio.sleep(0.3)
    assert not downstream.generates
    assert (await asking)[0] == 200
    assert len(downstream.generates) == 1


async def test_an_error_after_the_first_event_ends_the_stream(
    http: aiohttp.ClientSession, downstream: Downstream
) -> None:
    async def fails(downstream: Downstream, generate: Generate) -> None:
        await downstream.admit(generate)
        await downstream.texts(generate, (0, [10], "Hello", Finish.NONE, None))
        await downstream.fail(generate, Failure.TIMEOUT, "too late")

    downstream.script = fails
    async with http.post(PATH, json={"parts": [TEXT, GEN], "stream": True, "id": "bad"}) as response:
        assert response.status == 200
        events = [event.removeprefix("data: ") for event in (await response.text()).split("\n\n") if event]
    first, last = map(json.loads, events)
    assert first == {"id": "bad", "part": 1, "name": "x", "delta": "Hello"}
    assert last["error"]["code"] == "timeout"
    assert (await post(http, parts=[TEXT], parent="bad"))[0] == 404


async def test_a_refusal_before_the_first_event_keeps_its_status(
    http: aiohttp.ClientSession, downstream: Downstream
) -> None:
    async def full(downstream: Downstream, generate: Generate) -> None:
        await downstream.fail(generate, Failure.QUEUE_FULL, "full")

    downstream.script = full
    async with http.post(PATH, json={"parts": [TEXT, GEN], "stream": True}) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (429, "queue_full")


async def test_a_client_that_leaves_a_stream_ends_its_call(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    downstream.script = endless
    async with http.post(PATH, json={"parts": [TEXT, GEN], "stream": True, "id": "left"}) as response:
        await response.content.readany()
    await downstream.until(lambda: bool(downstream.aborted))
    await downstream.until(lambda: any("/left" in each.contexts for each in downstream.received(Release)))


async def test_a_client_that_does_not_read_is_cut_off(
    start_door: StartDoor, downstream: Downstream, url: str, idler: Idler
) -> None:
    downstream.script = Tap(pieces=100_000)
    await start_door()
    async with aiohttp.ClientSession() as http:
        await idler.ask(PATH, {"parts": [TEXT, GEN | {"max_tokens": LONG}], "stream": True})
        await downstream.until(lambda: bool(downstream.aborted))
        assert await cut_off(http, url) == 1
    with pytest.raises(ConnectionResetError):
        await idler.read_to_the_end()


async def test_limits(http: aiohttp.ClientSession) -> None:
    for body, param in (
        ({"parts": [TEXT] * 1025}, "parts"),
        ({"parts": [TEXT, {"type": "select", "name": "x", "choices": ["a"] * 257}]}, "parts[1].choices"),
        ({"parts": [], "release": ["a"] * 257}, "release"),
        ({"parts": [], "id": "a/b"}, "id"),
        ({"parts": [], "parent": "x" * 65}, "parent"),
        ({"parts": [], "group": "x" * 513}, "group"),
        ({"parts": [], "timeout": 0}, "timeout"),
        ({"parts": [], "temperature": 1}, "temperature"),
        ({"parts": [TEXT, GEN | {"max_completion_tokens": 3}]}, "parts[1].max_completion_tokens"),
        ({"parts": [TEXT], "tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({}, "parts"),
        ({"parts": [{"type": "message", "message": {"role": "robot", "content": "x"}}]}, "parts[0].message.role"),
    ):
        status, answer = await post(http, **body)  # type: ignore[arg-type]
        assert (status, answer["error"]["param"]) == (400, param), answer
