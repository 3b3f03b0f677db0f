"""Two files of results beside each other: what became better, what worse. Pure but for reading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.errors import UserError

_MORE_IS_BETTER = {
    "requests_per_s": "requests/s",
    "tokens_per_s": "tokens/s",
    "goodput": "goodput, requests/s",
    "cache_hit_rate": "cache hits",
}
_LESS_IS_BETTER = {
    "failed": "failed",
    "ttft_p50": "TTFT p50, ms",
    "ttft_p99": "TTFT p99, ms",
    "itl_p50": "ITL p50, ms",
    "itl_p99": "ITL p99, ms",
    "per_token": "ms/token",
    "e2e_p50": "E2E p50, ms",
    "e2e_p99": "E2E p99, ms",
}
_NOISE = 0.03  # less than that says nothing


def read(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """The workloads of a file that `rootstream bench --output` wrote. Raises UserError."""
    try:
        found = json.loads(path.read_text())["workloads"]
        return {str(name): dict(figures) for name, figures in found.items()}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is no result of `rootstream bench --output`") from None


def show(console: Console, before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> None:
    """The workloads that both have. Raises UserError where there are none."""
    common = [name for name in before if name in after]
    if not common:
        raise UserError(f"no workload is in both: {', '.join(before) or 'none'} and {', '.join(after) or 'none'}")
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("workload", "figure"):
        table.add_column(column)
    for column in ("before", "after", "change"):
        table.add_column(column, justify="right")
    for name in common:
        for field, label in {**_MORE_IS_BETTER, **_LESS_IS_BETTER}.items():
            old, new = before[name].get(field), after[name].get(field)
            if isinstance(old, int | float) and isinstance(new, int | float):
                change = _change(field, float(old), float(new))
                table.add_row(name, label, f"{old:,.2f}", f"{new:,.2f}", change)
    console.print(table)


def _change(field: str, old: float, new: float) -> Text:
    if old == new:
        return Text("=", style="dim")
    if old == 0:
        return Text("new", style="red" if field in _LESS_IS_BETTER else "green")
    ratio = new / old - 1
    if abs(ratio) < _NOISE:
        return Text(f"{ratio:+.1%}", style="dim")
    is_better = (ratio > 0) == (field in _MORE_IS_BETTER)
    return Text(f"{ratio:+.1%}", style="green" if is_better else "red")
