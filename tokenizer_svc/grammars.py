"""The grammars of this front door's requests: found or compiled once, kept as long as somebody obeys them.

A request does not wait for its grammar: it is announced while the grammar is compiled, and its answer learns
the verdict. Results lie where all processes find them; while answers live, the grammars that they obey are kept
there, and put back if they got lost. Knows nothing of HTTP or Redis.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import structlog

from shared.grammar import Rejected, decode
from shared.protocol import Failed, Failure
from shared.undecodable import UNDECODABLE
from tokenizer_svc.answers import Answer, BadGrammar
from tokenizer_svc.api_error import bad_grammar
from tokenizer_svc.grammar.cache import Cache, Entry
from tokenizer_svc.grammar.compiler import CompilerFailed
from tokenizer_svc.grammar.frames import Outcome
from tokenizer_svc.grammar.pool import Job, Pool
from tokenizer_svc.metrics import Metrics
from tokenizer_svc.structure import Structure
from tokenizer_svc.tracing import part

log = structlog.get_logger("grammars")

KEPT_S = 3600  # how long a compiled grammar stays after its last use
_CROWDED_OUT_S = 60  # when this process has forgotten it for others: what lies there is bounded, too
_REJECTED_S = 60  # a grammar that is wrong today is wrong in a minute, but not forever: releases differ
_EXHAUSTED_S = 10  # time and memory run out sooner on a busy machine
_FOUND_REJECTED_S = 5  # a rejection found with others, whose age is unknown
_CACHE_BYTES = 64 * 2**20


class Store(Protocol):
    """Where all processes find compiled grammars. Does nothing while it cannot be reached."""

    async def get(self, key: str) -> bytes | None:
        """What lies under a key."""
        ...

    async def put(self, key: str, data: bytes, seconds: int) -> None:
        """Leave it there for some time."""
        ...

    async def prolong(self, keys: Sequence[str], seconds: int) -> set[str]:
        """Leave them for some time from now on; returns those that are gone."""
        ...


@dataclass(slots=True)
class _Flight:
    """One compile and all who wait for it."""

    job: Job
    verdict: asyncio.Task[str | None]
    waiting: int = 0


class _Concern(NamedTuple):
    """What an answer has to do with grammars."""

    keys: tuple[str, ...]
    verdicts: tuple[asyncio.Task[None], ...]


class Grammars:
    """Finds, compiles and keeps."""

    def __init__(self, pool: Pool, store: Store, metrics: Metrics) -> None:
        self._pool = pool
        self._store = store
        self._metrics = metrics
        self._cache = Cache(_CACHE_BYTES)
        self._flights: dict[str, _Flight] = {}
        self._concerns: dict[Answer, _Concern] = {}
        self._chores: set[asyncio.Task[None]] = set()

    async def screen(self, structures: Sequence[Structure]) -> None:
        """Look for what is known already. Raises ApiError 400 for a grammar that is known to be bad."""
        for structure, entry in zip(structures, await asyncio.gather(*map(self._known, structures)), strict=True):
            if entry is not None and entry.rejection is not None:
                raise bad_grammar(structure.param, entry.rejection)

    def attach(self, answer: Answer, structures: Sequence[Structure], client: str) -> None:
        """Keep the grammars of an answer; compile those that are not known yet, and tell it what became of them."""
        if not structures:
            return
        for structure in structures:
            self._metrics.constrained.labels(structure.spec.kind).inc()
        fresh = [structure.key for structure in structures if self._cache.hold(structure.key)]
        held = self._cache.held()
        if known := [key for key in fresh if key in held]:
            self._do(self._keep(known))  # it may be long ago that they were left for the worker
        unknown = [structure for structure in structures if structure.key not in held]
        answer.awaits(len(unknown))
        verdicts = tuple(asyncio.create_task(self._tell(answer, structure, client)) for structure in unknown)
        self._concerns[answer] = _Concern(tuple(structure.key for structure in structures), verdicts)

    def detach(self, answer: Answer) -> None:
        """The answer is over, or nobody waits for it."""
        concern = self._concerns.pop(answer, None)
        if concern is None:
            return
        for verdict in concern.verdicts:
            verdict.cancel()
        for key in concern.keys:
            self._crowd_out(self._cache.release(key))

    @asynccontextmanager
    async def borrowed(self, structure: Structure, client: str) -> AsyncGenerator[None]:
        """Hold a grammar in its compiled form for a while. Raises ApiError 400 for a bad one."""
        self._cache.hold(structure.key)
        try:
            entry = await self._known(structure)
            rejection = await self._judge(structure, client) if entry is None else entry.rejection
            if rejection is not None:
                raise bad_grammar(structure.param, rejection)
            yield
        finally:
            self._crowd_out(self._cache.release(structure.key))

    def compiled(self, key: str) -> bytes | None:
        """The compiled form of a grammar that is held, None while it is not known."""
        entry = self._cache.held().get(key)
        return None if entry is None else entry.data

    async def refresh(self) -> None:
        """Keep the grammars of all live answers where the others look for them; put back what got lost."""
        if held := tuple(self._cache.held()):
            await self._keep(held)

    async def close(self) -> None:
        """Let go of everything."""
        for answer in tuple(self._concerns):
            self.detach(answer)
        tasks = [*self._chores, *(flight.verdict for flight in self._flights.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- inside

    async def _known(self, structure: Structure) -> Entry | None:
        key = structure.key
        entry = self._cache.get(key, time.monotonic())
        if entry is not None:
            self._metrics.grammar_hits.labels("memory").inc()
            return entry
        return None if key in self._flights else await self._find(key)

    async def _find(self, key: str) -> Entry | None:
        """What another front door, or an earlier process, has left."""
        data = await self._store.get(key)
        if data is None:
            return None
        try:
            compiled = decode(data)
        except UNDECODABLE as error:
            log.warning("unreadable grammar compiled again", key=key, error=str(error))
            return None
        self._metrics.grammar_hits.labels("redis").inc()
        if isinstance(compiled, Rejected):
            entry = Entry(data, compiled.message, time.monotonic() + _FOUND_REJECTED_S)
        else:
            entry = Entry(data)
        self._crowd_out(self._cache.put(key, entry))
        return entry

    def _crowd_out(self, keys: Sequence[str]) -> None:
        if keys:
            self._do(self._shorten(keys))

    async def _shorten(self, keys: Sequence[str]) -> None:
        await self._store.prolong(keys, _CROWDED_OUT_S)

    async def _keep(self, keys: Sequence[str]) -> None:
        held = self._cache.held()
        for key in await self._store.prolong(keys, KEPT_S):
            if entry := held.get(key):
                await self._store.put(key, entry.data, KEPT_S)

    async def _tell(self, answer: Answer, structure: Structure, client: str) -> None:
        try:
            with part("door.grammar"):
                rejection = await self._judge(structure, client)
        except CompilerFailed:
            message = "the grammar could not be compiled for a reason that lies in the server: send the request again"
            answer.decided(Failed(answer.id, Failure.WORKER, message))
        else:
            answer.decided(None if rejection is None else BadGrammar(structure.param, rejection))

    async def _judge(self, structure: Structure, client: str) -> str | None:
        """Why a grammar is bad, None where it is good. Raises CompilerFailed."""
        key = structure.key
        if entry := self._cache.get(key, time.monotonic()):  # it came while the request was announced
            return entry.rejection
        flight = self._flights.get(key)
        if flight is None:
            job = self._pool.enqueue(structure.spec, client)
            flight = self._flights[key] = _Flight(job, asyncio.create_task(self._compile(key, job)))
            flight.verdict.add_done_callback(_retrieve)
        else:
            self._metrics.grammar_hits.labels("under way").inc()
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.verdict)
        finally:
            flight.waiting -= 1
            if not flight.waiting and self._pool.withdraw(flight.job):
                self._flights.pop(key, None)
                flight.verdict.cancel()

    async def _compile(self, key: str, job: Job) -> str | None:
        try:
            reply, seconds = await job.result
            self._metrics.compiles.labels(job.spec.kind, reply.outcome).inc()
            self._metrics.compile.observe(seconds)
            match reply.outcome:
                case Outcome.DFA | Outcome.GUIDANCE | Outcome.TOKENS:
                    kept, entry = KEPT_S, Entry(reply.data)
                case Outcome.REJECTED:
                    kept, entry = _REJECTED_S, Entry(reply.data, reply.rejection, time.monotonic() + _REJECTED_S)
                case Outcome.TIMEOUT | Outcome.MEMORY:
                    kept, entry = _EXHAUSTED_S, Entry(reply.data, reply.rejection, time.monotonic() + _EXHAUSTED_S)
            self._crowd_out(self._cache.put(key, entry))
            await self._store.put(key, entry.data, kept)
            return entry.rejection
        except CompilerFailed:
            self._metrics.compiles.labels(job.spec.kind, "failed").inc()
            raise
        finally:
            if (flight := self._flights.get(key)) and flight.job is job:
                del self._flights[key]

    def _do(self, chore: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)


def _retrieve(verdict: asyncio.Task[str | None]) -> None:
    """Whoever still waits gets the exception; that nobody does is no news."""
    if not verdict.cancelled():
        verdict.exception()
