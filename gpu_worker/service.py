"""The worker process: plans in, steps out; the engine in a thread of its own.

The asyncio side reads `plans:{w}` and writes `steps:{w}`; the engine thread never waits for it: it runs
every step it has granted slots for, and its reports queue up here in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time

import structlog

from gpu_worker.engine import Engine, Structure
from gpu_worker.grammar.loading import GrammarLoader, GrammarReady
from gpu_worker.instruments import MaskMetrics, WorkerMetrics
from gpu_worker.startup import Loaded, Structured, load
from gpu_worker.tracing import RowSpans
from shared.bus import Reader, Unavailable
from shared.config import WORKER
from shared.errors import UserError
from shared.protocol import FromWorker, Hello, Open, Opened, Plan, Step, encode
from shared.registry import State
from shared.rounds import Rounds
from shared.service import Context

log = structlog.get_logger("worker")

_FLUSH_S = 2.0  # for the last steps, when told to stop
_GRAMMAR_PATIENCE_S = 60.0  # a grammar is compiled in 2 s, but others may be before it


class EngineThread:
    """Runs the engine for as long as the process lives; blocks, using no CPU, when there is no work."""

    def __init__(self, engine: Engine, outbox: asyncio.Queue[FromWorker], rounds: Rounds) -> None:
        self._engine = engine
        self._rounds = rounds
        self._inbox: queue.SimpleQueue[Open | Plan | GrammarReady | None] = queue.SimpleQueue()
        self._outbox = outbox
        self._loop = asyncio.get_running_loop()
        self._failure: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def send(self, message: Open | Plan | GrammarReady) -> None:
        """Hand a message to the engine."""
        self._inbox.put(message)

    async def ended(self) -> None:
        """Wait until the engine stops; raises what stopped it."""
        await self._failure

    async def stop(self) -> None:
        """Finish the step under way and end the thread."""
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            while self._receive():
                self._rounds.begin(self._engine.tokens_ahead)
                report = self._engine.step()
                if report is not None:
                    self._tell(report)
        except Exception as error:  # noqa: BLE001 - carried over to the event loop, where it ends the process
            self._loop.call_soon_threadsafe(self._fail, error)

    def _fail(self, error: Exception) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)

    def _receive(self) -> bool:
        """Take all messages there are; wait for one when idle. False when it is time to end."""
        wait = not self._engine.has_work
        if wait:
            self._rounds.end()
        while True:
            try:
                message = self._inbox.get(block=wait)
            except queue.Empty:
                return True
            if wait:
                self._rounds.begin()
            if message is None:
                return False
            answer = self._engine.receive(message)
            if answer is not None:
                self._tell(answer)
            wait = False

    def _tell(self, report: FromWorker) -> None:
        self._loop.call_soon_threadsafe(self._outbox.put_nowait, report)


class Grammars:
    """Fetches compiled grammars for the engine, as soon as they are there, and makes them ready in a thread."""

    def __init__(self, context: Context, structured: Structured) -> None:
        self._context = context
        self._loader = GrammarLoader(structured.lexicon)
        self._loop = asyncio.get_running_loop()
        self._fetching: set[str] = set()
        self._engine: EngineThread
        vocabulary = structured.lexicon.vocabulary
        self.structure = Structure(structured.masks, vocabulary.eos_ids, self._want)
        self._loaded = MaskMetrics(context.metrics, structured.masks).loaded

    def begin(self, engine: EngineThread) -> None:
        self._engine = engine

    def _want(self, key: str) -> None:
        """Called in the engine's thread."""
        self._loop.call_soon_threadsafe(self._start, key)

    def _start(self, key: str) -> None:
        if key not in self._fetching:
            self._fetching.add(key)
            self._context.spawn(self._fetch(key))

    async def _fetch(self, key: str) -> None:
        """The grammar may still be under way: its request was announced before it was compiled."""
        deadline = time.monotonic() + _GRAMMAR_PATIENCE_S
        delay = 0.001
        while (data := await self._look(key)) is None:
            if time.monotonic() > deadline:
                self._deliver(GrammarReady(key, "the compiled grammar did not arrive: send the request again"))
                return
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, 0.05)
        self._deliver(await asyncio.to_thread(self._loader.load, key, data))
        self._loaded.inc()

    async def _look(self, key: str) -> bytes | None:
        try:
            return await self._context.bus.value(self._context.bus.names.grammar(key))
        except Unavailable:
            return None

    def _deliver(self, ready: GrammarReady) -> None:
        self._fetching.discard(ready.key)
        self._engine.send(ready)


