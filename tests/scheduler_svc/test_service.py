"""The scheduler process on a real server, with a simulated worker that speaks the streams."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from random import Random

import pytest
import pytest_asyncio

import scheduler_svc.service
from scheduler_svc.limits import Limits
from scheduler_svc.scheduler import Scheduler
from shared import columns
from shared.bus import Bus, Reader
from shared.config import WORKER, Settings
from shared.cursors import START
from shared.protocol import (
    Abort,
    Aborted,
    Admitted,
    Failed,
    Failure,
    Finish,
    Flush,
    Flushed,
    Generate,
    Hello,
    ModelCard,
    Open,
    Opened,
    Plan,
    Step,
    encode,
)
from shared.registry import Role, State
from shared.service import Context, run
from tests.scheduler_svc.simulated import SimulatedWorker, WorkerDied, card, expected, generate


class World:
    """One namespace with a scheduler and a worker that can be killed and started again."""

    def __init__(self, redis_url: str, namespace: str, bus: Bus) -> None:
        self.bus = bus
        self.settings = Settings(redis=redis_url, namespace=namespace, replica="0", lease=4)
        self.card: ModelCard = card(num_pages=40, page_size=4, max_running=4, chunk_tokens=8)
        self.requests: dict[int, Generate] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.incarnation = 0
        self.hello_in_stream = True
        self.deadly: dict[int, int] = {}  # see SimulatedWorker

    def start_scheduler(self) -> Context:
        context = Context(Role.SCHEDULER, self.settings, Bus.connect(self.settings.redis_url, self.settings.namespace))
        self.tasks["scheduler"] = asyncio.create_task(run(context, scheduler_svc.service.serve))
        return context

    def start_worker(self) -> None:
        self.incarnation += 1
        self.tasks["worker"] = asyncio.create_task(self._work(self.incarnation))

    async def kill(self, name: str) -> None:
        task = self.tasks.pop(name)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _work(self, incarnation: int) -> None:
        names = self.bus.names
        namespaces = {id: request.namespace for id, request in self.requests.items()}
        worker = SimulatedWorker(self.card, namespaces, Random(incarnation), deadly=self.deadly)
        hello = Hello(incarnation, self.card)
        transaction = self.bus.transaction().put(names.model, WORKER, encode(hello))
        if self.hello_in_stream:
            transaction.append(names.steps(WORKER), hello)
        await transaction.commit()
        news = asyncio.Event()
        reading = asyncio.create_task(self._obey(worker, incarnation, namespaces, news))
        try:
            while True:
                await news.wait()
                news.clear()
                while worker.busy:
                    await self.bus.append(names.steps(WORKER), worker.step())
                    await asyncio.sleep(0.001)
                    if reading.done():
                        reading.result()
        finally:
            reading.cancel()

    async def _obey(
        self, worker: SimulatedWorker, incarnation: int, namespaces: dict[int, str], news: asyncio.Event
    ) -> None:
        names = self.bus.names
        reader = Reader(self.bus, [names.plans(WORKER)])
        while True:
            for entry in await reader.next():
                namespaces.update({id: request.namespace for id, request in self.requests.items()})
                match entry.message:
                    case Open(epoch, mine) if mine == incarnation:
                        worker.open(epoch)
                        await self.bus.append(names.steps(WORKER), Opened(epoch, incarnation))
                    case Plan() as plan:
                        worker.obey(plan)
                    case _:
                        pass
            news.set()

    async def submit(self, *requests: Generate) -> None:
        transaction = self.bus.transaction()
        for request in requests:
            self.requests[request.id] = request
            transaction.put(self.bus.names.live, str(request.id), encode(request))
            transaction.append(self.bus.names.requests, request)
        await transaction.commit()

    async def tokens(self) -> dict[int, dict[int, int]]:
        """{request: {index: token}} of the step log, as every reader must see it; conflicts fail."""
        found: dict[int, dict[int, int]] = {}
        for id, index, token, _ in await self._rows():
            assert found.setdefault(id, {}).setdefault(index, token) == token
        return found

    async def finished(self) -> dict[int, Finish]:
        found: dict[int, Finish] = {}
        for id, _, _, finish in await self._rows():
            if finish:
                assert id not in found, "a second end"
                found[id] = finish
        return found

    async def _rows(self) -> list[tuple[int, int, int, Finish]]:
        rows: list[tuple[int, int, int, Finish]] = []
        fence = None
        for entry in await self.bus.range(self.bus.names.steps(WORKER)):
            match entry.message:
                case Opened(epoch, _):
                    fence = epoch
                case Step() as step if step.epoch == fence:
                    tokens, at = columns.as_int32(step.tokens).tolist(), 0
                    for id, first, count, finish in zip(
                        columns.as_uint64(step.ids).tolist(),
                        columns.as_int32(step.firsts).tolist(),
                        columns.as_int32(step.counts).tolist(),
                        step.finishes,
                        strict=True,
                    ):
                        for index in range(count):
                            last = index == count - 1
                            rows.append((id, first + index, tokens[at + index], Finish(finish if last else 0)))
                        at += count
                case _:
                    pass
        return rows

    async def replies(self, replica: str = "t0") -> list[object]:
        return [entry.message for entry in await self.bus.range(self.bus.names.texts(replica))]

    async def until(self, done: Callable[[], object], patience: float = 20.0) -> None:
        """Wait for a condition, a coroutine function's value; a dead scheduler raises here."""
        deadline = time.monotonic() + patience
        while True:
            result = done()
            if asyncio.iscoroutine(result):
                result = await result
            if result:
                return
            for task in self.tasks.values():
                if task.done():
                    task.result()
            assert time.monotonic() < deadline, "it did not happen"
            await asyncio.sleep(0.005)

    async def idle(self) -> bool:
        return not await self.bus.hash(self.bus.names.live)


