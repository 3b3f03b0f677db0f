"""Everything that is worth knowing of a GPU in one table: kernels, decode steps, prefill, the server.

    python -m benchmarks.gpu                      on the CUDA device
    python -m benchmarks.gpu --device cpu --tiny  tries the benchmark itself; its figures mean nothing

Weights are random, so no model is needed. Writes results/gpu.json. The exit code is 1 if a section failed, ended early
or was left out for want of time. Whether aims are met it only tells.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import aims, rows
from benchmarks.gpu.isolation import Outcome, run
from benchmarks.gpu.options import Options
from benchmarks.gpu.sections import sections
from benchmarks.gpu.sections.device import roof_of
from benchmarks.gpu.sizes import FULL, SMALL
from benchmarks.gpu.tokenizer import tokenizer_directory
from rootstream.bench.run import write

_LEAST_S = 15.0  # no section gets anywhere in less


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a toy model and a moment for each case")
    parser.add_argument("--only", action="append", default=[], metavar="SECTION", help="may be given several times")
    parser.add_argument("--seconds", type=float, default=420.0, help="for everything; what is left then is left out")
    parser.add_argument("--tokenizer", type=Path, help="a directory with tokenizer.json; the packaged one by default")
    parser.add_argument("--output", type=Path, default=Path("results/gpu.json"))
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch finds no CUDA device here: nothing is measured")
    sizes = SMALL if arguments.tiny else FULL
    with tempfile.TemporaryDirectory(prefix="rootstream-gpu-") as scratch:
        tokenizer = tokenizer_directory(arguments.tokenizer)
        options = Options(arguments.device, sizes, str(tokenizer), scratch)
        outcomes = _run(options, arguments.only, arguments.seconds)
    sys.exit(_report(arguments.device, outcomes, arguments.output))


def _run(options: Options, only: list[str], seconds: float) -> dict[str, Outcome]:
    chosen = [section for section in sections(options.sizes) if not only or section.name in only]
    if not chosen:
        sys.exit(f"no such section; there are {', '.join(section.name for section in sections(options.sizes))}")
    end = time.monotonic() + seconds
    outcomes: dict[str, Outcome] = {}
    for section in chosen:
        left = min(section.limit_s, end - time.monotonic())
        print(f"{section.name} …", flush=True)
        outcomes[section.name] = (
            run(section.name, options, left) if left > _LEAST_S else Outcome([], "no time was left")
        )
        if outcomes[section.name].error:
            print(f"{section.name}: {outcomes[section.name].error}", flush=True)
    return outcomes


def _report(device: str, outcomes: dict[str, Outcome], output: Path) -> int:
    found = [row for outcome in outcomes.values() for row in outcome.rows]
    roof = roof_of(found)
    judged = rows.judged(found, roof)
    verdicts = aims.verdicts(judged)
    errors = {name: outcome.error for name, outcome in outcomes.items() if outcome.error}
    print(f"\n{_name(device)}, torch {torch.__version__}")
    rows.print_table(judged)
    print("\naims")
    for verdict in verdicts:
        print(f"  {aims.describe(verdict)}")
    for name, error in errors.items():
        print(f"  failed        {name}: {error.splitlines()[-1]}")
    report: dict[str, Any] = {
        "device": _name(device),
        "torch": torch.__version__,
        "rows": rows.as_json(judged),
        "aims": aims.as_json(verdicts),
        "errors": errors,
        "seconds": {name: round(outcome.seconds, 1) for name, outcome in outcomes.items()},
    }
    write(output, report)
    print(f"\nwritten to {output}")
    return 1 if errors else 0


def _name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "CPU"


if __name__ == "__main__":
    main()
