"""The programs of examples/programs on the packaged model: what the cache, the hints and the language are worth.

    .venv/bin/python -m benchmarks.programs [--rounds 3] [--ways WAY …] [names] [options of rootstream serve]

Four ways in turns, each on an empty cache: the language; the language without hints (no groups, nothing warmed or
released); the language on a server with --no-radix-cache; and the plain openai client, which asks the same questions
one string at a time, with as many programs at once. A first round, which does not count, warms the servers and takes
down the tokens of each request: from them comes what an unlimited cache would have hit.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.programs import workloads
from benchmarks.programs.measure import Run, by_language, by_plain_client, flush
from benchmarks.programs.oracle import best_hits
from benchmarks.programs.table import Row, Way, row, table
from benchmarks.programs.workloads import Workload
from benchmarks.serve import server
from rootstream.bench.run import write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("results/programs.json"))
    parser.add_argument("--ways", nargs="+", type=Way, choices=list(Way), default=list(Way))
    options, words = parser.parse_known_args()
    names = [word for word in words if word in workloads.names()] or workloads.names()
    serve_options = [word for word in words if word not in workloads.names()]
    ways = [Way.LANGUAGE, *(way for way in options.ways if way is not Way.LANGUAGE)]
    with server(serve_options) as url, server([*serve_options, "--no-radix-cache"]) as cacheless:
        rows = [
            measure(workloads.make(name, options.seed), ways, options.rounds, url=url, cacheless=cacheless)
            for name in names
        ]
    print(f"\n{table(rows)}")
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    write(options.output, {"machine": machine, "options": serve_options, "programs": [as_json(row) for row in rows]})
    print(f"written to {options.output}")


def measure(workload: Workload, ways: Sequence[Way], rounds: int, *, url: str, cacheless: str) -> Row:
    """All rounds of one workload."""
    began = time.perf_counter()
    first = run(workload, Way.LANGUAGE, url=url, cacheless=cacheless, tokens=True)
    best = best_hit_rate(first)
    runs: dict[Way, list[Run]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            runs[way].append(run(workload, way, url=url, cacheless=cacheless))
    found = row(workload.name, runs, best, prefix_heavy=workload.prefix_heavy, forking=workload.forking)
    print(f"{workload.name}: {time.perf_counter() - began:.0f} s, {first.calls} calls", file=sys.stderr)
    return found


def run(workload: Workload, way: Way, *, url: str, cacheless: str, tokens: bool = False) -> Run:
    """Once, on an empty cache."""
    flush(url)
    match way:
        case Way.LANGUAGE:
            return asyncio.run(by_language(workload, url, tokens=tokens))
        case Way.NO_HINTS:
            return asyncio.run(by_language(workload, url, hints=False))
        case Way.NO_CACHE:
            return asyncio.run(by_language(workload, cacheless))
        case Way.PLAIN:
            return asyncio.run(by_plain_client(workload, url))


def best_hit_rate(run: Run) -> float | None:
    """Of the prompts of a run, whose tokens are known."""
    prompts = sum(len(request.prompt) for request in run.requests)
    return best_hits(run.requests) / prompts if prompts else None


def as_json(row: Row) -> Mapping[str, Any]:
    return row._asdict() | {"of_the_best": row.of_the_best}


if __name__ == "__main__":
    main()
