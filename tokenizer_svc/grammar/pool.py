"""The children that compile, and the grammars that wait for one.

Children are kept warm and take no CPU while they wait. One that dies, or is killed for taking too long, is
replaced at once. Knows nothing of requests or caches.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from tokenizer_svc.grammar.compiler import Compiler, CompilerFailed, Result
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.spec import GrammarSpec
from tokenizer_svc.grammar.turns import Turns

log = structlog.get_logger("grammars")

_RETRY_S = 1.0  # after a child that did not even start
_TRIES = 2  # a child may have died before its grammar reached it


@dataclass(eq=False, slots=True)
class Job:
    """A grammar to compile. It is done when ``result`` is, which raises CompilerFailed if it must."""

    client: str
    spec: GrammarSpec
    result: asyncio.Future[Result]
    tries: int = 0


class Pool:
    """Compiles in at most ``limits.children`` processes for as long as :meth:`run` runs."""

    def __init__(self, limits: GrammarLimits) -> None:
        self._limits = limits
        self._turns: Turns[Job] = Turns(limits.compiles_per_client)
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()  # a job came, or a client may have another one
        self._ending: set[asyncio.Task[None]] = set()

    def warm(self) -> None:
        """Start the children now, so that the first grammar does not wait for them."""
        self._wanted.set()

    def enqueue(self, spec: GrammarSpec, client: str) -> Job:
        """A grammar for the next child that is free when it is this client's turn."""
        job = Job(client, spec, asyncio.get_running_loop().create_future())
        self._turns.add(client, job)
        self._wanted.set()
        self._news.set()
        return job

    def withdraw(self, job: Job) -> bool:
        """Nobody wants it any more; whether it was still waiting. What is under way goes on."""
        return self._turns.drop(job.client, job)

    async def run(self) -> None:
        """Keep children alive until cancelled; none is left then."""
        await self._wanted.wait()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._limits.children):
                    group.create_task(self._keep_one())
        finally:
            await asyncio.gather(*self._ending)

    async def _keep_one(self) -> None:
        while True:
            try:
                compiler = await Compiler.start(self._limits)
            except CompilerFailed as error:
                log.error("grammars cannot be compiled", error=str(error))
                self._fail_waiting(error)
                await asyncio.sleep(_RETRY_S)
                continue
            try:
                await self._use(compiler)
            finally:
                ending = asyncio.create_task(compiler.end())
                self._ending.add(ending)
                ending.add_done_callback(self._ending.discard)

    async def _use(self, compiler: Compiler) -> None:
        """Give a child one grammar after the other until it is dead."""
        ended = asyncio.create_task(compiler.ended())
        try:
            while compiler.usable:
                if turn := self._turns.take():
                    await self._compile(compiler, *turn)
                    continue
                self._news.clear()
                news = asyncio.create_task(self._news.wait())
                try:
                    await asyncio.wait((ended, news), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    news.cancel()
        finally:
            ended.cancel()

    async def _compile(self, compiler: Compiler, client: str, job: Job) -> None:
        job.tries += 1
        try:
            job.result.set_result(await compiler.compile(job.spec))
        except CompilerFailed as error:
            log.error("grammar not compiled", error=str(error), tries=job.tries)
            if job.tries < _TRIES:
                self._turns.add(client, job)
            else:
                job.result.set_exception(error)
        except asyncio.CancelledError:
            job.result.cancel()
            raise
        finally:
            self._turns.done(client)
            self._news.set()

    def _fail_waiting(self, error: CompilerFailed) -> None:
        while turn := self._turns.take():
            client, job = turn
            self._turns.done(client)
            job.result.set_exception(error)
