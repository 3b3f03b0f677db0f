"""The local launcher: an embedded Redis and all processes of one deployment, from start to end.

Owns which processes there are, their restarts and the order in which they stop. Reads the pulses to know
who is ready; knows nothing of what the services do.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import itertools
import os
import signal
import socket
import time
from collections.abc import Coroutine, Generator
from typing import Any

from redis.exceptions import RedisError

from rootstream import redis_keeper
from rootstream.banner import banner, reachable_host, url_of
from rootstream.child import Child
from rootstream.display import Display, Status, display
from rootstream.embedded import EmbeddedServer
from rootstream.keeper import Ending, Keeper
from rootstream.probe import all_ready
from rootstream.runtime_dir import private_directory
from shared.bus import Bus, Unavailable
from shared.config import WORKER, Settings, to_environment, without_settings
from shared.errors import UserError
from shared.exposure import check_exposure
from shared.logs import for_people
from shared.model_files import locate
from shared.protocol import Hello, ModelCard, decode
from shared.redis_url import connection_url, public_url
from shared.registry import BEAT_S, Registry, Role

_MODULES = {
    Role.WORKER: "gpu_worker",
    Role.SCHEDULER: "scheduler_svc",
    Role.DETOKENIZER: "detokenizer_svc",
    Role.TOKENIZER: "tokenizer_svc",
}
_GRACE_S = 10.0
_HUNG_UP = 128 + signal.SIGHUP
_ASKED_FOR = (0, _HUNG_UP)  # exit codes
_POLL_S = 0.1
_REDIS_S = 3.0


def serve(settings: Settings) -> int:
    """Serve until told to stop; the exit code. Raises UserError for what only the user can mend."""
    if settings.replica is not None or settings.parent is not None or settings.pulse_file is not None:
        raise UserError("--replica, --parent and --pulse-file are for single processes: `serve` sets them itself")
    check_exposure(settings)
    check_port(settings.host, settings.port)
    if settings.admin_port is not None:
        check_port(settings.admin_host, settings.admin_port)
    locate(
        settings.model, settings.cache_path, settings.load_format
    )  # downloads, with a progress bar, before anything runs
    shown = display(machines=not for_people(settings))
    with _redis(settings, shown) as server:
        url = settings.redis_url if server is None else server.url
        launcher = Launcher(dataclasses.replace(settings, redis=url), server, shown)
        ending = asyncio.run(launcher.run())
    if ending.message:
        shown.say(f"rootstream: {ending.message}")
    return ending.code


def check_port(host: str, port: int) -> None:
    """Raises UserError where somebody else listens on the port, or the address is not ours."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise UserError(f"--host {host}: {error.strerror}") from None
    failures: list[OSError] = []
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no obstacle
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
        except OSError as error:
            failures.append(error)
    if any(error.errno == errno.EADDRINUSE for error in failures):
        raise UserError(f"port {port} on {host} is in use: stop who listens there, or choose another --port")
    if len(failures) == len(found):
        raise UserError(f"cannot listen on {host} port {port}: {failures[0].strerror}; choose another --host or --port")


@contextlib.contextmanager
def _redis(settings: Settings, shown: Display) -> Generator[EmbeddedServer | None]:
    """The embedded server in a private directory, or None where the user named a server."""
    if settings.redis is not None:
        asyncio.run(_check_redis(connection_url(settings), settings.namespace))
        yield None
        return
    if (settings.redis_user or settings.redis_password_file or settings.redis_ca_file) is not None:
        raise UserError("--redis-user, --redis-password-file and --redis-ca-file are for a server that --redis names")
    with private_directory() as directory:
        server = EmbeddedServer(directory, tied=True)
        try:
            server.start()
            yield server
        except RuntimeError as error:
            shown.say(str(error))
            raise
        finally:
            server.stop()


async def _check_redis(url: str, namespace: str) -> None:
    """Raises UserError where no server answers at ``url``."""
    try:
        bus = Bus.connect(url, namespace)
        try:
            await bus.patiently(bus.client.ping, _REDIS_S)
        finally:
            await bus.close()
    except (ValueError, Unavailable, RedisError) as error:
        reason = str(error).rstrip(".")
        raise UserError(f"--redis {public_url(url)}: {reason}: is the server running, and its URL right?") from error


