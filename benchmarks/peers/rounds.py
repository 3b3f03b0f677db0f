"""Rounds over servers, one running at a time; what is in the file already is not measured again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.peers import results as store
from benchmarks.peers.load import Load
from benchmarks.peers.memory import PeakMemory
from benchmarks.peers.results import Results, Visit
from benchmarks.peers.server import Server, running
from shared.errors import UserError

_START_S = 400.0  # the first start of all compiles


def measure(
    wanted: Sequence[tuple[Server, list[str]]],
    rounds: int,
    results: Results,
    path: Path,
    until: float,
    say: Callable[[str], None],
) -> None:
    """Measure what is missing, as far as one gets until ``until``. A server that fails is told of and passed over."""
    for round in range(rounds):
        for server, workloads in wanted:
            missing = results.missing(round, server.name, workloads)
            if missing and time.monotonic() < until:
                say(f"round {round + 1} of {rounds}: {server.name}: {', '.join(missing)}")
                _visit(server, missing, round, results, path, until, say)


def _visit(
    server: Server,
    workloads: list[str],
    round: int,
    results: Results,
    path: Path,
    until: float,
    say: Callable[[str], None],
) -> None:
    visit = Visit(
        round=round,
        server=server.name,
        began=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        load_before=round_2(os.getloadavg()[0]),
    )
    results.visits.append(visit)
    try:
        with running(server, _START_S) as at, PeakMemory(at.pid) as memory:
            visit.ready_s = round_2(at.ready_s)
            load = Load(server, at, seed=results.seed + round, scale=results.scale)
            visit.texts = load.greedy_texts()
            for name in workloads:
                if time.monotonic() > until:
                    break
                try:
                    visit.workloads[name] = load.measured(name)
                except UserError as error:
                    visit.errors[name] = str(error)
                    say(f"  {name}: {error}")
                visit.peak_pss_mib = round_2(memory.peak_bytes / 2**20)
                store.write(path, results)
    except UserError as error:
        visit.errors["start"] = str(error)
        say(f"  {error}")
    store.write(path, results)


def round_2(value: float) -> float:
    return float(f"{value:.2f}")
