"""A scheduler and a simulated worker with an adjustable delay between them, and the clients' view."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random

from scheduler_svc.batch import Batch
from scheduler_svc.limits import Limits
from scheduler_svc.scheduler import Scheduler
from shared import columns
from shared.protocol import Aborted, Admitted, Failed, Finish, Generate, ModelCard, Step
from tests.scheduler_svc.simulated import SimulatedWorker, WorkerDied


@dataclass
class Deployment:
    card: ModelCard
    limits: Limits = field(default_factory=Limits)
    random: Random = field(default_factory=lambda: Random(0))
    longest_run: int = 0  # tokens that grammars force at once
    checked: float = 1.0  # how often the accounts are proved; looking at them brings outputs up to date

    def __post_init__(self) -> None:
        self.now = 0.0
        self.scheduler = Scheduler(self.limits)
        self.requests: dict[int, Generate] = {}
        self.worker = SimulatedWorker(self.card, {}, self.random, self.longest_run)
        self.outputs: dict[int, list[int]] = {}
        self.ends: dict[int, list[str]] = {}
        self.live: set[int] = set()
        self.cached: dict[int, int] = {}
        self.steps: deque[Step] = deque()
        self.epoch = 0
        self.deaths = 0
        self.reopen()

    def reopen(self, card: ModelCard | None = None) -> None:
        """The worker restarts with an empty pool; what it reported before is read first."""
        while self.steps:
            self.read()
        self.epoch += 1
        self.card = card or self.card
        old = self.worker
        self.worker = SimulatedWorker(
            self.card, old.namespaces, self.random, self.longest_run, old.failures, old.deadly
        )
        self.worker.computed = old.computed
        self.worker.open(self.epoch)
        self.scheduler.reopen(self.epoch, self.card)
        self.round()

    @property
    def batch(self) -> Batch:
        assert self.scheduler.batch is not None
        return self.scheduler.batch

    def submit(self, request: Generate) -> None:
        self.requests[request.id] = request
        self.worker.namespaces[request.id] = request.namespace
        self.outputs[request.id] = []
        self.ends[request.id] = []
        self.live.add(request.id)
        self.scheduler.submit(request, self.now)

    def abort(self, id: int, *, notify: bool = False) -> None:
        if not notify and id in self.live:
            self.ends[id].append("abort")
        self.scheduler.abort(id, notify=notify)
        self.deliver()

    def round(self) -> None:
        """Send plans, take replies."""
        while (plan := self.scheduler.plan(self.now)) is not None:
            self.worker.obey(plan)
            self.check()
        self.deliver()

    def deliver(self) -> None:
        """Replies reach the clients."""
        out = self.scheduler.outbox.drain()
        for _, message in out.replies:
            match message:
                case Admitted(ids, cached):
                    for id, tokens in zip(
                        columns.as_uint64(ids).tolist(), columns.as_int32(cached).tolist(), strict=True
                    ):
                        assert id not in self.cached
                        self.cached[id] = tokens
                case Failed(id, failure, _):
                    self.ends[id].append(failure)
                case Aborted(id):
                    self.ends[id].append("abort")
                case _:
                    pass
        for id in out.ended:
            self.live.remove(id)
        self.check()

    def check(self) -> None:
        if self.checked == 1.0 or self.random.random() < self.checked:
            self.scheduler.check()

    def forward(self, plans: int = 1_000_000, burst: int = 1) -> None:
        """One step of the worker, which the scheduler will read later. If it dies of it, another one starts."""
        try:
            self.steps.append(self.worker.step(plans, burst))
        except WorkerDied:
            self.die()

    def die(self) -> None:
        """The worker is killed; what it reported before is read, then the next one opens."""
        self.deaths += 1
        while self.steps:
            self.read()
        self.scheduler.on_death()
        self.scheduler.suspend()
        self.deliver()
        self.reopen()

    def read(self) -> None:
        """The scheduler and the clients read one step."""
        step = self.steps.popleft()
        self.now += 0.01
        at = 0
        rows = zip(
            columns.as_uint64(step.ids).tolist(),
            columns.as_int32(step.firsts).tolist(),
            columns.as_int32(step.counts).tolist(),
            step.finishes,
            strict=True,
        )
        tokens = columns.as_int32(step.tokens).tolist()
        for id, first, count, finish in rows:
            output = self.outputs[id]
            if id in self.live:
                assert first == len(output)
                output += tokens[at : at + count]
                if finish:
                    self.ends[id].append(Finish(finish).name.lower())
            at += count
        self.scheduler.on_step(step, self.now)
        self.round()

    def run(self, limit: int = 5000) -> None:
        """Until nothing is left to do."""
        self.round()
        for _ in range(limit):
            if self.worker.busy:
                self.forward()
            if self.steps:
                self.read()
            elif not self.worker.busy:
                break
        assert not self.live, f"stuck: {len(self.live)} requests"

    def ask(self, request: Generate) -> list[int]:
        """Serve one request on its own."""
        self.submit(request)
        self.run()
        return self.outputs[request.id]
