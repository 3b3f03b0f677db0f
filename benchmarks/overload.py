"""More requests than a server can serve: what it still gets done, and how soon it refuses the rest.

    python -m benchmarks.overload                  measures the capacity, then sends 1, 2 and 10 times as much
    python -m benchmarks.overload --seconds 90 -- --max-running 32
    python -m benchmarks.overload --help

Open loop: requests come at a fixed rate, whatever becomes of them; the capacity is measured with a closed one. Words
after `--` go to `rootstream serve`. Goodput: requests served whole per second, after a quarter of the time at the new
rate; the time should be several times what a request is under way, or little of what was begun counts. The client
shares the machine with the server, and the last column says how many cores it took; what a refusal takes is what the
client sees.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import aiohttp
from cyclopts import App, Parameter

from benchmarks.serve import server
from rootstream.bench.run import write

app = App(name="python -m benchmarks.overload", help=__doc__, help_format="plaintext")


class Sent(NamedTuple):
    """What became of one request; times in seconds from the start of its run."""

    status: int
    began: float
    ended: float

    @property
    def ms(self) -> float:
        return 1000 * (self.ended - self.began)


class Outcome(NamedTuple):
    """What became of one rate."""

    load: str
    rate: float  # requests sent per second
    goodput: float  # requests served per second
    refused: int
    refusal_p50_ms: float
    refusal_p99_ms: float
    served_p50_ms: float
    others: int  # neither served nor refused with 429
    client_cores: float = 0.0  # what the client itself took of the machine

    def __str__(self) -> str:
        return (
            f"{self.load:<12} {self.rate:9.1f} {self.goodput:9.2f} {self.refused:8} {self.refusal_p50_ms:11.1f} "
            f"{self.refusal_p99_ms:9.1f} {self.served_p50_ms:11.0f} {self.others:7} {self.client_cores:7.2f}"
        )


_HEADER = "load            sent/s  served/s  refused  429 p50 ms    p99 ms  served p50  others  client"


def percentile(samples: Sequence[float], share: float) -> float:
    """Of any number of samples; 0 for none."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def summed_up(load: str, rate: float, sent: Sequence[Sent], since: float, until: float) -> Outcome:
    """Served and refused within ``[since, until)``."""
    ended = [each for each in sent if since <= each.ended < until]
    statuses = Counter(each.status for each in ended)
    refusals = [each.ms for each in ended if each.status == 429]
    return Outcome(
        load,
        rate,
        statuses[200] / (until - since),
        statuses[429],
        percentile(refusals, 0.5),
        percentile(refusals, 0.99),
        percentile([each.ms for each in ended if each.status == 200], 0.5),
        statuses.total() - statuses[200] - statuses[429],
    )


class Client:
    """Sends requests that all take as much: another prompt each, and so many tokens."""

    def __init__(self, http: aiohttp.ClientSession, prompt_words: int, tokens: int) -> None:
        self._http = http
        self._filler = " river" * prompt_words
        self._params = {"max_new_tokens": tokens, "temperature": 0, "ignore_eos": True}
        self._asked = 0

    async def ask(self, start: float) -> Sent:
        """One request, timed."""
        self._asked += 1
        body: dict[str, Any] = {"text": f"{self._asked}{self._filler}", "sampling_params": self._params}
        began = time.perf_counter()
        try:
            async with self._http.post("/generate", json=body) as response:
                await response.read()
                status = response.status
        except aiohttp.ClientError:
            status = 0
        return Sent(status, began - start, time.perf_counter() - start)

    async def closed(self, at_once: int, seconds: float) -> list[Sent]:
        """So many requests at all times."""
        start, sent = time.perf_counter(), list[Sent]()

        async def one_after_the_other() -> None:
            while time.perf_counter() - start < seconds:
                sent.append(await self.ask(start))

        await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
        return sent

    async def open(self, rate: float, seconds: float) -> list[Sent]:
        """So many requests a second."""
        start, tasks = time.perf_counter(), list[asyncio.Task[Sent]]()
        for turn in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, start + turn / rate - time.perf_counter()))
            tasks.append(asyncio.create_task(self.ask(start)))
        return await asyncio.gather(*tasks)


async def measure(
    url: str, loads: Sequence[float], *, at_once: int, seconds: float, words: int, tokens: int
) -> list[Outcome]:
    """The capacity, then each load in multiples of it."""
    outcomes: list[Outcome] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector, timeout=aiohttp.ClientTimeout()) as http:
        client = Client(http, words, tokens)
        await client.ask(0.0)
        warm = seconds / 4
        print(_HEADER)
        cores, sent = await _timed(client.closed(at_once, seconds))
        capacity = summed_up("closed loop", 0.0, sent, warm, seconds)
        outcomes.append(capacity._replace(rate=capacity.goodput, client_cores=cores))
        print(outcomes[-1])
        for load in loads:
            rate = load * capacity.goodput
            cores, sent = await _timed(client.open(rate, seconds))
            outcomes.append(summed_up(f"{load:g} times", rate, sent, warm, seconds)._replace(client_cores=cores))
            print(outcomes[-1])
    return outcomes


async def _timed(work: Coroutine[Any, Any, list[Sent]]) -> tuple[float, list[Sent]]:
    """How many cores this process kept busy with the work, and what came of it."""
    began, used = time.perf_counter(), time.process_time()
    sent = await work
    return (time.process_time() - used) / (time.perf_counter() - began), sent


@app.default
def main(
    *options: Annotated[str, Parameter(allow_leading_hyphen=True, help="Options of rootstream serve.")],
    loads: tuple[float, ...] = (1, 2, 10),
    seconds: float = 60,
    at_once: Annotated[int, Parameter(help="Requests under way while the capacity is measured.")] = 64,
    max_queue: int = 64,
    prompt_words: int = 32,
    tokens: int = 16,
    output: Path = Path("results/overload.json"),
) -> None:
    """Start a server, overload it, print a table, write JSON."""
    with server(["--max-queue", str(max_queue), *options]) as url:
        outcomes = asyncio.run(measure(url, loads, at_once=at_once, seconds=seconds, words=prompt_words, tokens=tokens))
    peak = max(outcome.goodput for outcome in outcomes) or 1.0
    print(f"\ngoodput at {loads[-1]:g} times the capacity: {outcomes[-1].goodput / peak:.0%} of the peak")
    write(output, {"options": options, "outcomes": [outcome._asdict() for outcome in outcomes]})


if __name__ == "__main__":
    app()
