"""Clients that do not read: little memory for each, an end after a while, and nothing of it for the others."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from shared.protocol import Finish, Generate
from tests.tokenizer_svc.conftest import StartDoor
from tests.tokenizer_svc.downstream import Downstream
from tokenizer_svc.limits import Limits

KEPT = 256 * 1024  # what one client may cost, the system's buffers included
LONG = 1  # max_tokens of a request that gets a long answer
CHUNK = "x" * 2000


class Tap:
    """Long answers in pieces of 2 kB, as many as wanted; short ones of twenty pieces."""

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces
        self.told = 0  # of the long answer

    async def __call__(self, downstream: Downstream, generate: Generate) -> None:
        await downstream.admit(generate)
        is_long = generate.sampling.max_tokens == LONG
        for index in range(self.pieces if is_long else 20):
            await downstream.texts(generate, (index, [10], CHUNK if is_long else "y", Finish.NONE, None))
            self.told += is_long
            await asyncio.sleep(0.005)
        if not is_long:
            await downstream.texts(generate, (20, [2], "", Finish.STOP, 2))


class Idler:
    """A client on a bare connection, which reads only what it is told to."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.setblocking(False)

    async def ask(self, path: str, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, ("127.0.0.1", self._port))
        await loop.sock_sendall(self._socket, head + data)

    async def read(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._socket, 4096)

    async def read_to_the_end(self) -> None:
        while await self.read():
            pass

    def close(self) -> None:
        self._socket.close()


@pytest_asyncio.fixture
async def idler(port: int) -> AsyncIterator[Idler]:
    idler = Idler(port)
    yield idler
    idler.close()


async def metric(http: aiohttp.ClientSession, url: str, name: str) -> float:
    async with http.get(f"{url}/metrics") as response:
        lines = [line for line in (await response.text()).splitlines() if line.startswith(f"{name}{{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def cut_off(http: aiohttp.ClientSession, url: str) -> float:
    return await metric(http, url, "rootstream_http_cut_off_total")


async def short(http: aiohttp.ClientSession, url: str) -> int:
    """The events of a short stream."""
    async with http.post(f"{url}/v1/completions", json={"prompt": "a", "stream": True}) as response:
        return (await response.read()).count(b"data: ")


def limited(monkeypatch: pytest.MonkeyPatch, **limits: Any) -> None:
    monkeypatch.setattr(Limits, "of", lambda settings: Limits(**limits))


async def test_what_piles_up_is_bounded(
    start_door: StartDoor, downstream: Downstream, url: str, idler: Idler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reads nothing, twenty read: it is cut off at the bound, they notice nothing."""
    tap = downstream.script = Tap(pieces=100_000)
    await start_door()
    async with aiohttp.ClientSession() as http:
        await idler.ask("/v1/completions", {"prompt": "a", "stream": True, "max_tokens": LONG})
        others = [asyncio.create_task(short(http, url)) for _ in range(20)]
        most = 0.0
        while not downstream.aborted:
            most = max(most, await metric(http, url, "rootstream_http_unread_bytes"))
            await asyncio.sleep(0.01)
        limits = Limits()
        assert limits.unread_bytes / 2 < most  # it did pile up
        assert most + 2 * limits.send_buffer_bytes <= KEPT
        assert await asyncio.gather(*others) == [22] * 20
        assert await cut_off(http, url) == 1
        assert await metric(http, url, "rootstream_http_unread_bytes") == 0
    assert len(CHUNK) * tap.told < 2 * KEPT  # soon after the bound, and by far the most of it unsaid
    with pytest.raises(ConnectionResetError):
        await idler.read_to_the_end()


@pytest.mark.parametrize("stream", [True, False])
async def test_nothing_is_read_for_a_while(
    start_door: StartDoor,
    downstream: Downstream,
    url: str,
    idler: Idler,
    monkeypatch: pytest.MonkeyPatch,
    stream: bool,
) -> None:
    """A little is left unread, and no byte of it taken: cut off, whether the answer is a stream or whole."""
    limited(monkeypatch, unread_s=0.3, unread_bytes=10**9)

    async def once(downstream: Downstream, generate: Generate) -> None:
        await downstream.admit(generate)
        finish = Finish.NONE if stream else Finish.STOP
        await downstream.texts(generate, (0, [10], "x" * 300_000, finish, None))

    downstream.script = once
    await start_door()
    async with aiohttp.ClientSession() as http:
        await idler.ask("/v1/completions", {"prompt": "a", "stream": stream, "max_tokens": LONG})
        while not await cut_off(http, url):
            await asyncio.sleep(0.02)
    if stream:
        await downstream.until(lambda: len(downstream.aborted) == 1)
    with pytest.raises(ConnectionResetError):
        await idler.read_to_the_end()


async def test_a_slow_client_that_reads_is_left_alone(
    start_door: StartDoor, downstream: Downstream, url: str, idler: Idler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slower than its answer, but never still for long; when all has been read it may wait as long as it takes."""
    limited(monkeypatch, unread_s=0.3, unread_bytes=10**9)
    downstream.script = Tap(pieces=120)
    await start_door()
    async with aiohttp.ClientSession() as http:
        await idler.ask("/v1/completions", {"prompt": "a", "stream": True, "max_tokens": LONG})
        read = 0
        while read < 120 * len(CHUNK):
            for _ in range(5):
                read += len(await idler.read())
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.6)
        assert await cut_off(http, url) == 0
    assert not downstream.aborted


async def test_a_resumable_stream_only_loses_its_connection(
    start_door: StartDoor, downstream: Downstream, url: str, idler: Idler, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, unread_s=0.3)
    downstream.script = Tap(pieces=200)
    await start_door()
    async with aiohttp.ClientSession() as http:
        body = {"prompt": "a", "stream": True, "resumable": True, "max_tokens": LONG}
        await idler.ask("/v1/completions", body)
        while not await cut_off(http, url):
            await asyncio.sleep(0.02)
        [id] = downstream.generates
        async with http.get(f"{url}/v1/streams/cmpl-{id:016x}") as response:
            text = b""
            async with asyncio.timeout(20):
                while text.count(b"x") < 200 * len(CHUNK):
                    text += await response.content.readany()
    assert not downstream.aborted
