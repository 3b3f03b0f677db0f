"""A terminal with a command in it, for tests of what people see and press."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import sys
import termios
from collections.abc import AsyncGenerator

PATIENCE_S = 30
CTRL_C = "\x03"
CTRL_D = "\x04"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]")


class Terminal:
    """What a running command shows, and keys to press."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self._master = master
        self._process = process
        self._shown = b""
        self._changed = asyncio.Event()
        self._seen = 0
        asyncio.get_running_loop().add_reader(master, self._read)

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def enter(self, line: str) -> None:
        self.press(line + "\r")

    @property
    def raw(self) -> str:
        return self._shown.decode(errors="replace")

    @property
    def text(self) -> str:
        """All that was shown, without colours and motions."""
        return _ESCAPES.sub("", self.raw).replace("\r", "")

    async def sees(self, text: str) -> None:
        """Wait for a text beyond the one that was waited for before."""
        async with asyncio.timeout(PATIENCE_S):
            while (at := self.text.find(text, self._seen)) < 0:
                assert self._process.returncode is None, self.text
                await self.changed()
        self._seen = at + len(text)

    async def presses(self, *keys: str, until: str) -> None:
        """Press keys one after the other, as a person does again when nothing happens, until a text is seen.

        A terminal may drop what is typed right after Ctrl-C.
        """
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for key in keys:
                    self.press(key)
                    await asyncio.sleep(0.02)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        return await self.sees(until)

    async def changed(self) -> None:
        """Wait for anything more."""
        self._changed.clear()
        await asyncio.wait_for(self._changed.wait(), PATIENCE_S)

    async def ended(self) -> int:
        return await asyncio.wait_for(self._process.wait(), PATIENCE_S)

    def _read(self) -> None:
        try:
            found = os.read(self._master, 65536)
        except OSError:  # the other end is closed
            found = b""
        if not found:
            asyncio.get_running_loop().remove_reader(self._master)
        self._shown += found
        self._changed.set()


@contextlib.asynccontextmanager
async def terminal(*words: str, **environment: str) -> AsyncGenerator[Terminal]:
    """`rootstream …` as the foreground command of a terminal; killed at the end if it still runs."""
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "rootstream",
        *words,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200", "LINES": "50", **environment},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)
