"""The whole server with random weights: tokens per second, the host's gap between steps, what grammars and sharing do.

Requests are not streamed, so that a single client keeps up: the server does the same work but for writing events.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.gpu.options import Emit, Options
from benchmarks.gpu.rows import Row
from benchmarks.gpu.sizes import Sizes
from benchmarks.serve import server
from rootstream.client import Client
from shared.shapes import lay_out

Body = dict[str, Any]

_ENDLESS = r"([a-z]{1,8} [0-9]{1,4}\n)*"
_PULSE_S = 1.5  # metrics travel with a pulse every second
_TURNS = 3
_GRAPH_S = 40  # of capturing steps at the start, at most


class Counters(NamedTuple):
    """What the worker has done so far."""

    steps: float
    gap_s: float


def measure(options: Options, emit: Emit, *, shape: str, thorough: bool) -> None:
    """``thorough``: grammars and the prefix that many share too, and a second server without the radix cache."""
    directory = lay_out(options.sizes.shapes[shape], Path(options.tokenizer), options.scratch_path / "shapes" / shape)
    words = [str(directory), "--load-format", "dummy", "--device", options.device]
    words += ["--kv-memory", "64MiB"] if options.device == "cpu" else ["--graph-seconds", str(_GRAPH_S)]
    begin = time.perf_counter()
    with server(words) as url:
        emit(Row(f"server/{shape}/start", time.perf_counter() - begin))
        asyncio.run(_measure(url, options.sizes, emit, shape, thorough))
    if thorough:
        with server([*words, "--no-radix-cache"]) as url:
            asyncio.run(_shared(url, options.sizes, emit, f"server/{shape}/shared prefix, no radix cache", shape))


async def _measure(url: str, sizes: Sizes, emit: Emit, shape: str, thorough: bool) -> None:
    async with Client(url) as client:
        await _all(client, _bodies(random.Random(0), sizes, shape, max(sizes.streams)))
        for streams in sizes.streams:
            bodies = _bodies(random.Random(streams), sizes, shape, streams)
            before = await _counters(client)
            tokens, seconds = await _all(client, bodies)
            after = await _counters(client)
            emit(Row(f"server/{shape}/{streams} at once", tokens / seconds, "tokens/s"))
            if after.steps > before.steps:
                gap = (after.gap_s - before.gap_s) / (after.steps - before.steps)
                emit(Row(f"server/{shape}/gap, {streams} rows", gap, note="of the device, as the worker counts it"))
        if thorough:
            await _constrained(client, sizes, emit, shape)
    if thorough:
        await _shared(url, sizes, emit, f"server/{shape}/shared prefix", shape)


async def _constrained(client: Client, sizes: Sizes, emit: Emit, shape: str) -> None:
    """Rows that obey a grammar without jumping over what it forces, against free ones, in turns."""
    rows = sizes.streams[len(sizes.streams) // 2]
    wishes: dict[str, Body] = {"free": {}, "constrained": {"regex": _ENDLESS, "jump_forward": False}}
    rates: dict[str, list[float]] = {name: [] for name in wishes}
    for turn in range(_TURNS + 1):  # the first one warms up
        for name, wish in wishes.items():
            bodies = _bodies(random.Random(f"{turn} {name}"), sizes, shape, rows, answer=2 * sizes.answer)
            tokens, seconds = await _all(client, [body | wish for body in bodies])
            if turn:
                rates[name].append(tokens / seconds)
    for name, found in rates.items():
        emit(Row(f"server/{shape}/{name}, {rows} at once", statistics.median(found), "tokens/s"))
    ratios = [free / held for free, held in zip(rates["free"], rates["constrained"], strict=True)]
    emit(Row(f"server/{shape}/constrained over free", statistics.median(ratios), "x", note=f"{_TURNS} turns, median"))


async def _shared(url: str, sizes: Sizes, emit: Emit, key: str, shape: str) -> None:
    """As many requests as the largest degree of sharing, all with one prefix, half the context long."""
    rng, rows = random.Random(1), max(sizes.degrees)
    prefix = _ids(rng, shape, sizes, sizes.prefix // 2)
    async with Client(url) as client:
        model = await client.first_model()
        await client.post("/v1/completions", _body(model, prefix, 1))
        bodies = [_body(model, prefix + _ids(rng, shape, sizes, 16), sizes.answer) for _ in range(rows)]
        tokens, seconds = await _all(client, bodies)
    emit(Row(key, tokens / seconds, "tokens/s", note=f"{rows} requests after {len(prefix)} common tokens"))


def _bodies(rng: random.Random, sizes: Sizes, shape: str, count: int, answer: int | None = None) -> list[Body]:
    return [_body(shape, _ids(rng, shape, sizes, sizes.prompt), answer or sizes.answer) for _ in range(count)]


def _body(model: str, prompt: list[int], answer: int) -> Body:
    return {"model": model, "prompt": prompt, "max_tokens": answer, "temperature": 0, "ignore_eos": True}


def _ids(rng: random.Random, shape: str, sizes: Sizes, count: int) -> list[int]:
    return [rng.randrange(64, sizes.shapes[shape]["vocab_size"]) for _ in range(count)]


async def _all(client: Client, bodies: Sequence[Body]) -> tuple[int, float]:
    """Generated tokens of all requests sent at once, and the seconds until the last is answered."""
    begin = time.perf_counter()
    answers = await asyncio.gather(*(client.post("/v1/completions", body) for body in bodies))
    return sum(answer["usage"]["completion_tokens"] for answer in answers), time.perf_counter() - begin


async def _counters(client: Client) -> Counters:
    await asyncio.sleep(_PULSE_S)
    totals = {"rootstream_worker_steps": 0.0, "rootstream_worker_gap_seconds": 0.0}
    for family in text_string_to_metric_families(await client.get_text("/metrics")):
        if family.name in totals:
            totals[family.name] += sum(sample.value for sample in family.samples if sample.name.endswith("_total"))
    return Counters(*totals.values())
