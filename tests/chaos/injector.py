"""Does what faults.py says to a living deployment, writes down when, and watches who comes back.

Knows processes and signals; knows nothing of requests but how to have their connections cut.
"""

from __future__ import annotations

import asyncio
import contextlib
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

_BACK_S = 90.0  # who is not back by then will not come
_POLL_S = 0.03
_FRONT_DOOR = "tokenizer"

Cut = Callable[[random.Random, float], int]


class Injector:
    """Faults in order, each with a record. ``now`` is time.time(): the clients' clock too."""

    def __init__(self, deployment: Deployment, cut: Cut, seed: int) -> None:
        self.done: list[Injected] = []
        self.missing: list[str] = []  # who did not come back
        self._deployment = deployment
        self._cut = cut
        self._rng = random.Random(f"cuts {seed}")
        self._watches: set[asyncio.Task[None]] = set()

    async def run(self, faults: Iterable[Fault], on_fault: Callable[[Fault, Injected], None]) -> None:
        """Do them all; at the end everything is back, or in ``missing``."""
        for fault in faults:
            await asyncio.sleep(fault.delay_s)
            injected = await self._inject(fault)
            if fault.settles:
                await self.settled()
            on_fault(fault, injected)
        await self.settled()

    async def settled(self) -> None:
        """Wait for the ends of all outages."""
        while self._watches:
            await asyncio.wait(self._watches)

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

    def _kill(self, injected: Injected, victims: dict[str, psutil.Process]) -> None:
        """All at once: stopped first, so that nobody sees another's death and nobody gets a new connection."""
        for process in victims.values():
            _signal(process, signal.SIGSTOP)
        for name, process in victims.items():
            if role_of(name) == _FRONT_DOOR:
                injected.front_doors += 1
                injected.severed |= _client_ports(process, self._deployment.port)
        at = time.time()
        for process in victims.values():
            _signal(process, signal.SIGKILL)
        for name, process in victims.items():
            self._await_back(injected, Outage(name, at), process.pid)

    async def _freeze(self, injected: Injected, victims: dict[str, psutil.Process], seconds: float) -> None:
        outages = [Outage(name, time.time()) for name in victims]
        injected.outages += outages
        for process in victims.values():
            _signal(process, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        for process in victims.values():
            _signal(process, signal.SIGCONT)
        for outage in outages:
            outage.until = time.time()

    def _empty(self, injected: Injected, victims: dict[str, psutil.Process]) -> None:
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

    # --- coming back

    def _await_back(self, injected: Injected, outage: Outage, dead: int) -> None:
        injected.outages.append(outage)
        task = asyncio.create_task(self._watch(outage, dead))
        self._watches.add(task)
        task.add_done_callback(self._watches.discard)

    async def _watch(self, outage: Outage, dead: int) -> None:
        deadline = time.monotonic() + _BACK_S
        while not await self._deployment.is_back(outage.member, outage.since, dead):
            if time.monotonic() > deadline:
                self.missing.append(f"{outage.member} was not back {_BACK_S:g} s after its death")
                return
            await asyncio.sleep(_POLL_S)
        outage.until = time.time()


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _client_ports(process: psutil.Process, port: int) -> set[int]:
    """The clients' ends of the connections that a front door holds."""
    with contextlib.suppress(psutil.Error):
        connections: Sequence[object] = process.net_connections("tcp")
        return {c.raddr.port for c in connections if c.raddr and c.laddr.port == port}  # type: ignore[attr-defined]
    return set()
