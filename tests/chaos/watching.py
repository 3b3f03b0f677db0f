"""Watches who of the dead comes back: when its place is taken by a new process, and when that is ready.

One look at all of them together, several times a second.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from tests.chaos.deployment import Deployment
from tests.chaos.faults import REDIS
from tests.chaos.history import Outage

_BACK_S = 90.0  # who is not back by then will not come
_POLL_S = 0.04


class _Dead(NamedTuple):
    outage: Outage
    pid: int


class Watch:
    """The outages that are not over. Runs while there are any."""

    def __init__(self, deployment: Deployment) -> None:
        self.missing: list[str] = []  # who did not come back
        self._deployment = deployment
        self._dead: list[_Dead] = []
        self._task: asyncio.Task[None] | None = None

    def expect(self, outage: Outage, pid: int) -> None:
        """From now on, somebody in place of process ``pid``."""
        self._dead.append(_Dead(outage, pid))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def settled(self) -> None:
        """Wait for the ends of all outages. Raises what made the watch itself fail."""
        while self._task is not None and (self._dead or not self._task.done()):
            await self._task

    async def _run(self) -> None:
        while self._dead:
            await asyncio.sleep(_POLL_S)
            self._look_for_processes()
            awake = await self._deployment.awake()
            now = time.time()
            self._dead = [dead for dead in self._dead if not self._is_over(dead.outage, awake, now)]

    def _look_for_processes(self) -> None:
        there = self._deployment.members()
        for outage, dead in self._dead:
            if outage.started is None and there.get(outage.member, dead) != dead:
                outage.started = time.time()

    def _is_over(self, outage: Outage, awake: dict[str, float], now: float) -> bool:
        since = awake.get(outage.member)
        is_new = outage.started is not None if outage.member == REDIS else since is not None and since > outage.since
        if since is not None and is_new:
            outage.until = now
            return True
        if now - outage.since > _BACK_S:
            self.missing.append(f"{outage.member} was not back {_BACK_S:g} s after its death")
            return True
        return False
