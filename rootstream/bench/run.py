"""Measures a server with workloads: prints a table, writes JSON, compares with an earlier result."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from rootstream.bench import compare, datasets, workloads
from rootstream.bench.figures import Figures, summarize
from rootstream.bench.load import poisson, send
from rootstream.bench.probe import Asked, probe
from rootstream.bench.slo import ANY, Slo
from rootstream.bench.workloads import Workload
from rootstream.client import Client, NoServer, Refused, explained
from shared.errors import UserError

_TABLE_WIDTH = 150  # all columns without a break
_VOCAB_SIZE = 30000  # where the server does not tell: ids that every common vocabulary has
_CONCURRENCY = 8
_REQUESTS = 32
_WARM_UP_SEED = -1  # prompts that no measured one is like


class Plan(NamedTuple):
    """What to measure, and how hard to push."""

    names: Sequence[str] = ()  # workloads; all by default
    dataset: Path | None = None  # requests from a file instead
    shape: datasets.Shape | None = None  # or by measure
    requests: int | None = None
    max_tokens: int | None = None
    concurrency: int | None = None
    rate: float | None = None  # requests a second; as fast as the concurrency lets them by default
    warm_up: int = 1  # requests before each workload that do not count
    slo: Slo = ANY
    seed: int = 0
    model: str | None = None


def against(
    url: str, plan: Plan, *, output: Path | None = None, baseline: Path | None = None, api_key: str | None = None
) -> int:
    """Measure a running server; the exit code is 1 if a request failed. Raises UserError if there is none."""
    before = None if baseline is None else compare.read(baseline)
    try:
        results = asyncio.run(measure(url, plan, api_key))
    except NoServer as error:
        raise UserError(f"{url} cannot be measured: {error}") from error
    except Refused as error:
        raise UserError(f"{url} cannot be measured: {explained(error)}") from error
    if output is not None:
        asked = {key: value for key, value in plan._asdict().items() if value not in (None, ()) and key != "slo"}
        bounds = {name: bound for name, bound in plan.slo._asdict().items() if bound is not None}
        write(output, {"url": url, **_plain(asked), "slo": bounds, "workloads": as_json(results)})
    if before is not None:
        compare.show(_console(), before, as_json(results))
    return 1 if any(figures.failed for figures in results.values()) else 0


def compared(before: Path, after: Path) -> int:
    """Show two files of results beside each other. Raises UserError where one is none."""
    compare.show(_console(), compare.read(before), compare.read(after))
    return 0


async def measure(url: str, plan: Plan, api_key: str | None = None) -> dict[str, Figures]:
    """Run workloads one after the other, each on an empty cache where the server can flush it."""
    console = _console()
    results: dict[str, Figures] = {}
    async with Client(url, api_key) as client:
        model = plan.model or await client.first_model()
        asked = await probe(client, model)
        vocab_size = await _vocab_size(client)
        for workload, warm_up in zip(_workloads(plan, vocab_size), _warm_ups(plan, vocab_size), strict=True):
            await send(client, model, _fitting(warm_up, asked), asked.dialect)
            flushed = await _flush(client)
            note = "" if flushed else " (it cannot be told to flush: the cache is as it is)"
            console.print(f"[dim]{workload.name} …{note}[/dim]")
            departures: Iterable[float] = () if plan.rate is None else poisson(plan.rate, plan.seed)
            timelines = await send(client, model, _fitting(workload, asked), asked.dialect, departures)
            results[workload.name] = summarize(timelines, plan.slo)
            for error in {timeline.error for timeline in timelines if timeline.error is not None}:
                console.print(f"  failed: {error}", markup=False)
    show(console, results, plan.slo)
    return results


def _workloads(plan: Plan, vocab_size: int, seed: int | None = None) -> list[Workload]:
    """What a plan is about."""
    seed = plan.seed if seed is None else seed
    concurrency = plan.concurrency or (2**20 if plan.rate is not None else _CONCURRENCY)
    if plan.dataset is not None:
        return [
            datasets.from_file(plan.dataset, plan.requests, plan.max_tokens, seed=plan.seed, concurrency=concurrency)
        ]
    if plan.shape is not None:
        count = plan.requests or _REQUESTS
        most = plan.max_tokens or 64
        return [datasets.synthetic(plan.shape, count, most, seed=seed, vocab_size=vocab_size, concurrency=concurrency)]
    made = [workloads.make(name, seed=seed, vocab_size=vocab_size) for name in plan.names or workloads.names()]
    return [
        workload._replace(
            requests=[
                request if plan.max_tokens is None else request._replace(max_tokens=plan.max_tokens)
                for request in workload.requests[: plan.requests]
            ],
            concurrency=concurrency if plan.concurrency or plan.rate is not None else workload.concurrency,
        )
        for workload in made
    ]


def _warm_ups(plan: Plan, vocab_size: int) -> list[Workload]:
    """A few requests of the same kinds; of a file, its first ones."""
    like = _workloads(plan, vocab_size, _WARM_UP_SEED)
    return [workload._replace(requests=workload.requests[: plan.warm_up]) for workload in like]


def _fitting(workload: Workload, asked: Asked) -> Workload:
    """In the form that the server understands."""
    if not asked.has_completions:
        return workloads.as_chats(workload)
    return workload if asked.takes_ids else workloads.worded(workload)


def show(console: Console, results: Mapping[str, Figures], slo: Slo = ANY) -> None:
    """The table for people."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("workload")
    columns = ["requests/s", "tokens/s", "TTFT p50", "p99", "ITL p50", "p99", "E2E p50", "p99", "ms/token"]
    for column in (*columns, "cache hits", "failed", *(["goodput"] * (slo != ANY))):
        table.add_column(column, justify="right")
    for name, figures in results.items():
        table.add_row(
            name,
            f"{figures.requests_per_s:.2f}",
            f"{figures.tokens_per_s:.1f}",
            f"{figures.ttft_p50:.0f} ms",
            f"{figures.ttft_p99:.0f} ms",
            f"{figures.itl_p50:.1f} ms",
            f"{figures.itl_p99:.1f} ms",
            f"{figures.e2e_p50:.0f} ms",
            f"{figures.e2e_p99:.0f} ms",
            f"{figures.per_token:.2f}",
            f"{figures.cache_hit_rate:.1%}",
            str(figures.failed),
            *([f"{figures.goodput:.2f}/s"] * (slo != ANY)),
        )
    console.print(table)


