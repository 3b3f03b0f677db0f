"""Medians of the rounds and ratios against the aims, as one Markdown table. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.peers.aims import AIMS, Aim
from benchmarks.peers.results import Results, Visit
from benchmarks.peers.server import Server

_OURS = "ours"


def table(results: Results, servers: Sequence[Server]) -> str:
    """Every figure of every server that was measured; beside a peer's, what ours is to it, and the aim.

    Ours is the server of ours that computes in the peer's precision, or else the one with default settings.
    """
    measured = [server for server in servers if any(visit.server == server.name for visit in results.visits)]
    rows = [["", *(server.title for server in measured)]]
    rows += [[_line_title(aim), *(_cell(aim, server, measured, results) for server in measured)] for aim in AIMS]
    rows.append(["invalid or failed answers", *(str(_wrong(server, results)) for server in measured)])
    rows.append(["rounds", *(str(_rounds(server, results)) for server in measured)])
    return "\n".join([_row(rows[0]), "|" + "---|" * len(rows[0]), *map(_row, rows[1:])])


def median(aim: Aim, server: str, results: Results) -> float | None:
    """Over all rounds; None where it was never measured."""
    found = [value for visit in results.visits if visit.server == server for value in _values(aim, visit)]
    return statistics.median(found) if found else None


def counterpart(peer: Server, servers: Sequence[Server]) -> Server | None:
    """The server of ours to compare a peer with."""
    ours = [server for server in servers if server.name.startswith(_OURS)]
    alike = [server for server in ours if server.precision is peer.precision and server.name != _OURS]
    return next(iter([*alike, *ours]), None)


def _values(aim: Aim, visit: Visit) -> list[float]:
    value = getattr(visit, aim.field) if aim.workload is None else visit.workloads.get(aim.workload, {}).get(aim.field)
    return [] if value is None else [float(value)]


def _cell(aim: Aim, server: Server, measured: Sequence[Server], results: Results) -> str:
    theirs = median(aim, server.name, results)
    if theirs is None:
        return "–"
    if server.name.startswith(_OURS):
        return _number(theirs)
    against = counterpart(server, measured)
    own = None if against is None else median(aim, against.name, results)
    if own is None or theirs <= 0:
        return _number(theirs)
    ratio = own / theirs
    mark = "" if aim.met(ratio, server.name) else " ✗"
    return f"{_number(theirs)}: **{ratio:.2f}×**{mark} ({aim.better.value} {aim.bound(server.name):g})"


def _line_title(aim: Aim) -> str:
    return f"{aim.title}, {aim.unit}"


def _wrong(server: Server, results: Results) -> int:
    figures = [w for visit in results.visits if visit.server == server.name for w in visit.workloads.values()]
    return sum(int(found.get("invalid", 0)) + int(found.get("failed", 0)) for found in figures)


def _rounds(server: Server, results: Results) -> int:
    return len({visit.round for visit in results.visits if visit.server == server.name and visit.workloads})


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
