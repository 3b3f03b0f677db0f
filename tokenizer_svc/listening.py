"""Listening ports: applications on addresses, from the first connection to an orderly end.

Knows nothing of what the applications do.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

from aiohttp import web

from shared.errors import UserError

_STOP_GRACE_S = 2.0  # for answers under way at an orderly stop
_BACKLOG = 1024


class Port(NamedTuple):
    """One application on one address, and the settings that say which."""

    app: web.Application
    host: str
    port: int
    host_flag: str = "--host"
    port_flag: str = "--port"


@contextlib.asynccontextmanager
async def listening(ports: Sequence[Port]) -> AsyncGenerator[None]:
    """Serve on all of them. Raises UserError for an address that cannot be used."""
    async with contextlib.AsyncExitStack() as stack:
        for port in ports:
            runner = web.AppRunner(port.app, handler_cancellation=True, access_log=None, shutdown_timeout=_STOP_GRACE_S)
            stack.push_async_callback(runner.cleanup)
            await runner.setup()
            await _listen(runner, port)
        yield


async def _listen(runner: web.AppRunner, port: Port) -> None:
    try:
        await web.TCPSite(runner, port.host, port.port, backlog=_BACKLOG, reuse_port=True).start()
    except OSError as error:
        where = f"{port.host} port {port.port}"
        choose = f"choose another {port.host_flag} or {port.port_flag}"
        raise UserError(f"cannot listen on {where}: {error.strerror}; {choose}") from error
