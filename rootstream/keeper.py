"""Keeps one child process running: starts it, starts it again when it dies, and kills it when it hangs.

Knows of a process what its pulses say; knows nothing of the other processes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from rootstream.backoff import Backoff
from rootstream.child import Child, describe_exit
from rootstream.log_lines import last_error, read
from shared.hearing import Last
from shared.registry import Pulse, Role, State

_HUNG_S = 15.0  # without a pulse while Redis answers
_HUNG_LOADING_S = 120.0  # imports and compilers hold everything up
_DEATHS_AT_START = 3
_SHOWN_LINES = 20
_USER_ERROR = 2  # exit code: starting again would not help


class Ending(NamedTuple):
    """Why everything stops, and the launcher's exit code."""

    code: int
    message: str = ""


class Keeper:
    """One child and its record."""

    def __init__(self, role: Role, child: Child, say: Callable[[str], None], settled: Callable[[], bool]) -> None:
        """``settled``: whether the deployment has been ready before, so that it is not given up any more."""
        self.role = role
        self.child = child
        self.restarts = 0
        self.detail = "starting"
        self._say = say
        self._settled = settled
        self._backoff = Backoff()
        self._ready_at: float | None = None  # since when, by time.monotonic
        self._is_ready = False
        self._news = asyncio.Event()
        self._expected = False  # its end is
        self.is_retired = False

    @property
    def name(self) -> str:
        return self.child.name

    @property
    def is_ready(self) -> bool:
        return self._is_ready and self.child.running

    async def keep(self) -> Ending | None:
        """Until it is retired (None), or there is no use in starting it again."""
        while not self.is_retired:
            self._ready_at, self._is_ready, self.detail = None, False, "starting Python"
            await self.child.start()
            code = await self.child.ended()
            self._is_ready, self.detail = False, "waiting to start again"
            if self.is_retired:
                return None
            if self._expected:
                self._expected = False
                self._say(f"{self.name} stopped; starting it again")
                continue
            served = 0.0 if self._ready_at is None else time.monotonic() - self._ready_at
            delay = self._backoff.after(served)
            if (ending := self._hopeless(code)) is not None:
                return ending
            self.restarts += 1
            self._say(f"{self.name} ended with {describe_exit(code)}; starting it again in {delay:g} s")
            await asyncio.sleep(delay)
        return None

    def heard(self, last: Last[Pulse]) -> None:
        """Take what it said last."""
        pulse = last.pulse
        if not self.child.running or pulse.incarnation < self.child.started * 1e6:
            return  # this is what an earlier process of this name has left
        self._is_ready, self.detail = pulse.state is State.READY, pulse.detail or str(pulse.state)
        if self._is_ready and self._ready_at is None:
            self._ready_at = time.monotonic()
        self._news.set()
        if last.silence > (_HUNG_LOADING_S if pulse.state is State.LOADING else _HUNG_S):
            self._say(f"{self.name} has had no pulse for {last.silence:.0f} s; killing it")
            self.child.kill()

    async def ready(self) -> None:
        """Wait until it is."""
        while not self.is_ready:
            self._news.clear()
            await self._news.wait()

    async def restart(self, grace: float) -> None:
        """An orderly stop, at the end of which ``keep`` starts it again."""
        self._expected = True
        await self.child.stop(grace)

    def kill(self) -> None:
        """The end, at once and for good."""
        self.is_retired = True
        self.child.kill()

    async def retire(self, grace: float) -> None:
        """An orderly stop for good."""
        self.is_retired = True
        await self.child.stop(grace)

    def _hopeless(self, code: int) -> Ending | None:
        lines = list(self.child.tail)
        what = f"{self.name} ended with {describe_exit(code)}"
        if code == _USER_ERROR:
            return Ending(code, last_error(lines) or "\n".join([what, *lines[-_SHOWN_LINES:]]))
        if not self._settled() and self._backoff.deaths >= _DEATHS_AT_START:
            shown = "\n".join(f"  {read(line).text}" for line in lines[-_SHOWN_LINES:])
            return Ending(1, f"{what}, {self._backoff.deaths} times while starting. It said last:\n{shown}")
        return None