async def beat(context: Context) -> None:
    while True:
        await context.beat()
        await asyncio.sleep(0.2)


@pytest_asyncio.fixture
async def world(redis_url: str, namespace: str, bus: Bus) -> AsyncIterator[World]:
    world = World(redis_url, namespace, bus)
    reader = Context(Role.DETOKENIZER, world.settings, bus)  # needs the step log from its beginning, like the tests
    world.tasks["reader"] = asyncio.create_task(beat(reader))
    yield world
    for name in list(world.tasks):
        await world.kill(name)


def some_requests(count: int, max_tokens: int = 30, first: int = 1) -> list[Generate]:
    random = Random(first)
    shared = [random.randint(0, 4) for _ in range(17)]
    return [
        generate(first + i, shared[: random.randint(0, 17)] + [random.randint(0, 4) for _ in range(9)], max_tokens)
        for i in range(count)
    ]


async def assert_all_served(world: World) -> None:
    tokens, ends = await world.tokens(), await world.finished()
    for id, request in world.requests.items():
        assert [tokens[id][index] for index in range(len(tokens[id]))] == expected(request)
        assert ends[id] is Finish.LENGTH


async def test_requests_are_served_in_whatever_order_the_processes_start(world: World) -> None:
    await world.submit(*some_requests(6))
    context = world.start_scheduler()
    await world.until(lambda: context.pulse.waiting == 6)
    assert context.pulse.state is State.LOADING
    world.start_worker()
    await world.until(world.idle)
    assert context.pulse.state is State.READY
    assert context.pulse.waiting == 0
    await world.submit(*some_requests(6, first=100))
    await world.until(world.idle)
    await assert_all_served(world)
    admitted = [message for message in await world.replies() if isinstance(message, Admitted)]
    told = [id for message in admitted for id in columns.as_uint64(message.ids).tolist()]
    assert sorted(told) == sorted(world.requests)


async def test_a_deadline_passes_without_any_traffic(world: World) -> None:
    world.start_scheduler()
    await asyncio.sleep(0.05)
    await world.submit(generate(1, [1] * 6, deadline=time.time() + 0.2))
    await world.until(world.idle, patience=3.0)  # a reader that hears nothing wakes up every five seconds
    [failed] = [message for message in await world.replies() if isinstance(message, Failed)]
    assert failed.failure is Failure.TIMEOUT


async def test_a_request_that_kills_its_worker_fails_alone(world: World) -> None:
    world.start_scheduler()
    world.deadly = {1: 0}
    await world.submit(*some_requests(4))
    deaths = 0
    while not await world.idle():
        world.start_worker()
        worker = world.tasks.pop("worker")
        while not worker.done() and not await world.idle():
            await asyncio.sleep(0.005)
        if worker.done():
            with pytest.raises(WorkerDied):
                worker.result()
            deaths += 1
        else:
            worker.cancel()
    assert deaths in (2, 3)
    [failed] = [message for message in await world.replies() if isinstance(message, Failed)]
    assert (failed.id, failed.failure) == (1, Failure.POISONOUS)
    del world.requests[1]
    await assert_all_served(world)


