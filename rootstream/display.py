"""What the launcher shows: the state of each process while they start, their log lines, the banner.

On a terminal a live table, otherwise plain lines, one for each change; JSON lines where machines
read. Knows nothing of processes beyond their names.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from rootstream import log_lines

_LEVEL_STYLES = {"debug": "dim", "info": "dim", "warning": "yellow", "error": "red", "critical": "red"}


class Status(NamedTuple):
    """One row of the table: a process, whether it is ready, and what it is doing."""

    name: str
    ready: bool
    detail: str


class Display(Protocol):
    """Everything the launcher says."""

    def starting(self, statuses: Sequence[Status]) -> None:
        """The state of all processes, called as often as one likes while they start."""
        ...

    def started(self) -> None:
        """No more of that: all are ready, or it is over."""
        ...

    def log(self, process: str, line: str) -> None:
        """A line that a process printed."""
        ...

    def say(self, text: str) -> None:
        """Something the launcher itself has to tell."""
        ...


def display(*, machines: bool) -> Display:
    """A display for stderr; ``machines`` asks for JSON lines."""
    console = Console(stderr=True, highlight=False)
    if machines:
        return JsonDisplay(console)
    return TerminalDisplay(console) if console.is_terminal else PlainDisplay(console)


class PlainDisplay:
    """One line for each change; nothing moves."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: dict[str, Status] = {}
        self._began = time.monotonic()

    def starting(self, statuses: Sequence[Status]) -> None:
        for status in statuses:
            if status != self._last.get(status.name):
                self._last[status.name] = status
                detail = "ready" if status.ready else status.detail
                self.say(f"[{time.monotonic() - self._began:5.1f} s] {status.name}: {detail}")

    def started(self) -> None:
        self._last.clear()

    def log(self, process: str, line: str) -> None:
        self.say(f"{_clock()} {process}: {log_lines.read(line).text}")

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


class JsonDisplay(PlainDisplay):
    """The same as JSON lines; those of the processes as they are."""

    def log(self, process: str, line: str) -> None:
        if log_lines.read(line).level:
            super().say(line)
        else:
            self._write({"replica": process, "event": line})

    def say(self, text: str) -> None:
        self._write({"role": "launcher", "event": text})

    def _write(self, fields: dict[str, str]) -> None:
        super().say(json.dumps({**fields, "timestamp": _clock()}, ensure_ascii=False))


class TerminalDisplay:
    """A live table while processes start; log lines scroll above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._spinners: dict[str, Spinner] = {}
        self._since: dict[str, float] = {}
        self._began = time.monotonic()

    def starting(self, statuses: Sequence[Status]) -> None:
        now = time.monotonic()
        table = Table.grid(padding=(0, 2))
        for status in statuses:
            if status.ready:
                mark, seconds = Text("✓", style="green"), self._since.setdefault(status.name, now - self._began)
            else:
                mark = self._spinners.setdefault(status.name, Spinner("dots", style="cyan"))
                seconds = now - self._began
                self._since.pop(status.name, None)
            detail = Text("ready", style="green") if status.ready else Text(status.detail)
            table.add_row(mark, status.name, detail, Text(f"{seconds:.0f} s", style="dim"))
        if self._live is None:
            self._live = Live(console=self._console, transient=True, refresh_per_second=10)
            self._live.start()
        self._live.update(table)

    def started(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def log(self, process: str, line: str) -> None:
        level, text = log_lines.read(line)
        self._console.print(
            Text.assemble((f"{_clock()} ", "dim"), (f"{process:15} ", "cyan"), (text, _LEVEL_STYLES.get(level, "dim"))),
            soft_wrap=True,
        )

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


def _clock() -> str:
    return time.strftime("%H:%M:%S")
