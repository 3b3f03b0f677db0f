"""The life cycle every service shares: settings, bus, signals, pulse, metrics, an orderly end.

A service is a coroutine ``serve(context)`` that runs until ``context.stopping`` is set. If it raises,
the process logs why and exits with 1: whoever started it starts it again, and the streams hold
everything it needs to go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog
import uvloop
from cyclopts import App
from prometheus_client import CollectorRegistry

from shared import logs, metrics, tracing, watchdog
from shared.awake import TICK_S
from shared.bus import START, Bus, Unavailable
from shared.config import Settings
from shared.continuity import DataLoss, watch
from shared.errors import UserError
from shared.parent import end_with_parent
from shared.redis_url import connection_url
from shared.registry import BEAT_S, Pulse, Registry, Role, State
from shared.rounds import Rounds, Stuck, Watch
from shared.sources import settings_sources

log = structlog.get_logger("service")


class Context:
    """What a service gets to work with."""

    def __init__(self, role: Role, settings: Settings, bus: Bus) -> None:
        self.role = role
        self.settings = settings
        self.bus = bus
        self.replica = settings.replica_name
        self.incarnation = time.time_ns() // 1_000
        self.peers = Registry(bus)
        self.metrics = CollectorRegistry()
        self.tracing = tracing.start(settings, role, self.replica, self.metrics)  # None where there are no traces
        self.stopping = asyncio.Event()
        self.data_lost = DataLoss()  # for the service to mend
        self.watermark = START
        self.waiting = 0  # requests, for the pulse
        self.paused = ""  # how, likewise
        self.rounds = Rounds()  # of the service's main loop
        self._watch = Watch(self.rounds, settings.step_timeout)
        self._stuck: Stuck | None = None
        self._state = State.LOADING
        self._detail = "starting"
        self._tasks: set[asyncio.Task[Any]] = set()
        self._told: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None  # of a spawned task

    @property
    def state(self) -> State:
        """What to say of oneself: READY only while work moves."""
        return State.STUCK if self._stuck is not None and self._state is State.READY else self._state

    @property
    def pulse(self) -> Pulse:
        detail = self._detail if self._stuck is None else f"has been at the same work for {self._stuck.seconds:.0f} s"
        return Pulse(
            role=self.role,
            replica=self.replica,
            incarnation=self.incarnation,
            at=time.time(),
            state=self.state,
            detail=detail,
            watermark=self.watermark,
            waiting=self.waiting,
            paused=self.paused,
        )

    async def announce(self, state: State, detail: str = "") -> None:
        """Change state and tell everyone now, not with the next pulse."""
        self._state, self._detail = state, detail
        await self.beat()

    def say(self, state: State, detail: str) -> None:
        """Change state and tell everyone soon, whether or not Redis answers."""
        self._state, self._detail = state, detail
        self._told = asyncio.create_task(self._tell())

    async def idle(self, patience: float = 5.0) -> None:
        """Wait until the main loop waits for work: then nothing is half done."""
        deadline = time.monotonic() + (patience if self.failure is None else 0.0)
        while self.rounds.current is not None and time.monotonic() < deadline:  # noqa: ASYNC110 - it may be a thread's
            await asyncio.sleep(0.005)

    def progress(self, detail: str) -> None:
        """What is going on, for people; told with the next pulse. Safe from any thread."""
        self._detail = detail

    async def beat(self, *, with_metrics: bool = True) -> None:
        """Write the pulse and read the others'."""
        await self.peers.beat(self.pulse, metrics.exposition(self.metrics) if with_metrics else None)
        if self.state is State.READY and self.settings.pulse_file is not None:
            self.settings.pulse_file.touch()

    def look(self) -> Stuck | None:
        """Note that the event loop runs, and whether the service's main loop does. What is new is told at once."""
        self.peers.tick()
        before, self._stuck = self._stuck, self._watch.look(time.monotonic(), counts=self.peers.hears)
        if (before is None) != (self._stuck is None):
            log.warning("work does not move" if before is None else "work moves again")
            self.say(self._state, self._detail)
        return self._stuck

    async def _tell(self) -> None:
        with contextlib.suppress(Unavailable):
            await self.beat(with_metrics=False)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task beside ``serve``; if it raises, the whole process ends."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
            self.stopping.set()

    async def cancel_tasks(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pulse(context: Context) -> None:
    with_metrics = True
    while True:
        try:
            await context.beat(with_metrics=with_metrics)
        except Unavailable as error:
            log.warning("no pulse", error=str(error))
        with_metrics = not with_metrics  # they cost more, and nobody needs them as often
        await asyncio.sleep(BEAT_S)


async def _look(context: Context, end: EndHung) -> None:
    while True:
        stuck = context.look()
        if stuck is not None and stuck.hopeless:
            end(f"{context.role} {context.replica} has been at the same work for {stuck.seconds:.0f} s")
        await asyncio.sleep(TICK_S)


async def _guard(context: Context) -> None:
    """Ends the process if its event loop is held up for long."""
    while True:
        watchdog.guard_loop(context.state)
        await asyncio.sleep(1)


EndHung = Callable[[str], None]
"""Ends what hangs, whose reason it is told."""

Serve = Callable[[Context], Awaitable[None]]
"""A service: runs until ``context.stopping`` is set."""


async def run(context: Context, serve: Serve, end: EndHung = watchdog.end_hung) -> None:
    """Run a service with its pulse until it stops; whatever made it fail is raised."""
    tasks = [asyncio.create_task(_pulse(context)), asyncio.create_task(_look(context, end))]
    context.spawn(watch(context.bus, context.data_lost))
    try:
        await serve(context)
        if context.failure is not None:
            raise context.failure
    finally:
        for task in tasks:
            task.cancel()
        await context.cancel_tasks()
        with contextlib.suppress(Unavailable):
            await context.peers.leave(context.pulse)
        await context.bus.close()
        if context.tracing is not None:
            await asyncio.to_thread(context.tracing.close)


async def _process(role: Role, settings: Settings, serve: Serve) -> int:
    """A service as a process of its own: stopped by signals, judged by its exit code."""
    try:
        context = Context(role, settings, Bus.connect(connection_url(settings), settings.namespace))
    except UserError as error:
        log.error(str(error))
        return 2
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, context.stopping.set)
    guard = asyncio.create_task(_guard(context))
    try:
        await run(context, serve)
    except UserError as error:
        log.error(str(error))
        return 2
    except Exception:
        log.exception("service failed")
        return 1
    finally:
        guard.cancel()
    return 0


def main(role: Role, serve: Serve, prepare: Callable[[Settings], None] = lambda _: None) -> None:
    """Entry point of ``python -m <package>``: settings from flags and environment, then serve.

    ``prepare`` runs first of all, for what must be decided before a library is imported.
    """
    app = App(name=f"python -m {_PACKAGES[role]}", help=f"The {role} process of rootstream.", config=settings_sources())

    @app.default
    def start(settings: Settings = Settings()) -> None:  # pyright: ignore[reportUnusedFunction]
        end_with_parent(settings.parent)
        prepare(settings)
        logs.configure(settings, role=role, replica=settings.replica_name)
        raise SystemExit(uvloop.run(_process(role, settings, serve)))

    try:
        app()
    except UserError as error:
        sys.stderr.write(f"{app.name[0]}: {error}\n")
        raise SystemExit(2) from None


_PACKAGES = {
    Role.TOKENIZER: "tokenizer_svc",
    Role.SCHEDULER: "scheduler_svc",
    Role.WORKER: "gpu_worker",
    Role.DETOKENIZER: "detokenizer_svc",
}
