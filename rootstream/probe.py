"""Asks a front door whether it takes requests. Knows nothing of who makes it ready."""

from __future__ import annotations

import asyncio
import contextlib

_PATIENCE_S = 2.0
_ASKED_EACH = 8  # the kernel chooses which of several answers: all of them are met with 1 - 1/3000


async def all_ready(host: str, port: int, front_doors: int) -> bool:
    """Whether every one of the processes behind a port says so at `/ready`."""
    for _ in range(1 if front_doors == 1 else front_doors * _ASKED_EACH):
        if not await is_ready(host, port):
            return False
    return True


async def is_ready(host: str, port: int) -> bool:
    """Whether whoever answers says 200 at `/ready`."""
    named = f"[{host}]" if ":" in host else host
    try:
        async with asyncio.timeout(_PATIENCE_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET /ready HTTP/1.1\r\nHost: {named}\r\nConnection: close\r\n\r\n".encode())
                status = await reader.readline()
                await reader.read()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError):
        return False
    return status.split(b" ")[1:2] == [b"200"]
