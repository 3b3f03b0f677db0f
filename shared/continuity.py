"""Whether Redis still holds what it held: a mark that goes when its data goes.

Redis may be restarted without its append-only file, or be flushed. Who keeps what it wrote in memory puts it
back then, and asks again for what was on its way. Knows nothing of what that is.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets

import structlog

from shared.bus import Bus, Unavailable

log = structlog.get_logger("bus")

_LOOK_S = 1.0  # between looks where no connection was lost: somebody may flush a server that runs


class DataLoss:
    """Set when data was lost, until the one who mends it has taken note."""

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
    """Look at the mark whenever a connection was opened, and once a second; sets ``loss`` when it is another."""
    known: bytes | None = None
    own = secrets.token_hex(8)
    while True:
        with contextlib.suppress(Unavailable):
            [_, found] = await bus.ask(("SET", bus.names.mark, own, "NX"), ("GET", bus.names.mark))
            if known is not None and found != known:
                log.warning("redis lost its data")
                loss.happened()
            known = found
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await bus.reconnected.wait()
        bus.reconnected.clear()
