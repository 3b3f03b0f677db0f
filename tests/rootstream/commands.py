"""The command line as a process."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import NamedTuple

PATIENCE_S = 60


class Ended(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str


async def start(*words: str, **environment: str) -> asyncio.subprocess.Process:
    """`rootstream …` with pipes for everything."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "rootstream",
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "200", **environment},
    )


async def ended(process: asyncio.subprocess.Process, stdin: bytes = b"") -> Ended:
    out, err = await asyncio.wait_for(process.communicate(stdin), PATIENCE_S)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def command(*words: str, stdin: bytes = b"", **environment: str) -> Ended:
    """`rootstream …` from start to end."""
    return await ended(await start(*words, **environment), stdin)
