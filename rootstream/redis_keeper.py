"""Keeps the embedded Redis running: its append-only file has what it held. Knows nothing of what that is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from rootstream.backoff import Backoff
from rootstream.child import describe_exit
from rootstream.embedded import EmbeddedServer

_WATCH_S = 0.1
_LOOK_S = 0.01  # whether it answers again
_LOADING_S = 60.0  # reading a gigabyte takes a few seconds


async def keep(server: EmbeddedServer, say: Callable[[str], None]) -> None:
    """For ever. Raises RuntimeError where the server cannot be started again."""
    backoff = Backoff()
    answered_at = time.monotonic()
    while True:
        await asyncio.sleep(_WATCH_S)
        code = server.poll()
        if code is None:
            continue
        delay = backoff.after(time.monotonic() - answered_at)
        say(f"the embedded Redis ended with {describe_exit(code)}; starting it again in {delay:g} s")
        await asyncio.sleep(delay)
        if not await _starts(server):
            await _mend(server, say)
        answered_at = time.monotonic()


async def _starts(server: EmbeddedServer) -> bool:
    """Start it without holding up the loop; whether it answers."""
    server.begin()
    deadline = time.monotonic() + _LOADING_S
    while not await asyncio.to_thread(server.answers):
        if server.poll() is not None:
            return False
        if time.monotonic() > deadline:
            raise server.failure()
        await asyncio.sleep(_LOOK_S)
    return True


async def _mend(server: EmbeddedServer, say: Callable[[str], None]) -> None:
    """Start it with as much of its data as can be read."""
    copy = server.copy_data()
    if copy is None:
        raise server.failure()
    if await asyncio.to_thread(server.cut_data) and await _starts(server):
        lost = "the rest is lost"
    else:
        server.drop_data()
        if not await _starts(server):
            raise server.failure()
        lost = "all of it is lost"
    say(
        f"the embedded Redis could not read all of its data, and {lost}: answers may have gaps that nobody can fill; "
        f"until this launcher ends, a copy is in {copy}"
    )
