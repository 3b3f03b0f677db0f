"""Measures a server with named workloads: prints a table, writes JSON."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rootstream.bench import workloads
from rootstream.bench.figures import Figures, summarize
from rootstream.bench.load import send
from rootstream.client import Client, NoServer, Refused, explained
from shared.errors import UserError

_TABLE_WIDTH = 110
_VOCAB_SIZE = 30000  # where the server does not tell: ids that every common vocabulary has


def against(url: str, names: Sequence[str], *, seed: int, output: Path | None, api_key: str | None = None) -> int:
    """Measure a running server; the exit code is 1 if a request failed. Raises UserError if there is none."""
    try:
        results = asyncio.run(measure(url, names or workloads.names(), seed=seed, api_key=api_key))
    except NoServer as error:
        raise UserError(f"{url} cannot be measured: {error}") from error
    except Refused as error:
        raise UserError(f"{url} cannot be measured: {explained(error)}") from error
    if output is not None:
        write(output, {"url": url, "seed": seed, "workloads": as_json(results)})
    return 1 if any(figures.failed for figures in results.values()) else 0


async def measure(url: str, names: Sequence[str], *, seed: int, api_key: str | None = None) -> dict[str, Figures]:
    """Run workloads one after the other, each on an empty cache where the server can flush it."""
    console = Console(highlight=False, width=max(Console().width, _TABLE_WIDTH))
    results: dict[str, Figures] = {}
    async with Client(url, api_key) as client:
        model = await client.first_model()
        vocab_size = await _vocab_size(client)
        await client.post("/v1/completions", {"model": model, "prompt": "Hello", "max_tokens": 8})
        for name in names:
            flushed = await _flush(client)
            console.print(f"[dim]{name} …{'' if flushed else ' (no /flush_cache here: the cache is as it is)'}[/dim]")
            timelines = await send(client, model, workloads.make(name, seed=seed, vocab_size=vocab_size))
            results[name] = summarize(timelines)
            for error in {timeline.error for timeline in timelines if timeline.error is not None}:
                console.print(f"  failed: {error}", markup=False)
    show(console, results)
    return results


def show(console: Console, results: Mapping[str, Figures]) -> None:
    """The table for people."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("workload")
    for column in ("requests/s", "tokens/s", "TTFT p50", "p99", "ITL p50", "p99", "ms/token", "cache hits", "failed"):
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
            f"{figures.per_token:.2f}",
            f"{figures.cache_hit_rate:.1%}",
            str(figures.failed),
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


async def _flush(client: Client) -> bool:
    try:
        await client.post("/flush_cache", {})
    except Refused:
        return False
    return True


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
