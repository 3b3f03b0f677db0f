"""Listening ports: applications on addresses, from the first connection to an orderly end.

Knows nothing of what the applications do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import NamedTuple

import structlog
from aiohttp import web

from shared.errors import UserError
from tokenizer_svc.connections import Connections
from tokenizer_svc.limits import Limits

log = structlog.get_logger("http")

_STOP_GRACE_S = 2.0  # for answers under way at an orderly stop
_LINGER_S = 2.0  # for a client to read a refusal while it still sends its body
_BACKLOG = 1024
_OTHER_FILES = 256  # besides connections: streams, children, files


class Port(NamedTuple):
    """One application on one address, and the settings that say which."""

    app: web.Application
    host: str
    port: int
    host_flag: str = "--host"
    port_flag: str = "--port"


class Listener(NamedTuple):
    """A port that is open, what serves a connection that comes, and those that are there."""

    server: asyncio.Server
    serve: Callable[[], asyncio.BaseProtocol]
    connections: Connections


@contextlib.asynccontextmanager
async def listening(ports: Sequence[Port], limits: Limits) -> AsyncGenerator[list[Listener]]:
    """Serve on all of them. Raises UserError for an address that cannot be used."""
    _allow_files(limits.connections * len(ports) + _OTHER_FILES)
    listeners: list[Listener] = []
    async with contextlib.AsyncExitStack() as stack:
        for port in ports:
            connections = Connections(limits)
            port.app.middlewares.insert(0, connections.middleware())
            runner = web.AppRunner(
                port.app,
                handler_cancellation=True,
                access_log=None,
                logger=_connection_log(),
                shutdown_timeout=_STOP_GRACE_S,
                keepalive_timeout=limits.idle_s,
                lingering_time=_LINGER_S,
                max_line_size=limits.request_line_bytes,
                max_field_size=limits.header_bytes,
                max_headers=limits.headers,
                auto_decompress=False,  # bodies come as they are: see body.py
            )
            stack.push_async_callback(runner.cleanup)
            await runner.setup()
            listeners.append(await _listen(runner, port, connections))
            stack.callback(listeners[-1].server.close)
        yield listeners


async def _listen(runner: web.AppRunner, port: Port, connections: Connections) -> Listener:
    assert runner.server is not None
    serve = connections.wrapped(runner.server)
    try:
        server = await asyncio.get_running_loop().create_server(
            serve, port.host, port.port, backlog=_BACKLOG, reuse_port=True
        )
        return Listener(server, serve, connections)
    except OSError as error:
        where = f"{port.host} port {port.port}"
        choose = f"choose another {port.host_flag} or {port.port_flag}"
        raise UserError(f"cannot listen on {where}: {error.strerror}; {choose}") from error


def _allow_files(wanted: int) -> None:
    """Let this process open as many files as it may need, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class _WithoutBytes(logging.Handler):
    """aiohttp's words about broken connections, without what was sent on them: that may hold keys and prompts."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        log.debug("a connection broke the rules of HTTP", said=kind.__name__ if kind else record.msg)


def _connection_log() -> logging.Logger:
    logger = logging.Logger("connections")  # noqa: LOG001 - of its own: nothing is passed on to handlers of others
    logger.addHandler(_WithoutBytes())
    return logger
