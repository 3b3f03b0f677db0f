"""``python -m benchmarks.growth``: measures parts, writes them into one file, draws it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from benchmarks.growth import core, whole
from benchmarks.growth.charts import charts
from benchmarks.growth.svg import draw
from benchmarks.peers.versions import machine
from rootstream.bench.run import write
from shared.errors import UserError

app = App(name="python -m benchmarks.growth", help="Cost as work grows.", help_format="plaintext")
_RESULTS = Path("results/growth.json")


@app.default
def main(
    *,
    parts: Annotated[
        str, Parameter(help="Of scheduler, tree, path, worker; with commas.")
    ] = "scheduler,tree,path,worker",
    count: Annotated[int, Parameter(help="Rounds, and requests, of each measure.")] = 400,
    plots: Annotated[Path | None, Parameter(help="Only draw what the file holds, into this folder.")] = None,
    output: Path = _RESULTS,
) -> None:
    """Parts that are not measured keep what the file has of them. A few minutes on two cores."""
    report: dict[str, Any] = json.loads(output.read_text()) if output.exists() else {}
    if plots is not None:
        if not report:
            raise UserError(f"{output} holds nothing to draw: measure first")
        plots.mkdir(parents=True, exist_ok=True)
        for name, chart in charts(report).items():
            (plots / f"{name}.svg").write_text(draw(chart))
        return
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "scheduler": lambda: core.scheduler(count),
        "tree": core.tree,
        "path": lambda: whole.path(count),
        "worker": lambda: whole.worker(64),
    }
    for part in parts.split(","):
        if part not in measures:
            raise UserError(f"--parts: there is no {part!r}; there are {', '.join(measures)}")
        print(f"{part} …", flush=True)
        report |= {"machine": machine(), part: measures[part]()}
        report.pop("measured", None)
        write(output, report)
        print(json.dumps(report[part], indent=1), flush=True)


app()
