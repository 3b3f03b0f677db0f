"""Does what faults.py says to a living deployment, and writes down when.

Knows signals and connections; knows nothing of requests but how to have their connections cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Sequence

import psutil

from shared.bus import Unavailable
from tests.chaos.deployment import Deployment
from tests.chaos.faults import REDIS, Fault, Kind, role_of
from tests.chaos.history import Injected, Outage
from tests.chaos.watching import Watch

_FRONT_DOOR = "tokenizer"

Cut = Callable[[random.Random, float], int]


class Injector:
    """Faults in order, each with a record. ``now`` is time.time(): the clients' clock too."""

    def __init__(self, deployment: Deployment, cut: Cut, seed: int) -> None:
        self.done: list[Injected] = []
        self._deployment = deployment
        self._cut = cut
        self._rng = random.Random(f"cuts {seed}")
        self.watch = Watch(deployment)

    async def run(self, faults: Iterable[Fault], on_fault: Callable[[Fault, Injected], None]) -> None:
        """Do them all; at the end everything is back, or missed by the watch."""
        for fault in faults:
            await asyncio.sleep(fault.delay_s)
            injected = await self._inject(fault)
            if fault.settles:
                await self.watch.settled()
            on_fault(fault, injected)
        await self.watch.settled()

    @property
    def outages(self) -> list[Outage]:
        return [outage for injected in self.done for outage in injected.outages]

    async def _inject(self, fault: Fault) -> Injected:
        injected = Injected(fault.number, str(fault.kind), fault.targets, time.time())
        self.done.append(injected)
        there = self._deployment.members()
        victims = {name: there[name] for name in fault.targets if name in there}
        match fault.kind:
            case Kind.KILL:
                self._kill(injected, victims)
            case Kind.FREEZE:
                await self._freeze(injected, victims, fault.hold_s)
            case Kind.CUT:
                injected.targets = (f"{self._cut(self._rng, fault.share)} connections",)
            case Kind.EMPTY:
                self._empty(injected, victims)
            case Kind.FULL:
                await self._fill(injected, fault.hold_s)
        return injected

    # --- kinds

    def _kill(self, injected: Injected, victims: dict[str, int]) -> None:
        """All at once: stopped first, so that nobody sees another's death and nobody gets a new connection."""
        for pid in victims.values():
            _signal(pid, signal.SIGSTOP)
        for name, pid in victims.items():
            if role_of(name) == _FRONT_DOOR:
                injected.front_doors += 1
                injected.severed |= _client_ports(pid, self._deployment.port)
        at = time.time()
        for pid in victims.values():
            _signal(pid, signal.SIGKILL)
        for name, pid in victims.items():
            outage = Outage(name, at)
            injected.outages.append(outage)
            self.watch.expect(outage, pid)

    async def _freeze(self, injected: Injected, victims: dict[str, int], seconds: float) -> None:
        outages = [Outage(name, time.time()) for name in victims]
        injected.outages += outages
        for pid in victims.values():
            _signal(pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        for pid in victims.values():
            _signal(pid, signal.SIGCONT)
        for outage in outages:
            outage.until = time.time()

    def _empty(self, injected: Injected, victims: dict[str, int]) -> None:
        """The launcher waits meanwhile: it must not start a server that finds the data after all."""
        files = self._deployment.redis_directory() / "appendonlydir"
        self._deployment.launcher.send_signal(signal.SIGSTOP)
        try:
            self._kill(injected, victims)
            shutil.rmtree(files, ignore_errors=True)
        finally:
            self._deployment.launcher.send_signal(signal.SIGCONT)

    async def _fill(self, injected: Injected, seconds: float) -> None:
        """Let Redis refuse all writes, as it does when its memory is full."""
        outage = Outage(REDIS, time.time())
        bus = self._deployment.bus()
        with contextlib.suppress(Unavailable):
            [[_, most]] = await bus.ask((b"CONFIG", b"GET", b"maxmemory"), patience=1.0)
            await bus.ask((b"CONFIG", b"SET", b"maxmemory", b"1"), patience=1.0)
            injected.outages.append(outage)
            try:
                await asyncio.sleep(seconds)
            finally:
                await bus.ask((b"CONFIG", b"SET", b"maxmemory", most), patience=30.0)
                outage.until = time.time()


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _client_ports(pid: int, port: int) -> set[int]:
    """The clients' ends of the connections that a front door holds."""
    with contextlib.suppress(psutil.Error):
        connections: Sequence[object] = psutil.Process(pid).net_connections("tcp")
        return {c.raddr.port for c in connections if c.raddr and c.laddr.port == port}  # type: ignore[attr-defined]
    return set()
