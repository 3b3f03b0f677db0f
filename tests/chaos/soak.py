"""``python -m tests.chaos.soak``: load, cancels, bombs and kills for a while; nothing may grow. See docs/faults.md."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.table import Table

from tests.chaos.bombs import throw
from tests.chaos.checker import check_connection
from tests.chaos.deployment import KV_MEMORY, deployed
from tests.chaos.faults import REDIS, Fault, Kind
from tests.chaos.reading import Violation, Wrong
from tests.chaos.report import (
    Finding,
    fault_table,
    finding_table,
    print_tables,
    stall_table,
    stream_table,
    wide_console,
)
from tests.chaos.run import Chaos, Options, keep
from tests.chaos.samples import ALLOWED, Samples, What
from tests.chaos.slopes import Trend, grows, trend_of

_EVERY_S = 2.0  # a sample
_BOMB_S = 0.3
_KILL_S = 8.0
_DIE_EARLY = ("worker-0", "scheduler-0", REDIS)  # in the first third: the rest of the time they are watched
_DIE_ALWAYS = ("tokenizer-1", "detokenizer-1")  # the others must not keep anything of theirs
_SHORTEST_LIFE = 0.4  # of the soak: lives shorter than that say nothing


def soak_faults(seed: int, seconds: float) -> Iterator[Fault]:
    """Cancels all the time and a kill now and then, until the time is over."""
    rng = random.Random(f"soak {seed}")
    began = killed = time.monotonic()
    number = 0
    while (now := time.monotonic()) - began < seconds:
        if now - killed > _KILL_S:
            victims = _DIE_ALWAYS if now - began > seconds / 3 else _DIE_ALWAYS + _DIE_EARLY
            yield Fault(number, Kind.KILL, (rng.choice(victims),), delay_s=0.0)
            killed = time.monotonic()
        else:
            yield Fault(number, Kind.CUT, (), rng.uniform(0.5, 2.0), share=rng.uniform(0.05, 0.4))
        number += 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path(".chaos"), help="where histories with violations are left")
    given = parser.parse_args()
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    console = wide_console()
    console.print(f"soak: SEED={seed} MINUTES={given.minutes:g}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, leaving nothing behind
    return asyncio.run(_run(seed, given.minutes * 60, console, given.out / f"soak-{seed}"))


async def _run(seed: int, seconds: float, console: Console, out: Path) -> int:
    def say(line: str) -> None:
        if " cut " not in line:  # of which there are hundreds
            console.print(line, markup=False, highlight=False)

    async with deployed("--kv-memory", KV_MEMORY) as deployment:
        samples = Samples(deployment)
        chaos = Chaos(deployment, Options(seed, soak_faults(seed, seconds)), say)
        statuses: Counter[str] = Counter()
        beside = [asyncio.create_task(_sample(samples)), asyncio.create_task(_bombard(chaos, statuses, seed))]
        try:
            result = await chaos.run()
        finally:
            for task in beside:
                task.cancel()
            for task in beside:
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        table, grown = _growth(samples, seconds)
        findings = [*result.findings, *(Finding(None, violation) for violation in grown)]
        tables = [
            fault_table(result.faults, result.stalls.get("under faults", [])),
            stream_table(result.outcomes),
            stall_table(result.stalls, result.began),
            table,
        ]
        print_tables(console, tables + ([finding_table(findings)] if findings else []))
        bombs = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
        console.print(f"\nbombs: {bombs}", highlight=False)
        if findings:
            keep(result, out)
            samples.keep(out / "samples.jsonl")
            (out / "log").write_bytes(deployment.log.read_bytes())
            console.print(f"{len(findings)} violations; histories, faults, samples and log are in {out}")
            return 1
    console.print("nothing grew, nothing leaked, nothing was lost")
    return 0


async def _sample(samples: Samples) -> None:
    while True:
        await samples.take()
        await asyncio.sleep(_EVERY_S)


async def _bombard(chaos: Chaos, statuses: Counter[str], seed: int) -> None:
    """Bad requests beside the good ones: each is refused, and nobody falls."""
    rng = random.Random(f"bombs {seed}")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        while True:
            bomb, connection = await throw(http, chaos.url, rng)
            statuses[str(connection.status or connection.outcome)] += 1
            if connection.status == 200:
                chaos.found(Violation(Wrong.STATUS, f"the bomb {bomb.name!r} was served"))
            for violation in check_connection(connection, chaos.faults):
                chaos.found(violation)
            await asyncio.sleep(_BOMB_S)


def _growth(samples: Samples, seconds: float) -> tuple[Table, list[Violation]]:
    """What was measured, and what of it grew more than it may."""
    table = Table(title="What the deployment holds", title_justify="left")
    for column in ("", "whose"):
        table.add_column(column, no_wrap=True)
    for column in ("first", "last", "per hour", "may grow", "watched s"):
        table.add_column(column, justify="right")
    grown: list[Violation] = []
    for what, trend in _judged(samples, seconds):
        allowed = ALLOWED[what.group]
        is_bad = grows(trend, allowed)
        style = "bold red" if is_bad else None
        figures = (f"{value:,.1f}" for value in (trend.first, trend.last, trend.per_hour, allowed.of(trend)))
        table.add_row(what.group, what.name, *figures, f"{trend.seconds:.0f}", style=style)
        if is_bad:
            detail = f"{what.group} of {what.name}: {trend.first:.1f} to {trend.last:.1f} in {trend.seconds:.0f} s"
            grown.append(Violation(Wrong.GROWTH, detail))
    return table, grown


def _judged(samples: Samples, seconds: float) -> Iterator[tuple[What, Trend]]:
    for what, points in sorted(samples.series.items()):
        trend = trend_of(points)
        if trend is not None and points[-1].at - points[0].at >= _SHORTEST_LIFE * seconds:
            yield what, trend


if __name__ == "__main__":
    sys.exit(main())
