"""A section in a process group of its own: bounded in time, and a crash costs nobody else the device's context."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.gpu.options import Options
from benchmarks.gpu.rows import Row

_GRACE_S = 5.0
_SHOWN = 1500  # characters of an error's end


class Outcome(NamedTuple):
    """What a section found, and what ended it early."""

    rows: list[Row]
    error: str = ""
    seconds: float = 0.0


def run(name: str, options: Options, limit_s: float) -> Outcome:
    """Run a section for at most ``limit_s`` seconds. What it printed to stderr is shown if it fails."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rootstream-section-") as directory:
        asked, out, errors = (Path(directory) / part for part in ("options.json", "rows.jsonl", "stderr"))
        asked.write_bytes(msgspec.json.encode(options))
        out.touch()
        command = [sys.executable, "-m", "benchmarks.gpu.section", name, str(asked), str(out)]
        with errors.open("wb") as stderr:
            process = subprocess.Popen(command, stderr=stderr, start_new_session=True)
            try:
                code = process.wait(limit_s)
                error = (
                    "" if code == 0 else f"ended with {code}: {errors.read_text(errors='replace')[-_SHOWN:].strip()}"
                )
            except subprocess.TimeoutExpired:
                error = f"stopped after {limit_s:.0f} s"
            finally:
                _end(process)
        decoder = msgspec.json.Decoder(Row)
        rows = [decoder.decode(line) for line in out.read_bytes().splitlines()]
    return Outcome(rows, error, time.monotonic() - begin)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The whole group: a server that the section started, too."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
