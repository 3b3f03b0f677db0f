"""The HTTP client over arbitrary cuts of the byte stream, and with servers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream.lang.backends import connection, http
from rootstream.lang.backends.connection import Answer, Broken, Connection
from rootstream.lang.backends.http import Address, Connections, NoUrl, Unreachable


class Transport(asyncio.Transport):
    """A connection whose other end is the test."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.is_open = True

    def write(self, data: Any) -> None:
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.is_open = False

    close = abort


def response(body: bytes, *, chunks: Sequence[int] | None, status: int = 200, more: bytes = b"") -> bytes:
    """With Content-Length, or in chunks of these sizes."""
    head = b"HTTP/1.1 %d Whatever\r\nX-Thing: some \r\n%b" % (status, more)
    if chunks is None:
        return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
    pieces, rest = list[bytes](), body
    for size in chunks:
        if piece := rest[:size]:
            pieces.append(b"%x\r\n%b\r\n" % (len(piece), piece))
        rest = rest[size:]
    tail = b"%x\r\n%b\r\n" % (len(rest), rest) if rest else b""
    return b"%bTransfer-Encoding: chunked\r\n\r\n%b%b0\r\nTrailer: t\r\n\r\n" % (head, b"".join(pieces), tail)


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    ends = [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in zip([0, *ends], ends, strict=False) if a < b]


def within_loop(body: Callable[[], None]) -> None:
    async def main() -> None:
        body()

    asyncio.run(main())


def opened() -> tuple[Connection, Transport]:
    made, transport = Connection(), Transport()
    made.connection_made(transport)
    return made, transport


bodies = st.binary(max_size=300)
sizes = st.none() | st.lists(st.integers(1, 60), max_size=8)
cuts = st.lists(st.integers(0, 2000), max_size=12)
statuses = st.sampled_from([200, 201, 400, 404, 429, 503])
early = st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"])


@given(st.lists(st.tuples(bodies, sizes, statuses, early), min_size=1, max_size=3), cuts)
def test_answers_do_not_depend_on_where_they_are_cut(answers: list[Any], cuts: list[int]) -> None:
    def run() -> None:
        made, transport = opened()
        for body, chunks, status, before in answers:
            streamed: list[bytes] = []
            future = made.ask(b"request", streamed.append)
            for piece in pieces(before + response(body, chunks=chunks, status=status), cuts):
                assert not future.done()
                made.data_received(piece)
            answer = future.result()
            assert answer.status == status
            assert answer.headers[b"x-thing"] == b"some"
            assert b"trailer" not in answer.headers
            got, other = (b"".join(streamed), answer.body) if status == 200 else (answer.body, b"".join(streamed))
            assert (got, other) == (body, b"")
            assert made.reusable
        assert transport.is_open

    within_loop(run)


@given(bodies, sizes, st.integers(0, 2000), cuts)
def test_an_answer_that_ends_too_early_is_broken(
    body: bytes, chunks: list[int] | None, end: int, cuts: list[int]
) -> None:
    whole = response(body, chunks=chunks)
    whole = whole[: end % len(whole)]

    def run() -> None:
        made, _ = opened()
        future = made.ask(b"request", None)
        for piece in pieces(whole, cuts):
            made.data_received(piece)
        made.connection_lost(None)
        assert isinstance(future.exception(), Broken)
        assert made.heard == bool(whole)
        assert not made.reusable

    within_loop(run)


@given(bodies, cuts)
def test_a_body_without_a_length_ends_with_the_connection(body: bytes, cuts: list[int]) -> None:
    def run() -> None:
        made, _ = opened()
        future = made.ask(b"request", None)
        for piece in pieces(b"HTTP/1.0 200 OK\r\n\r\n" + body, cuts):
            made.data_received(piece)
        assert not future.done()
        made.connection_lost(None)
        assert future.result() == Answer(200, {}, body)

    within_loop(run)


@given(st.binary(max_size=200), cuts)
def test_bytes_that_are_no_http_break_the_connection_and_nothing_else(data: bytes, cuts: list[int]) -> None:
    def run() -> None:
        made, transport = opened()
        future = made.ask(b"request", None)
        for piece in pieces(data, cuts):
            made.data_received(piece)
        made.connection_lost(None)
        assert isinstance(future.exception(), Broken)
        assert not made.reusable
        del transport

    within_loop(run)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * (connection.HEAD_BYTES + 1),
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000 + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nA: " + b"a" * connection.HEAD_BYTES,
        b"HTTP/1.1 500 No\r\nContent-Length: 9999999\r\n\r\n" + b"a" * 2**21,
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nxx",
        b"SSH-2.0-OpenSSH\r\n",
    ],
    ids=["long header", "many headers", "long early header", "long error", "two lengths", "both", "upgrade", "ssh"],
)
def test_what_no_server_should_send(data: bytes) -> None:
    def run() -> None:
        made, transport = opened()
        future = made.ask(b"request", None)
        for at in range(0, len(data), 1000):
            made.data_received(data[at : at + 1000])
        made.connection_lost(None)
        assert isinstance(future.exception(), Broken)
        assert not transport.is_open

    within_loop(run)


def test_a_connection_on_which_the_server_speaks_unasked_is_not_used_again() -> None:
    def run() -> None:
        made, transport = opened()
        made.data_received(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")
        assert not made.reusable
        assert not transport.is_open

    within_loop(run)


def test_what_comes_after_an_answer_spoils_the_connection() -> None:
    def run() -> None:
        made, _ = opened()
        future = made.ask(b"request", None)
        made.data_received(response(b"x", chunks=None) + response(b"smuggled", chunks=None))
        assert future.result().body == b"x"
        assert not made.reusable

    within_loop(run)


def test_what_a_reader_raises_reaches_who_asked() -> None:
    class Wrong(Exception):
        pass

    def read(_: bytes) -> None:
        raise Wrong

    def run() -> None:
        made, transport = opened()
        future = made.ask(b"request", read)
        made.data_received(response(b"x", chunks=[1]))
        assert isinstance(future.exception(), Wrong)
        assert not transport.is_open

    within_loop(run)


# Connections that are real

Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Any]