def as_json(results: Mapping[str, Figures]) -> dict[str, Any]:
    """Figures as plain values, rounded to what is meaningful; what was not measured is null."""
    return {
        name: {field: (None if value != value else round(value, 4)) for field, value in figures._asdict().items()}
        for name, figures in results.items()
    }


def write(path: Path, report: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stamped = {"measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **report}
    path.write_text(json.dumps(stamped, indent=2) + "\n")


def _console() -> Console:
    return Console(highlight=False, width=max(Console().width, _TABLE_WIDTH))


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value._asdict() if isinstance(value, datasets.Shape) else str(value) if isinstance(value, Path) else value
        for name, value in values.items()
    }


async def _flush(client: Client) -> bool:
    """Whether the server has emptied its cache; each engine has its own name for that."""
    for path in ("/flush_cache", "/reset_prefix_cache"):
        try:
            await client.post(path, {})
        except Refused as refused:
            if refused.status >= 400:
                continue
        return True  # some answer with nothing, or with words
    return False


async def _vocab_size(client: Client) -> int:
    """What our own servers tell at /server_info; a safe bound elsewhere."""
    try:
        info = await client.get("/server_info")
    except Refused:
        return _VOCAB_SIZE
    return int(_found(info, "vocab_size") or _VOCAB_SIZE)


def _found(value: Any, key: str) -> Any:
    """The first value under ``key``, however deep."""
    if isinstance(value, dict):
        if key in value:
            return value[key]
        return next((found for item in value.values() if (found := _found(item, key)) is not None), None)
    return None