async def test_a_scheduler_killed_in_the_middle_loses_and_doubles_nothing(world: World) -> None:
    world.start_worker()
    for restart in range(4):
        world.start_scheduler()
        await world.submit(*some_requests(4, 40, first=1 + 10 * restart))
        target = 60 * (restart + 1)

        async def enough(target: int = target) -> bool:
            return sum(map(len, (await world.tokens()).values())) >= target

        await world.until(enough)
        await world.kill("scheduler")
    world.start_scheduler()
    await world.until(world.idle)
    await assert_all_served(world)


async def test_a_worker_killed_in_the_middle_loses_and_doubles_nothing(world: World) -> None:
    world.start_scheduler()
    for restart in range(3):
        world.start_worker()
        await world.submit(*some_requests(4, 40, first=1 + 10 * restart))
        target = 50 * (restart + 1)

        async def enough(target: int = target) -> bool:
            return sum(map(len, (await world.tokens()).values())) >= target

        await world.until(enough)
        await world.kill("worker")
    world.start_worker()
    await world.until(world.idle)
    await assert_all_served(world)


async def test_both_killed_at_once_lose_and_double_nothing(world: World) -> None:
    for restart in range(3):
        world.start_worker()
        world.start_scheduler()
        await world.submit(*some_requests(4, 40, first=1 + 10 * restart))
        target = 50 * (restart + 1)

        async def enough(target: int = target) -> bool:
            return sum(map(len, (await world.tokens()).values())) >= target

        await world.until(enough)
        await world.kill("worker")
        await world.kill("scheduler")
    world.start_scheduler()
    world.start_worker()
    await world.until(world.idle)
    await assert_all_served(world)


async def test_aborts_sent_while_no_scheduler_lives_are_obeyed(world: World) -> None:
    world.start_worker()
    world.start_scheduler()
    await world.submit(*some_requests(3, 120))

    async def begun() -> bool:
        return len(await world.tokens()) == 3

    await world.until(begun)
    await world.kill("scheduler")
    await world.bus.append(world.bus.names.requests, Abort(1, notify=True))
    await world.bus.append(world.bus.names.requests, Abort(2))
    await world.bus.append(world.bus.names.requests, Abort(2))
    world.start_scheduler()
    await world.until(world.idle)
    assert [m for m in await world.replies() if isinstance(m, Aborted)] == [Aborted(1)]
    tokens = await world.tokens()
    assert [tokens[3][index] for index in range(120)] == expected(world.requests[3])


async def test_a_scheduler_finds_the_worker_when_its_hello_was_trimmed(world: World) -> None:
    world.hello_in_stream = False
    world.start_worker()
    await world.until(lambda: world.bus.hash(world.bus.names.model))
    world.start_scheduler()
    await world.submit(*some_requests(3))
    await world.until(world.idle)


async def test_what_cannot_be_served_fails_at_once(world: World) -> None:
    world.settings = Settings(redis=world.settings.redis, namespace=world.settings.namespace, replica="0", max_queue=2)
    context = world.start_scheduler()
    first, second, *rest = some_requests(5)
    await world.submit(first, second)
    await world.until(lambda: context.metrics.get_sample_value("rootstream_queue_requests") == 2)
    await world.submit(*rest)

    async def refused() -> bool:
        return len(await world.replies()) == 3

    await world.until(refused)
    world.start_worker()
    await world.until(world.idle)
    await world.submit(generate(500, [1] * 100, 62), generate(501, [1] * 5000, 8), generate(502, [1] * 100, 61))
    await world.until(world.idle)
    failed = {m.id: m for m in await world.replies() if isinstance(m, Failed)}
    assert [failed[id].failure for id in (3, 4, 5)] == [Failure.QUEUE_FULL] * 3
    assert failed.keys() == {3, 4, 5, 500, 501}
    assert failed[500].failure is failed[501].failure is Failure.TOO_LARGE
    assert "162" in failed[500].message
    assert "160" in failed[500].message
    assert "5008" in failed[501].message
    assert "4096" in failed[501].message
    assert context.pulse.state is State.READY