class Launcher:
    """One run of one deployment."""

    def __init__(self, settings: Settings, server: EmbeddedServer | None, shown: Display) -> None:
        self._settings = settings
        self._server = server
        self._display = shown
        self._began = time.monotonic()
        self._ready = False
        self._ending: asyncio.Future[Ending] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._rolling: asyncio.Task[None] | None = None
        self._keepers: list[Keeper] = []
        self._numbers = {role: itertools.count() for role in _MODULES}

    async def run(self) -> Ending:
        """Start everything, keep it running, stop everything."""
        loop = asyncio.get_running_loop()
        self._ending = loop.create_future()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._interrupted, number)
        loop.add_signal_handler(signal.SIGUSR1, self._roll)
        bus = Bus.connect(connection_url(self._settings), self._settings.namespace)
        try:
            for role, count in self._counts().items():
                for _ in range(count):
                    self._add(role)
            self._spawn(self._listen(Registry(bus)))
            self._spawn(self._greet(bus))
            if self._server is not None:
                self._spawn(redis_keeper.keep(self._server, self._display.say))
            ending = await asyncio.shield(self._ending)
            self._display.started()
            await self._drain(ending)
            return ending
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await bus.close()
            self._display.started()
            await self._stop()

    def _counts(self) -> dict[Role, int]:
        """How many of each; the worker, which takes longest to start, first."""
        settings = self._settings
        return {
            Role.WORKER: 1,
            Role.TOKENIZER: settings.tokenizers,
            Role.DETOKENIZER: settings.detokenizers,
            Role.SCHEDULER: 1,
        }

    def _add(self, role: Role) -> Keeper:
        """Start one more process of a role, under a name that none had before."""
        name = f"{role}-{next(self._numbers[role])}"
        own = dataclasses.replace(self._settings, replica=name, parent=os.getpid(), log_format="json")
        if role is not Role.TOKENIZER:  # nobody else has to do with keys
            own = dataclasses.replace(own, api_keys=None, admin_key=None)
        child = Child(name, _MODULES[role], without_settings() | to_environment(own), self._display.log)
        keeper = Keeper(role, child, self._display.say, lambda: self._ready)
        self._keepers.append(keeper)
        self._spawn(self._keep(keeper))
        return keeper

    @property
    def _current(self) -> list[Keeper]:
        """All but those that have been replaced."""
        return [keeper for keeper in self._keepers if not keeper.is_retired]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _end(self, ending: Ending) -> None:
        assert self._ending is not None
        if not self._ending.done():
            self._ending.set_result(ending)

    def _interrupted(self, number: signal.Signals) -> None:
        assert self._ending is not None
        if self._ending.done():
            for keeper in self._keepers:
                keeper.kill()
            return
        self._display.started()
        self._display.say("stopping when the answers under way are finished; once more to stop at once")
        self._end(Ending(0 if number != signal.SIGHUP else _HUNG_UP))

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._end(Ending(1, f"internal error: {error!r}"))

    # --- running ----------------------------------------------------------------------------------

    async def _keep(self, keeper: Keeper) -> None:
        ending = await keeper.keep()
        if ending is not None:
            self._end(ending)

    async def _listen(self, registry: Registry) -> None:
        """Hear what the processes say of themselves; while Redis is away, nobody is judged."""
        while True:
            registry.tick()
            with contextlib.suppress(Unavailable):
                await registry.refresh()
            for keeper in self._current:
                if (last := registry.last(keeper.role, keeper.name)) is not None:
                    keeper.heard(last)
            await asyncio.sleep(BEAT_S if self._ready else _POLL_S)

    async def _greet(self, bus: Bus) -> None:
        """Show how the start gets on, then the banner."""
        while not self._ready:
            self._display.starting([Status(keeper.name, keeper.is_ready, keeper.detail) for keeper in self._keepers])
            self._ready = all(keeper.is_ready for keeper in self._keepers) and await self._doors_open()
            if not self._ready:
                await asyncio.sleep(_POLL_S)
        card = await _card(bus)
        self._display.started()
        settings = self._settings
        seconds = time.monotonic() - self._began
        needs_key = settings.api_keys is not None or settings.api_keys_file is not None
        name = settings.served_model_name[0] if settings.served_model_name else card.model
        print(banner(card, name, url_of(settings.host, settings.port), seconds, needs_key=needs_key), flush=True)

    async def _doors_open(self) -> bool:
        """Whether the front doors see all others ready too: they look for themselves."""
        settings = self._settings
        return await all_ready(reachable_host(settings.host), settings.port, settings.tokenizers)

    # --- a rolling restart ------------------------------------------------------------------------

    def _roll(self) -> None:
        assert self._ending is not None
        if not self._ready or self._ending.done():
            self._display.say("no rolling restart: not everything is ready")
        elif self._rolling is not None and not self._rolling.done():
            self._display.say("a rolling restart is under way already")
        else:
            self._rolling = self._spawn(self._restart_all())

    async def _restart_all(self) -> None:
        """One process after the other, each ready before the next is stopped.

        A front door is followed by another one, under a new name, that listens before it leaves; what the others were
        at is taken up again from the streams.
        """
        began = time.monotonic()
        self._display.say("rolling restart: one process after the other")
        for keeper in self._current:
            if keeper.role is Role.TOKENIZER:
                await self._add(keeper.role).ready()
                await keeper.retire(self._door_grace)
            else:
                await keeper.restart(_GRACE_S)
                await keeper.ready()
            for other in self._current:  # a scheduler waits for a new worker, and so do all others
                await other.ready()
        self._display.say(f"rolling restart: done in {time.monotonic() - began:.1f} s")

    # --- stopping ---------------------------------------------------------------------------------

    @property
    def _door_grace(self) -> float:
        return self._settings.drain_timeout + _GRACE_S

    async def _drain(self, ending: Ending) -> None:
        """Let the front doors finish their answers, for which all others go on."""
        if self._rolling is not None:
            self._rolling.cancel()
        if ending.code in _ASKED_FOR:
            doors = [keeper for keeper in self._current if keeper.role is Role.TOKENIZER]
            await asyncio.gather(*(keeper.retire(self._door_grace) for keeper in doors))

    async def _stop(self) -> None:
        await asyncio.gather(*(keeper.child.stop(_GRACE_S) for keeper in self._keepers))
        if restarts := [f"{keeper.name} {keeper.restarts}" for keeper in self._keepers if keeper.restarts]:
            self._display.say(f"started again: {', '.join(restarts)}")


async def _card(bus: Bus) -> ModelCard:
    found = await bus.hash(bus.names.model)
    hello = decode(found[WORKER])
    assert isinstance(hello, Hello)
    return hello.card
