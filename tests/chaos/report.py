"""What a person reads of a chaos run: one line per fault as it happens, and the tables at the end."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from tests.chaos.faults import Fault
from tests.chaos.history import Injected, Outage, Stream
from tests.chaos.reading import Violation
from tests.chaos.stalls import Stall

_WIDTH = 110


class Finding(NamedTuple):
    """A violation, and the stream in which it was seen (None: it concerns the deployment)."""

    stream: Stream | None
    violation: Violation


def line_of(fault: Fault, injected: Injected, streams: int, violations: int, began: float) -> str:
    """One fault, when everything is back or the next one may come."""
    what = f"{fault.kind} {_short(injected.targets)}" + (f" for {fault.hold_s:.1f} s" if fault.hold_s else "")
    shown = f"[{injected.at - began:6.1f} s] {fault.number + 1:3d}  {what:<58} {_back(injected.outages):<12}"
    return f"{shown} {streams:5d} streams" + (f"  {violations} VIOLATIONS" if violations else "")


def _short(targets: Sequence[str]) -> str:
    return ", ".join(targets) if len(targets) <= 3 else f"{len(targets)} processes"


def _back(outages: Sequence[Outage]) -> str:
    seconds = [outage.until - outage.since for outage in outages if outage.until is not None]
    if len(seconds) < len(outages):
        return "more to come"
    return f"back {max(seconds):4.1f} s" if seconds else ""


def fault_table(done: Sequence[Injected], stalls: Sequence[Stall]) -> Table:
    """How many of each kind, how long the victims were away, and the longest stall that a fault fell into."""
    table = Table(title="Faults", title_justify="left")
    for column in ("fault", "victim"):
        table.add_column(column)
    for column in ("times", "away s, median", "longest", "started after s, median", "longest", "stall ms"):
        table.add_column(column, justify="right")
    victims: dict[tuple[str, str], list[Outage]] = {}
    stalled: dict[tuple[str, str], float] = {}
    for injected in done:
        longest = max((s.seconds for s in stalls if s.span.since <= injected.at <= s.span.until), default=0.0)
        for outage in injected.outages:
            key = (injected.kind, outage.member)
            victims.setdefault(key, []).append(outage)
            stalled[key] = max(stalled.get(key, 0.0), longest)
    for (kind, victim), outages in sorted(victims.items()):
        away = [outage.until - outage.since for outage in outages if outage.until is not None]
        started = [outage.started - outage.since for outage in outages if outage.started is not None]
        table.add_row(
            kind, victim, str(len(outages)), *_spread(away), *_spread(started), f"{1000 * stalled[kind, victim]:,.0f}"
        )
    for kind, times in sorted(Counter(injected.kind for injected in done if not injected.outages).items()):
        table.add_row(kind, "", str(times))
    return table


def _spread(seconds: Sequence[float]) -> tuple[str, str]:
    return (f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}") if seconds else ("", "")


def stream_table(outcomes: Counter[tuple[str, str]]) -> Table:
    """What became of the streams, by kind of request."""
    ends = sorted({end for _, end in outcomes})
    table = Table(title="Streams", title_justify="left")
    table.add_column("request")
    for end in ends:
        table.add_column(end, justify="right")
    for kind in sorted({kind for kind, _ in outcomes}):
        table.add_row(kind, *(str(outcomes[kind, end] or "") for end in ends))
    return table


def stall_table(parts: Mapping[str, Sequence[Stall]], began: float) -> Table:
    """The longest stall of each stream, beyond the time in which somebody was starting or frozen."""
    table = Table(title="Longest stall of a stream, beyond the starts of processes", title_justify="left")
    table.add_column("run")
    for column in ("streams", "median ms", "99% ms", "max ms"):
        table.add_column(column, justify="right")
    table.add_column("the longest")
    for name, stalls in parts.items():
        if not stalls:
            continue
        ordered = sorted(stalls)
        worst = ordered[-1]
        high = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        median = statistics.median(stall.seconds for stall in stalls)
        shown = (f"{1000 * seconds:,.0f}" for seconds in (median, high.seconds, worst.seconds))
        since, until = (at - began for at in worst.span)
        table.add_row(name, str(len(stalls)), *shown, f"stream {worst.stream}, {since:.1f} s to {until:.1f} s")
    return table


def finding_table(findings: Sequence[Finding], shown: int = 30) -> Table:
    """What must not be."""
    table = Table(title=f"Violations: {len(findings)}", title_justify="left", title_style="bold red", show_lines=True)
    for column in ("kind", "stream", "what"):
        table.add_column(column, overflow="fold")
    for finding in findings[:shown]:
        stream = "" if finding.stream is None else f"{finding.stream.number}\n{finding.stream.ask}"
        table.add_row(str(finding.violation.wrong), stream, finding.violation.detail)
    return table


def wide_console() -> Console:
    """Tables whole, also where the output goes to a file."""
    console = Console(soft_wrap=True)
    console.width = max(console.width, _WIDTH)
    return console


def print_tables(console: Console, tables: Sequence[Table]) -> None:
    for table in tables:
        console.print()
        console.print(table)