async def test_a_flush_is_answered_with_what_it_freed(world: World) -> None:
    world.start_worker()
    world.start_scheduler()
    await world.submit(generate(1, [1] * 21, 8))
    await world.until(world.idle)
    await world.bus.append(world.bus.names.requests, Flush(7, "t9"))
    await world.until(lambda: world.replies("t9"))
    assert await world.replies("t9") == [Flushed(7, 28 // 4)]


async def test_a_second_scheduler_makes_the_first_stop(world: World) -> None:
    world.start_worker()
    first = world.start_scheduler()
    await world.until(lambda: first.pulse.state is State.READY)
    task = world.tasks.pop("scheduler")
    second = world.start_scheduler()
    await world.until(lambda: second.pulse.state is State.READY)
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done
    assert "another scheduler" in str(task.exception())
    await world.submit(*some_requests(2))
    await world.until(world.idle)
    await assert_all_served(world)


async def test_requests_of_a_front_door_that_is_gone_are_aborted(
    world: World, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_svc.service, "_PATIENCE_S", 1.5)
    monkeypatch.setattr(scheduler_svc.service, "_CHORES_S", 0.05)
    world.card = card(num_pages=100_000, page_size=4, max_running=4, chunk_tokens=8, context=400_000)
    world.start_worker()
    world.start_scheduler()
    door = Context(Role.TOKENIZER, world.settings, bus)  # a front door that lives: replica "0"
    beating = asyncio.create_task(beat(door))
    endless = [generate(1, [1], 300_000, reply_to="gone"), generate(2, [2], 300_000, reply_to="0")]
    await world.submit(*endless)
    await world.until(lambda: only_live(world, {"2"}))
    await asyncio.sleep(0.3)
    assert await only_live(world, {"2"})
    beating.cancel()


async def only_live(world: World, ids: set[str]) -> bool:
    return (await world.bus.hash(world.bus.names.live)).keys() == ids


async def test_streams_are_trimmed_up_to_what_somebody_needs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_svc.service, "_CHORES_S", 0.01)
    names, client = world.bus.names, world.bus.client
    world.start_worker()
    world.start_scheduler()
    await world.submit(*some_requests(60, 30))
    await world.until(world.idle)
    await world.submit(*some_requests(30, 30, first=100))
    await world.until(world.idle)
    await assert_all_served(world)  # the reader's watermark keeps the whole step log
    steps = await client.xlen(names.steps(WORKER))
    assert await client.xlen(names.plans(WORKER)) < steps / 2
    await world.kill("reader")
    reader = Context(Role.DETOKENIZER, world.settings, world.bus)
    reader.watermark = await world.bus.last_id(names.steps(WORKER))
    world.tasks["reader"] = asyncio.create_task(beat(reader))
    await asyncio.sleep(1.2)  # until the scheduler has read that pulse
    await world.submit(*some_requests(2, 120, first=200))
    await world.until(world.idle)
    assert await client.xlen(names.steps(WORKER)) < steps
    await world.kill("scheduler")  # the Hello and the Opened are gone with the rest
    world.start_scheduler()
    await world.submit(*some_requests(2, 5, first=300))
    await world.until(world.idle)


async def test_the_clients_hear_of_an_admission_before_its_tokens(world: World) -> None:
    world.start_worker()
    world.start_scheduler()
    await world.submit(*some_requests(1))
    await world.until(world.idle)
    [admitted] = await world.bus.range(world.bus.names.texts("t0"))
    plans = [e for e in await world.bus.range(world.bus.names.plans(WORKER)) if isinstance(e.message, Plan)]
    assert admitted.id.partition("-")[0] <= plans[0].id.partition("-")[0]
    assert plans[0].id > START


async def test_lost_pages_are_noticed_and_put_back(
    world: World, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accounts that are wrong are no reason to die: an epoch begins with new ones, and requests go on."""
    made: list[Scheduler] = []

    class Seen(Scheduler):
        def __init__(self, limits: Limits) -> None:
            super().__init__(limits)
            made.append(self)

    monkeypatch.setattr(scheduler_svc.service, "Scheduler", Seen)
    monkeypatch.setattr(scheduler_svc.service, "_AUDIT_S", 0.2)
    monkeypatch.setattr(scheduler_svc.service, "_CHORES_S", 0.1)
    context = world.start_scheduler()
    world.start_worker()
    await world.submit(generate(1, [1] * 9, 4))
    await world.until(world.idle)
    batch = made[0].batch
    assert batch is not None
    batch.cache.pool.take(3)
    batch.cache.tree.pin(next(iter(batch.cache.tree.nodes())))
    async with asyncio.timeout(10):
        while made[0].batch is batch:
            await asyncio.sleep(0.02)
    await world.submit(generate(2, [2] * 9, 4))
    await world.until(world.idle)
    assert made[0].audit() is None
    assert made[0].stats.failed_audits == 1
    assert context.failure is None
