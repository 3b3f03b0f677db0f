"""How to get to Redis: passwords from files, and TLS to a server whose certificate is checked."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis
from redis.exceptions import ConnectionError

from shared.bus import Bus, Reader, Unavailable
from shared.config import Settings
from shared.errors import UserError
from shared.protocol import Abort
from shared.redis_url import connection_url, public_url


def test_a_password_comes_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p@ss/wörd:?#\n")
    url = connection_url(Settings(redis="redis://somebody:old@host:1/2?a=b", redis_password_file=file))
    found = redis.connection.parse_url(url.replace("?a=b", ""))
    assert (found["username"], found["password"], found["host"], found["port"], found["db"]) == (
        "somebody",
        "p@ss/wörd:?#",
        "host",
        1,
        2,
    )
    other = connection_url(Settings(redis="redis://host", redis_user="m:e", redis_password_file=file))
    assert redis.connection.parse_url(other)["username"] == "m:e"
    assert connection_url(Settings(redis="redis://a:b@host:1/2")) == "redis://a:b@host:1/2"
    assert connection_url(Settings(redis="unix:///run/x.sock")) == "unix:///run/x.sock"
    assert connection_url(Settings(redis="unix:///run/x.sock", redis_user="me")).startswith("unix://me:@/run/x.sock")


@pytest.mark.parametrize("content", [None, " \n", b"\xff"])
def test_a_password_that_cannot_be_read_is_a_clear_error(tmp_path: Path, content: str | bytes | None) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"--redis-password-file .*(no such file|is empty|cannot be read)"):
        connection_url(Settings(redis="redis://host", redis_password_file=file))


def test_certificates_are_for_tls(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("x")
    with pytest.raises(UserError, match="rediss://"):
        connection_url(Settings(redis="redis://host", redis_ca_file=file))
    with pytest.raises(UserError, match="no such file"):
        connection_url(Settings(redis="rediss://host", redis_ca_file=tmp_path / "other"))


def test_what_people_see_of_a_url_holds_no_secret() -> None:
    assert public_url("rediss://me:MARKER@host:1/2?password=MARKER&ssl_keyfile=x") == "rediss://host:1/2"
    assert public_url("unix:///run/x.sock?db=1") == "unix:///run/x.sock"
    assert "MARKER" not in repr(
        Settings(redis="redis://me:MARKER@host", api_keys="MARKER-of-it", admin_key="MARKER-of-it")
    )


# --- TLS, by something that ends it in front of the embedded server, which has none


_OPENSSL = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=redis "
    "-addext subjectAltName=DNS:localhost"
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make certificates")
    directory = tmp_path_factory.mktemp("tls")
    for name in ("ours", "others"):
        subprocess.run(
            [*_OPENSSL.split(), "-keyout", f"{name}.key", "-out", f"{name}.pem"],
            cwd=directory,
            check=True,
            capture_output=True,
        )
    return directory


@contextlib.asynccontextmanager
async def tls_before(redis_url: str, certificates: Path) -> AsyncIterator[int]:
    """A port where TLS is spoken, and passed on in the clear."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "ours.pem", certificates / "ours.key")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(redis_url.removeprefix("unix://"))
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0)


async def test_streams_over_tls(redis_url: str, namespace: str, certificates: Path) -> None:
    async with tls_before(redis_url, certificates) as port:
        url = connection_url(Settings(redis=f"rediss://localhost:{port}/0", redis_ca_file=certificates / "ours.pem"))
        bus = Bus.connect(url, namespace)
        reader = Reader(bus, [bus.names.requests])
        waiting = asyncio.create_task(reader.next())
        for id in range(3):
            await bus.append(bus.names.requests, Abort(id))
        [first, *_] = await waiting
        assert first.message == Abort(0)
        big = {str(n): b"x" * 100_000 for n in range(20)}
        writes = bus.transaction()
        for field, value in big.items():
            writes.put(bus.names.live, field, value)
        await writes.commit()
        assert await bus.hash(bus.names.live) == big
        await bus.close()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(("host", "ca"), [("localhost", "others.pem"), ("127.0.0.1", "ours.pem"), ("localhost", None)])
async def test_a_server_that_nobody_vouches_for_is_not_talked_to(
    redis_url: str, namespace: str, certificates: Path, host: str, ca: str | None
) -> None:
    """Another certificate, another name, or nobody who is known."""
    async with tls_before(redis_url, certificates) as port:
        file = None if ca is None else certificates / ca
        bus = Bus.connect(connection_url(Settings(redis=f"rediss://{host}:{port}", redis_ca_file=file)), namespace)
        with pytest.raises((ConnectionError, Unavailable), match=r"(?i)certificate"):
            await bus.ask(("PING",), patience=0.3)
        await bus.close()
        await asyncio.sleep(0.05)
