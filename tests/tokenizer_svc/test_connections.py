"""Connections to a real front door: how many, how slow, and what they may send."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from tests.tokenizer_svc.conftest import StartDoor
from tests.tokenizer_svc.downstream import Downstream, endless
from tokenizer_svc.limits import Limits

Bound = Callable[..., None]
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> Bound:
    """Serve with bounds of the test's own."""

    def bound(**bounds: Any) -> None:
        monkeypatch.setattr(Limits, "of", lambda settings: Limits(**bounds))

    return bound


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def trickle(writer: asyncio.StreamWriter, piece: bytes, seconds: float) -> None:
    """Something all the time, for so long."""
    for _ in range(int(seconds / 0.05)):
        writer.write(piece)
        await asyncio.sleep(0.05)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that still comes until the server closes."""
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionError:
        return b""


async def status(reader: asyncio.StreamReader) -> int:
    async with asyncio.timeout(20):
        head = await reader.readuntil(b"\r\n\r\n")
    return int(head.split(b" ")[1])


async def test_headers_must_arrive_in_time(bound: Bound, start_door: StartDoor, port: int) -> None:
    bound(header_s=0.5)
    await start_door()
    async with connected(port) as (reader, writer):
        writer.write(HEAD)
        trickling = asyncio.create_task(trickle(writer, b"X-Slow: 1\r\n", 5))
        assert await ended(reader) == b""
        assert not trickling.done(), "it was cut while something still came"
        trickling.cancel()


async def test_an_idle_connection_has_more_time(bound: Bound, start_door: StartDoor, port: int) -> None:
    """The clock of headers runs from their first byte."""
    bound(header_s=0.3)
    await start_door()
    async with connected(port) as (reader, writer):
        for _ in range(2):
            await asyncio.sleep(0.5)
            writer.write(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await status(reader) == 200
            await reader.readuntil(b"}")


async def test_a_connection_that_never_asks_is_closed(bound: Bound, start_door: StartDoor, port: int) -> None:
    bound(idle_s=0.3)
    await start_door()
    async with connected(port) as (reader, _):
        assert await ended(reader) == b""


async def test_bodies_must_arrive_in_time(bound: Bound, start_door: StartDoor, port: int) -> None:
    bound(body_s=0.3)
    await start_door()
    async with connected(port) as (reader, writer):
        writer.write(HEAD + b"Content-Length: 1000\r\n\r\n{")
        trickling = asyncio.create_task(trickle(writer, b" ", 5))
        assert await status(reader) == 408
        trickling.cancel()
        assert b"within 0.3 s" in await ended(reader)


async def test_a_slow_answer_is_no_slow_request(
    bound: Bound, start_door: StartDoor, port: int, downstream: Downstream
) -> None:
    bound(header_s=0.2, body_s=0.2, idle_s=0.2)
    downstream.script = endless
    await start_door()
    body = b'{"prompt": "a", "stream": true}'
    async with connected(port) as (reader, writer):
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        assert await status(reader) == 200
        await asyncio.sleep(1)
        assert not reader.at_eof()


async def test_who_has_been_idle_the_longest_makes_room(bound: Bound, start_door: StartDoor, port: int) -> None:
    bound(connections=3)
    await start_door()
    async with connected(port) as (first, one), connected(port) as (second, _), connected(port) as (third, _):
        one.write(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await status(first) == 200
        async with connected(port) as (fourth, four):
            four.write(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await status(fourth) == 200
            assert await ended(second) == b"", "the first was heard of later"
            assert not first.at_eof()
            assert not third.at_eof()


async def test_more_connections_than_allowed_are_refused_while_all_are_busy(
    bound: Bound, start_door: StartDoor, port: int, downstream: Downstream
) -> None:
    bound(connections=2)
    downstream.script = endless
    await start_door()
    body = b'{"prompt": "a", "stream": true}'
    request = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    async with connected(port) as (first, one), connected(port) as (second, two):
        for reader, writer in ((first, one), (second, two)):
            writer.write(request)
            assert await status(reader) == 200
        async with connected(port) as (third, _):
            head, _, rest = (await ended(third)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After" in head
            assert json.loads(rest)["error"]["code"] == "service_unavailable"
        one.close()
        await downstream.until(lambda: len(downstream.aborted) == 1)
        async with connected(port) as (fourth, four):
            four.write(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await status(fourth) == 200
        assert not second.at_eof()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-Many: 1\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer MARKER\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nMARKER",
        b"MARKER MARKER\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03MARKER\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_refused_and_not_repeated_in_logs(
    start_door: StartDoor, port: int, head: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    await start_door()
    with capture_logs() as lines:
        async with connected(port) as (reader, writer):
            writer.write(head)
            assert await status(reader) == 400
            await ended(reader)
    assert "MARKER" not in str(lines)
    shown = capfd.readouterr()
    assert "MARKER" not in shown.out + shown.err
    assert "Traceback" not in shown.err


async def test_compressed_bodies_are_refused_unread(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    for encoding in ("gzip", "deflate", "br", "zstd", "gzip, gzip"):
        headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
        async with http.post("/v1/completions", data=bomb, headers=headers) as response:
            assert response.status == 415, encoding
            assert "Content-Encoding" in (await response.json())["error"]["message"]
    assert not downstream.generates


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/generate", "/abort_request"])
async def test_deep_bodies_are_refused(http: aiohttp.ClientSession, path: str) -> None:
    for opening in (b"[", b'{"a":'):
        text = b'{"metadata":' + opening * 128 + b"1" + {b"[": b"]", b'{"a":': b"}"}[opening] * 128 + b"}"
        async with http.post(path, data=text) as response:
            assert response.status == 400
            assert (await response.json())["error"]["code"] == "too_deep"


async def test_a_body_may_be_as_deep_as_that(http: aiohttp.ClientSession) -> None:
    body: dict[str, Any] = {"prompt": "a", "unknown": json.loads("[" * 127 + "]" * 127)}
    async with http.post("/v1/completions", json=body) as response:
        assert response.status == 200


async def test_a_smaller_body_by_setting(start_door: StartDoor, url: str) -> None:
    await start_door(max_body="1KiB")
    async with aiohttp.ClientSession(url) as http:
        async with http.post("/v1/completions", json={"prompt": "a" * 2000}) as response:
            assert response.status == 413
        async with http.get("/server_info") as response:
            assert (await response.json())["limits"]["body_bytes"] == 1024
