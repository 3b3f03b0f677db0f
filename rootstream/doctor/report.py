"""The report: for people as a table, for machines as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rootstream.doctor import machine, packages, serving
from rootstream.doctor.finding import Finding, State
from rootstream.settings_table import variables
from shared.config import Settings

_MARKS = {State.OK: Text("✓", "green"), State.WARNING: Text("!", "yellow"), State.PROBLEM: Text("✗", "red")}


def run(settings: Settings, url: str | None = None, api_key: str | None = None, *, as_json: bool = False) -> int:
    """Print the report; the exit code is 1 if there is a problem."""
    findings = examine(settings, url, api_key)
    is_well = all(finding.ok for finding in findings)
    if as_json:
        print(json.dumps({"ok": is_well, "findings": [finding._asdict() for finding in findings]}, indent=2))
    else:
        _show(findings)
    return 0 if is_well else 1


def examine(settings: Settings, url: str | None = None, api_key: str | None = None) -> list[Finding]:
    """Everything the report says, in order."""
    return [
        *packages.look(),
        *machine.look(settings.cache_path),
        *serving.look(settings, url, api_key, variables()),
    ]


def _show(findings: Sequence[Finding]) -> None:
    table = Table.grid(padding=(0, 2))
    for _ in range(3):
        table.add_column(overflow="fold")
    for finding in findings:
        text = Text(finding.text)
        if finding.advice:
            text.append(f"\n→ {finding.advice}", "dim")
        table.add_row(_MARKS[finding.state], finding.subject, text)
    console = Console(highlight=False)
    console.print(table)
    counted = {state: sum(finding.state is state for finding in findings) for state in State}
    if counted[State.PROBLEM] or counted[State.WARNING]:
        console.print(f"{counted[State.PROBLEM]} problems, {counted[State.WARNING]} warnings")