async def serve(context: Context) -> None:
    """Load the model, say hello, obey plans until stopped."""
    await context.announce(State.LOADING, "loading model")
    loading = _load(context)
    stopping = asyncio.create_task(context.stopping.wait())
    await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        return
    loaded = await loading
    log.info("model loaded", model=loaded.card.model, dtype=loaded.card.dtype, kv_tokens=loaded.card.kv_tokens)
    outbox: asyncio.Queue[FromWorker] = asyncio.Queue()
    grammars = None if loaded.structured is None else Grammars(context, loaded.structured)
    structure = None if grammars is None else grammars.structure
    engine = EngineThread(
        Engine(loaded.model, loaded.card, context.incarnation, structure, loaded.execution), outbox, context.rounds
    )
    if grammars is not None:
        grammars.begin(engine)
    engine.start()
    plans = context.bus.names.plans(WORKER)
    reader = Reader(context.bus, [plans], {plans: await context.bus.last_id(plans)})  # what is for us comes later
    hello = Hello(context.incarnation, loaded.card)
    await _write_hello(context, hello)
    await context.announce(State.LOADING, "waiting for the scheduler")
    context.spawn(_repeat_hello(context, hello))
    spans = RowSpans(context.tracing) if context.tracing else None
    context.spawn(_write(context, outbox, spans))
    context.spawn(_read(context, engine, reader, spans))
    context.spawn(engine.ended())
    await stopping
    await engine.stop()
    with contextlib.suppress(TimeoutError):  # what was computed need not be computed again
        await asyncio.wait_for(outbox.join(), _FLUSH_S)


def _load(context: Context) -> asyncio.Future[Loaded]:
    """Load in a daemon thread: a process that is told to stop meanwhile need not wait for it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Loaded] = loop.create_future()

    def work() -> None:
        try:
            loaded = load(context.settings, context.progress)
        except Exception as error:  # noqa: BLE001 - carried over to the event loop
            _settle(loop, future, error)
        else:
            _settle(loop, future, loaded)

    threading.Thread(target=work, name="load", daemon=True).start()
    return future


def _settle(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Loaded], outcome: Loaded | Exception) -> None:
    def settle() -> None:
        if future.cancelled():
            return
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(settle)


async def _write_hello(context: Context, hello: Hello) -> None:
    names = context.bus.names
    await context.bus.transaction().put(names.model, WORKER, encode(hello)).append(names.steps(WORKER), hello).commit()


async def _repeat_hello(context: Context, hello: Hello) -> None:
    """Others learn of the model from Redis: put it back where it got lost."""
    while True:
        await context.data_lost.wait()
        await _write_hello(context, hello)


async def _read(context: Context, engine: EngineThread, reader: Reader, spans: RowSpans | None) -> None:
    """Raises UserError when the scheduler obviously works with another worker: its Open, or plans whose Open was
    trimmed away before this process, which had been stopped, could read it.
    """
    epoch: int | None = None
    while True:
        for entry in await reader.next():
            match entry.message:
                case Open(incarnation=context.incarnation) as message:
                    epoch = message.epoch
                    if spans is not None:
                        spans.opened()
                    engine.send(message)
                case Open(incarnation=incarnation) if incarnation > context.incarnation:
                    raise _replaced(context)
                case Plan() as message:
                    if epoch is not None and message.epoch > epoch:
                        raise _replaced(context)
                    if spans is not None:
                        spans.planned(message, time.time_ns())
                    for admit in message.admits:
                        log.debug("admitted", request=f"{admit.id:016x}", cached_tokens=admit.cached_len)
                    engine.send(message)
                case _:
                    pass


def _replaced(context: Context) -> UserError:
    return UserError(
        f"another worker took over namespace {context.bus.names.prefix!r}: there must be only one; "
        "stop one of them, or give each a namespace of its own"
    )


async def _write(context: Context, outbox: asyncio.Queue[FromWorker], spans: RowSpans | None) -> None:
    """Everything that queued up goes out in one round trip, in order."""
    metrics = WorkerMetrics(context.metrics)
    steps = context.bus.names.steps(WORKER)
    while True:
        reports = [await outbox.get()]
        while not outbox.empty():
            reports.append(outbox.get_nowait())
        transaction = context.bus.transaction()
        for report in reports:
            transaction.append(steps, report)
        await transaction.commit()
        for report in reports:
            outbox.task_done()
            if isinstance(report, Step):
                metrics.observe(report)
                for id, reason in report.errors:
                    log.error("a request failed", request=f"{id:016x}", reason=reason)
                if spans is not None:
                    spans.stepped(report, time.time_ns())
            elif isinstance(report, Opened):
                log.info("epoch opened", epoch=report.epoch)
                await context.announce(State.READY)
