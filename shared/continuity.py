"""Whether Redis still holds what it held: it may not, once it was started again or its data went.

An append-only file can be gone, or end a moment too early: Redis puts off writing to it while the disk is busy. So
every start counts as a loss, and so does a mark that is gone, because somebody flushed the data. Who keeps in memory
what it wrote puts it back then, and asks again for what was on its way, which is no harm where nothing was lost.
Knows nothing of what that is.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets

import structlog
from redis.exceptions import NoPermissionError

from shared.bus import Bus, Unavailable

log = structlog.get_logger("bus")

_LOOK_S = 1.0  # between looks where no connection was lost


class DataLoss:
    """Set when data may have been lost, until the one who mends it has taken note."""

    def __init__(self) -> None:
        self._happened = asyncio.Event()

    def happened(self) -> None:
        self._happened.set()

    def take(self) -> bool:
        """Whether it happened since the last look."""
        happened = self._happened.is_set()
        self._happened.clear()
        return happened

    async def wait(self) -> None:
        """Until it happens; takes note of it."""
        await self._happened.wait()
        self._happened.clear()


async def watch(bus: Bus, loss: DataLoss) -> None:
    """Look at the mark once a second, and at who answers whenever there is doubt; sets ``loss``."""
    mark: bytes | None = None
    server: str | None = None
    own = secrets.token_hex(8)
    is_doubted = True
    while True:
        try:
            found_server = await _server(bus) if is_doubted else server
            [_, found] = await bus.ask(("SET", bus.names.mark, own, "NX"), ("GET", bus.names.mark))
        except Unavailable:
            pass  # what happened is seen when it answers again
        else:
            if mark is not None and found != mark:
                log.warning("redis lost its data")
                loss.happened()
            elif server is not None and found_server != server:
                log.warning("redis was started again")
                loss.happened()
            mark, server, is_doubted = found, found_server, False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await bus.doubted.wait()
                is_doubted = True
        bus.doubted.clear()


async def _server(bus: Bus) -> str | None:
    """The name that the server has from its start to its end; None where it may not be asked."""
    try:
        [told] = await bus.ask(("INFO", "server"))
    except NoPermissionError:
        return None
    lines = told.decode().splitlines()
    return next((line.partition(":")[2] for line in lines if line.startswith("run_id:")), None)
