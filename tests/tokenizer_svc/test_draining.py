"""An orderly stop of a front door: who is in may stay, who comes is refused or goes next door."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from shared.protocol import Finish, Generate
from shared.service import Context
from tests.tokenizer_svc.conftest import StartDoor, until_ready
from tests.tokenizer_svc.downstream import Downstream, admitted_only, endless

TEXT = "/v1/completions"
STREAM = {"prompt": "a", "stream": True}


async def finish(downstream: Downstream) -> None:
    for generate in downstream.received(Generate):
        await downstream.texts(generate, (1, [11], " wörld", Finish.STOP, 2))


def stop(door: Context) -> None:
    door.stopping.set()


async def begun(http: aiohttp.ClientSession, downstream: Downstream, **more: Any) -> aiohttp.ClientResponse:
    """A stream whose first text is there."""
    downstream.script = endless
    response = await http.post(TEXT, json=STREAM | more)
    assert b"once" in await response.content.readuntil(b"\n\n") or b"once" in await response.content.readuntil(b"\n\n")
    return response


async def test_running_answers_are_finished_and_new_ones_refused(
    start_door: StartDoor, downstream: Downstream, url: str
) -> None:
    door = await start_door(drain_timeout=20)
    async with aiohttp.ClientSession(url) as http:
        await until_ready(http)
        response = await begun(http, downstream)
        stop(door)
        await asyncio.sleep(0.1)
        async with http.get("/ready") as ready:
            assert ready.status == 503
            assert (await ready.json())["missing"] == ["this front door is stopping"]
        async with http.post(TEXT, json=STREAM) as refused:
            assert refused.status == 503
            assert int(refused.headers["Retry-After"]) > 0
            assert refused.headers["Connection"] == "close"
            assert "is stopping" in (await refused.json())["error"]["message"]
        await finish(downstream)
        rest = await response.read()
        assert "wörld" in rest.decode()
        assert rest.endswith(b"data: [DONE]\n\n")
    async with asyncio.timeout(10):
        while await listens(url):
            await asyncio.sleep(0.02)


async def test_what_takes_too_long_ends_in_an_error_that_the_client_is_told(
    start_door: StartDoor, downstream: Downstream, url: str
) -> None:
    door = await start_door(drain_timeout=0.2)
    async with aiohttp.ClientSession(url) as http:
        stream = await begun(http, downstream)
        downstream.script = admitted_only
        whole = asyncio.create_task(http.post(TEXT, json={"prompt": "a"}))
        await downstream.until(lambda: len(downstream.generates) == 2)
        stop(door)
        events = await stream.read()
        assert b'"error"' in events
        assert b"the server is stopping" in events
        assert (await whole).status == 503
    await downstream.until(lambda: downstream.aborted == downstream.generates.keys())


async def test_the_port_is_left_to_another_front_door_at_once(
    start_door: StartDoor, downstream: Downstream, url: str
) -> None:
    old = await start_door("old", drain_timeout=20)
    async with aiohttp.ClientSession(url) as http:
        response = await begun(http, downstream)
        await start_door("new")
        async with asyncio.timeout(10):
            while not any(pulse.replica == "new" for pulse in old.peers.pulses(old.role)):
                await asyncio.sleep(0.01)
        stop(old)
        answers = await asyncio.gather(*(status(url) for _ in range(60)))
        assert answers == [200] * 60
        await asyncio.sleep(0.6)
        before = len(downstream.generates)
        assert await asyncio.gather(*(status(url) for _ in range(20))) == [200] * 20
        latest = downstream.received(Generate)[before:]
        assert {generate.reply_to for generate in latest} == {"new"}
        await finish(downstream)
        assert (await response.read()).endswith(b"data: [DONE]\n\n")


async def test_who_was_connected_is_served_once_more(start_door: StartDoor, downstream: Downstream, url: str) -> None:
    old = await start_door("old", drain_timeout=20)
    async with aiohttp.ClientSession(url) as http:
        await until_ready(http)
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        downstream.script = endless
        async with http.get("/ping") as kept:
            await kept.read()
        await start_door("new")
        async with asyncio.timeout(10):
            while not any(pulse.replica == "new" for pulse in old.peers.pulses(old.role)):
                await asyncio.sleep(0.01)
        stop(old)
        await asyncio.sleep(0.2)
        async with http.post(TEXT, json=STREAM) as again:  # on the connection that was kept
            assert again.status == 200
            assert again.headers["Connection"] == "close"
            body = b'{"prompt": "a", "stream": true}'
            writer.write(
                f"POST {TEXT} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            assert b" 200 " in await asyncio.wait_for(reader.readline(), 10)
            assert {generate.reply_to for generate in downstream.received(Generate)} == {"old"}
            await finish(downstream)
            assert (await again.read()).endswith(b"data: [DONE]\n\n")
            assert b"[DONE]" in await asyncio.wait_for(reader.read(), 10)
        writer.close()


async def status(url: str) -> int:
    """What a client is answered who comes on a connection of its own."""
    async with aiohttp.ClientSession(url) as http, http.post(TEXT, json=STREAM) as response:
        return response.status


async def listens(url: str) -> bool:
    try:
        async with aiohttp.request("GET", f"{url}/ping"):
            return True
    except aiohttp.ClientConnectionError:
        return False
