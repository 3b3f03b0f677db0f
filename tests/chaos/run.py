"""A chaos run: the same requests without faults, with them, and after them; every stream is checked as it ends.

Owns the order of things and what is kept. Judging is checker.py's, doing faults injector.py's.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from tests.chaos import history
from tests.chaos.checker import check, check_promises
from tests.chaos.client import Load
from tests.chaos.deaths import own_deaths
from tests.chaos.deployment import Deployment
from tests.chaos.faults import Fault
from tests.chaos.history import Ask, Injected, Outage, Outcome, Stream
from tests.chaos.injector import Injector
from tests.chaos.leftovers import leftovers
from tests.chaos.reading import Reading, Violation, Wrong, read_events
from tests.chaos.report import Finding, line_of
from tests.chaos.stalls import Stall, longest_stall, starts
from tests.chaos.workload import asks, needs_stop, with_stop

CLIENTS = 48
_PATIENCE_S = 60.0
_KEPT_STREAMS = 200  # histories kept of streams with violations


class Options(NamedTuple):
    """What a run is to be."""

    seed: int  # of requests, and of which connections are cut
    faults: Iterable[Fault]
    requests: int = 150
    clients: int = CLIENTS
    resumable: bool = True  # every other request


class Result(NamedTuple):
    """What came of it."""

    findings: list[Finding]
    faults: list[Injected]
    outcomes: Counter[tuple[str, str]]
    stalls: dict[str, list[Stall]]  # by part of the run
    began: float  # of the faults, unix seconds


Say = Callable[[str], None]


class Chaos:
    """One run against one deployment."""

    def __init__(self, deployment: Deployment, options: Options, say: Say) -> None:
        self.findings: list[Finding] = []
        self.url = deployment.url
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self._deployment = deployment
        self._options = options
        self._say = say
        self._references: dict[str, Reading] = {}
        self._stalls: dict[str, list[Stall]] = {}
        self._began = 0.0
        self._part = ""
        self._unjudged: list[Stream] = []  # of this part: stalls are known when the outages are over
        self._load = Load(deployment.url, _PATIENCE_S, self._on_stream)
        self._injector = Injector(deployment, self._load.cut, options.seed)

    async def run(self) -> Result:
        """Everything in order; raises only what is wrong with the harness or the start."""
        made = asks(self._options.seed, self._options.requests, resumable=self._options.resumable)
        made = await self._complete(made)
        if not self.findings:
            await self._refer(made)
        if not self.findings:
            await self._calm("again, without faults", random.Random(self._options.seed).sample(made, len(made)))
            await self._storm(made)
            await self._calm("after the faults", made)
            for violation in await leftovers(self._deployment):
                self.found(violation)
        for death in own_deaths(self._deployment.log.read_text(errors="replace")):
            self.found(Violation(Wrong.DEATH, death))
        return Result(self.findings, self._injector.done, self.outcomes, self._stalls, self._began)

    @property
    def faults(self) -> list[Injected]:
        """Those done so far."""
        return self._injector.done

    def found(self, violation: Violation) -> None:
        """Something that concerns no stream of ours."""
        self.findings.append(Finding(None, violation))

    # --- parts

    async def _complete(self, made: list[Ask]) -> list[Ask]:
        """Give requests with stop strings those strings, out of their own texts."""
        free = [ask for ask in made if needs_stop(ask)]
        readings = await self._readings(free)
        return [
            with_stop(ask, readings[ask.name]) if ask.name in readings and not self.findings else ask for ask in made
        ]

    async def _refer(self, made: list[Ask]) -> None:
        """What each request is answered when nothing happens: the reference, which must keep its promises."""
        began = time.monotonic()
        self._references = await self._readings(made)
        tokens = sum(seen.tokens or 0 for r in self._references.values() for seen in r.choices.values())
        seconds = time.monotonic() - began
        self._say(f"reference: {len(made)} streams, {tokens:,} native tokens in {seconds:.1f} s")

    async def _readings(self, made: list[Ask]) -> dict[str, Reading]:
        readings: dict[str, Reading] = {}

        def keep(ask: Ask, stream: Stream) -> None:
            reading = readings[ask.name] = read_events(ask.path, stream.events)
            found = [*reading.wrong, *check_promises(ask, reading)]
            if stream.last.outcome is not Outcome.ENDED or not reading.done:
                found.append(
                    Violation(Wrong.SHORT, f"{stream.last.outcome}: {stream.last.status} {stream.last.detail}")
                )
            self.findings += [Finding(stream, violation) for violation in found]

        await Load(self._deployment.url, _PATIENCE_S, keep).run(made, self._options.clients)
        return readings

    async def _calm(self, name: str, made: list[Ask]) -> None:
        self._part = name
        await self._load.run(made, self._options.clients)
        self._judge_stalls([])

    async def _storm(self, made: list[Ask]) -> None:
        """All clients ask without end, while fault after fault happens."""
        self._part = "under faults"
        self._began = began = time.time()

        def on_fault(fault: Fault, injected: Injected) -> None:
            self._say(line_of(fault, injected, sum(self.outcomes.values()), len(self.findings), began))

        async def inject() -> None:
            try:
                await self._injector.run(self._options.faults, on_fault)
            finally:
                self._load.finish()

        shuffled = random.Random(f"load {self._options.seed}").sample(made, len(made))
        async with asyncio.TaskGroup() as group:
            group.create_task(inject())
            group.create_task(self._load.run(shuffled, self._options.clients, again=True))
        for who in self._injector.watch.missing:
            self.found(Violation(Wrong.NOT_BACK, who))
        self._judge_stalls(self._injector.outages)

    # --- streams

    def _on_stream(self, ask: Ask, stream: Stream) -> None:
        self.outcomes[ask.kind, str(stream.last.outcome)] += 1
        found = check(ask, stream, self._references[ask.name], self._injector.done)
        self.findings += [Finding(stream, violation) for violation in found]
        times = msgspec.structs.replace(stream, events=[msgspec.structs.replace(e, data="") for e in stream.events])
        self._unjudged.append(times)

    def _judge_stalls(self, outages: Sequence[Outage]) -> None:
        away = starts(outages, time.time())
        answered = [stream for stream in self._unjudged if stream.events]
        self._stalls[self._part] = [longest_stall(stream, away) for stream in answered]
        self._unjudged.clear()


def keep(result: Result, directory: Path) -> None:
    """Leave what is needed to understand violations on disk."""
    streams = {id(f.stream): f.stream for f in result.findings if f.stream is not None}
    history.write(directory / "streams.jsonl", list(streams.values())[:_KEPT_STREAMS])
    history.write(directory / "faults.jsonl", result.faults)