@contextlib.asynccontextmanager
async def speaking(speak: Speak, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Address]:
    """A server that does with each connection, the first being 0, what it is told."""
    count = 0
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        number, count = count, count + 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await speak(reader, writer, number)
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    try:
        yield Address.of(f"{scheme}://localhost:{listening.sockets[0].getsockname()[1]}")
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


async def polite(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
    """Answers everything with the number of the connection."""
    while True:
        await read_request(reader)
        writer.write(response(b"%d" % number, chunks=None))


async def test_a_connection_is_used_again_and_again() -> None:
    async with speaking(polite) as address:
        connections = Connections(address, {})
        assert [(await connections.post("/x", b"{}")).body for _ in range(3)] == [b"0"] * 3
        both = await asyncio.gather(connections.post("/x", b"{}"), connections.post("/x", b"{}"))
        assert {answer.body for answer in both} == {b"0", b"1"}
        connections.close()


async def test_no_more_connections_than_allowed() -> None:
    async with speaking(polite) as address:
        connections = Connections(address, {}, most=2)
        answers = await asyncio.gather(*(connections.post("/x", b"{}") for _ in range(20)))
        assert {answer.body for answer in answers} == {b"0", b"1"}
        connections.close()


async def test_who_waits_for_a_turn_may_leave() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while True:
            await read_request(reader)
            await asyncio.sleep(0.02)
            writer.write(response(b"x", chunks=None))

    async with speaking(slow) as address:
        connections = Connections(address, {}, most=1)
        asks = [asyncio.create_task(connections.post("/x", b"{}")) for _ in range(10)]
        await asyncio.sleep(0.03)
        for ask in asks[::2]:
            ask.cancel()
        found = await asyncio.gather(*asks, return_exceptions=True)
        assert all(isinstance(answer, Answer) for answer in found[1::2])
        assert (await connections.post("/x", b"{}")).body == b"x"
        connections.close()


async def test_a_kept_connection_that_the_server_closed_is_replaced() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        writer.write(response(b"%d" % number, chunks=None))
        if number == 0:
            await read_request(reader)  # and closes without a word, as if it had been idle for too long

    async with speaking(once) as address:
        connections = Connections(address, {})
        assert (await connections.post("/x", b"{}")).body == b"0"
        assert (await connections.post("/x", b"{}")).body == b"1"
        connections.close()


async def test_a_new_connection_that_says_nothing_is_broken() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)

    async with speaking(mute) as address:
        with pytest.raises(Broken, match="cut before the answer"):
            await Connections(address, {}).post("/x", b"{}")


async def test_a_connection_is_not_kept_beyond_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_IDLE_S", 0.0)
    async with speaking(polite) as address:
        connections = Connections(address, {})
        assert [(await connections.post("/x", b"{}")).body for _ in range(2)] == [b"0", b"1"]
        connections.close()


async def test_cancelling_ends_the_connection() -> None:
    ended = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await read_request(reader)
        if number:
            writer.write(response(b"second", chunks=None))
        with contextlib.suppress(ConnectionError):
            await reader.read()
        ended.set()

    async with speaking(wait) as address:
        connections = Connections(address, {})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await connections.post("/x", b"{}")
        await asyncio.wait_for(ended.wait(), 5)
        assert (await connections.post("/x", b"{}")).body == b"second"
        connections.close()


async def test_the_request_is_what_servers_expect() -> None:
    seen: list[bytes] = []

    async def remember(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        seen.append(await read_request(reader))
        writer.write(response(b"", chunks=None, more=b"Connection: close\r\n"))

    async with speaking(remember) as address:
        to = address._replace(path="/base")
        await Connections(to, {"Authorization": "Bearer k"}).post("/x", b'{"a":1}')
    head, _, body = seen[0].partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    assert first == b"POST /base/x HTTP/1.1"
    assert set(lines) == {
        b"Host: localhost:%d" % address.port,
        b"Accept-Encoding: identity",
        b"Authorization: Bearer k",
        b"Content-Type: application/json",
        b"Content-Length: 7",
    }
    assert body == b'{"a":1}'


@pytest.mark.parametrize(
    "url", ["127.0.0.1:80", "ftp://a", "http://", "http://a:b", "http://a b", "http://u:p@a", "http://ä"]
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(NoUrl, match="write for example"):
        Address.of(url)


@pytest.mark.parametrize(
    ("url", "host", "port", "header"),
    [
        ("http://a", "a", 80, "a"),
        ("https://a/b/", "a", 443, "a"),
        ("http://[::1]:8", "::1", 8, "[::1]:8"),
    ],
)
def test_addresses(url: str, host: str, port: int, header: str) -> None:
    address = Address.of(url)
    assert (address.host, address.port, address.host_header) == (host, port, header)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For localhost, by nobody."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    try:
        subprocess.run([*command, *names, "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is missing")
    return path


async def test_tls_is_checked(certificate: Path) -> None:
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(f"{certificate}.crt", certificate)
    trusting = ssl.create_default_context(cafile=f"{certificate}.crt")
    async with speaking(polite, serving) as address:
        connections = Connections(address, {}, tls=trusting)
        assert (await connections.post("/x", b"{}")).body == b"0"
        connections.close()
        with pytest.raises(Unreachable, match="no safe connection"):
            await Connections(address, {}, tls=ssl.create_default_context()).post("/x", b"{}")
        await asyncio.sleep(0.05)
