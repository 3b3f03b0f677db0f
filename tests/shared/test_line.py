"""A connection of one's own on a real server: shared, cancelled, lost, refused, and opened in every way there is."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from redis.exceptions import AuthenticationError, ConnectionError, ResponseError

from rootstream.embedded import EmbeddedServer
from shared.bus import Bus, Reader, Unavailable
from shared.line import Line
from shared.protocol import Abort

type_of_loop = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture
def line(bus: Bus) -> Line:
    return bus.line()


async def client_id(line: Line) -> int:
    """The server's name for the connection: another one after it was opened again."""
    [number] = await line.call([("CLIENT", "ID")])
    return number


async def test_calls_made_at_once_get_their_own_replies(line: Line) -> None:
    async def echo(number: int) -> list[Any]:
        return await line.call([("ECHO", f"{number}-{part}") for part in range(number % 5 + 1)])

    replies = await asyncio.gather(*map(echo, range(200)))
    assert replies == [[f"{n}-{part}".encode() for part in range(n % 5 + 1)] for n in range(200)]


async def test_a_cancelled_call_takes_nothing_from_the_others(line: Line) -> None:
    connection = await client_id(line)
    calls = [asyncio.create_task(line.call([("ECHO", str(number))])) for number in range(10)]
    await asyncio.sleep(0)  # all are sent
    for call in calls[::2]:
        call.cancel()
    replies = await asyncio.gather(*calls, return_exceptions=True)
    assert [reply for reply in replies if isinstance(reply, list)] == [[b"1"], [b"3"], [b"5"], [b"7"], [b"9"]]
    assert await client_id(line) == connection


async def test_an_error_is_raised_and_the_connection_goes_on(line: Line, namespace: str) -> None:
    connection = await client_id(line)
    with pytest.raises(ResponseError, match="unknown command"):
        await line.call([("SET", namespace, "1"), ("NONSENSE",), ("INCR", namespace)])
    assert await line.call([("GET", namespace)]) == [b"2"]
    assert await client_id(line) == connection


async def test_replies_larger_than_any_buffer_come_whole(line: Line, namespace: str) -> None:
    value = bytes(range(256)) * 20_000
    assert await line.call([("SET", namespace, value), ("GET", namespace), ("ECHO", "end")]) == [b"OK", value, b"end"]


async def test_a_connection_lost_while_nobody_asks_is_opened_again(bus: Bus, line: Line) -> None:
    connection = await client_id(line)
    await bus.ask(("CLIENT", "KILL", "ID", connection))
    await asyncio.sleep(0.05)
    assert await client_id(line) != connection


async def test_calls_under_way_fail_when_the_connection_is_lost(bus: Bus, line: Line, namespace: str) -> None:
    connection = await client_id(line)
    blocked = asyncio.create_task(line.call([("XREAD", "BLOCK", 5000, "STREAMS", namespace, "0")]))
    behind = asyncio.create_task(line.call([("ECHO", "x")]))
    await asyncio.sleep(0.02)
    await bus.ask(("CLIENT", "KILL", "ID", connection))
    for call in (blocked, behind):
        with pytest.raises(ConnectionError):
            await call


async def test_a_reader_that_was_cancelled_reads_at_once_again(bus: Bus, namespace: str) -> None:
    reader = Reader(bus, [namespace])
    waiting = asyncio.create_task(reader.next(block_ms=60_000))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert await asyncio.wait_for(reader.next(block_ms=10), 5) == []


@contextlib.asynccontextmanager
async def impostor(answer: bytes) -> AsyncGenerator[tuple[Line, list[int]]]:
    """A line to what shakes hands like a Redis and then says ``answer`` to everything; connections so far."""
    connections: list[int] = []

    async def talk_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(len(connections))
        while data := await reader.read(1000):
            writer.write(b"+OK\r\n" * data.count(b"SETINFO") or answer)
        writer.close()

    server = await asyncio.start_server(talk_nonsense, "127.0.0.1", 0)
    bus = Bus.connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", "x")
    yield bus.line(), connections
    await bus.close()
    server.close()
    await asyncio.sleep(0.02)  # the other end notices


async def test_what_makes_no_sense_ends_the_connection() -> None:
    async with impostor(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (line, _):
        for _ in range(2):
            calls = [line.call([("ECHO", "y")]), line.call([("ECHO", "z")])]
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(outcome, ConnectionError)


async def test_a_reply_that_nobody_asked_for_ends_the_connection() -> None:
    async with impostor(b"+y\r\n+another\r\n") as (line, connections):
        for _ in range(2):
            assert await line.call([("ECHO", "y")]) == [b"y"]
            await asyncio.sleep(0.02)
        assert connections == [0, 1]


class LockedServer(EmbeddedServer):
    """A server with a password, on TCP too."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as probe:
            self.port = probe.getsockname()[1]

    def command(self) -> list[str]:
        return [*super().command(), "--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", "secret"]

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"-NOAUTH")
        return False


@pytest.fixture(scope="module")
def locked() -> Iterator[LockedServer]:
    with tempfile.TemporaryDirectory(prefix="rs-") as directory:
        server = LockedServer(Path(directory))
        server.start()
        yield server
        server.stop()


async def talk(url: str, database: int) -> None:
    """Write and read through ``url``, lose the connection, and do it again."""
    bus = Bus.connect(url, "p")
    reader = Reader(bus, ["p:s"], {"p:s": await bus.last_id("p:s")})
    for number in range(3):
        waiting = asyncio.create_task(reader.next(block_ms=5000))
        await bus.append("p:s", Abort(id=number))
        assert [entry.message for entry in await waiting] == [Abort(id=number)]
        [clients] = await bus.ask(("CLIENT", "LIST"))
        ours = [line for line in clients.decode().splitlines() if f" db={database} " in line]
        assert len(ours) == 2  # the reader's and the writer's
        own = bus.ask(("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
        await own
        assert await reader.next(block_ms=10) == []  # it was killed, or has nothing new
    await bus.close()


@type_of_loop
@pytest.mark.parametrize("database", [0, 3])
def test_passwords_and_databases(run: Run, locked: LockedServer, database: int) -> None:
    run(talk(f"redis://:secret@127.0.0.1:{locked.port}/{database}", database))
    run(talk(f"unix://:secret@{locked.socket}?db={database}", database))


async def test_a_wrong_password_is_told(locked: LockedServer) -> None:
    bus = Bus.connect(f"redis://:wrong@127.0.0.1:{locked.port}", "p")
    with pytest.raises((Unavailable, AuthenticationError), match="password"):
        await bus.ask(("PING",), patience=0.05)
    await bus.close()


@contextlib.asynccontextmanager
async def tls_before(path: Path, certificate: Path, key: Path) -> AsyncGenerator[int]:
    """A port where TLS ends that goes on to the server's socket."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    ways: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(path)
        ways.update(asyncio.create_task(copy(*way)) for way in ((reader, inner_writer), (inner_reader, writer)))

    server = await asyncio.start_server(connect, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if ways:
            await asyncio.wait(ways, timeout=5)


@type_of_loop
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_tls(run: Run, locked: LockedServer, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", *curve, *names, "-keyout", key, "-out", certificate, "-days", "2"]
    subprocess.run(command, check=True, capture_output=True)

    async def through_tls() -> None:
        async with tls_before(locked.socket, certificate, key) as port:
            await talk(f"rediss://:secret@127.0.0.1:{port}/2?ssl_ca_certs={certificate}", 2)

    run(through_tls())
