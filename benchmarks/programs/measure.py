"""One workload run once in one way, timed and counted. Knows nothing of servers' processes, rounds and tables."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import openai

from benchmarks.programs.counting import Asked, Counted, Hintless
from benchmarks.programs.plain import Plain
from benchmarks.programs.workloads import Workload
from rootstream.lang.backends.server import Server
from rootstream.lang.calls import Usage

_LET_GO_S = 0.3  # a row whose answer is out still holds its pages, which no flush takes


class Run(NamedTuple):
    """All programs of a workload."""

    seconds: float
    latencies: Sequence[float]
    usage: Usage
    calls: int
    requests: Sequence[Asked] = ()
    """Where the server was asked for tokens."""

    @property
    def hit_rate(self) -> float:
        """Of the tokens of all prompts."""
        return self.usage.cached_tokens / max(1, self.usage.prompt_tokens)


async def by_language(workload: Workload, url: str, *, hints: bool = True, tokens: bool = False, seed: int = 0) -> Run:
    """As a user of the language runs it. ``tokens``: gather what the engine was asked, too."""
    counted: Counted | None = None

    def answered(_body: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        if counted is not None and "token_ids" in answer:
            counted.answered(answer)

    server = Server(url, extra={"return_token_ids": True} if tokens else {}, on_answer=answered if tokens else None)
    counted = Counted(server if hints else Hintless(server))
    began = time.perf_counter()
    items = await workload.program.amap(
        workload.items, concurrency=workload.concurrency, backend=counted, warm=hints, seed=seed
    )
    seconds = time.perf_counter() - began
    items.raise_first()
    await server.close()
    return Run(seconds, [item.seconds for item in items], counted.usage, counted.calls, counted.requests())


async def by_plain_client(workload: Workload, url: str, *, seed: int = 0) -> Run:
    """The same questions through the openai package, one string at a time within each program."""
    latencies: list[float] = []
    turn = asyncio.Semaphore(workload.concurrency)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        model = (await client.models.list()).data[0].id
        programs = [Counted(Plain(client, model)) for _ in workload.items]

        async def one(backend: Counted, arguments: Sequence[Any]) -> None:
            async with turn:
                began = time.perf_counter()
                await workload.program.arun(*arguments, backend=backend, seed=seed)
                latencies.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*map(one, programs, workload.items))
        seconds = time.perf_counter() - began
    usage = sum((program.usage for program in programs), Usage())
    return Run(seconds, latencies, usage, sum(program.calls for program in programs))


def flush(url: str) -> None:
    """Empty the cache of a server that has just given its last answer."""
    time.sleep(_LET_GO_S)
    with urllib.request.urlopen(urllib.request.Request(f"{url}/flush_cache", method="POST"), timeout=30):
        pass
