"""The file of results: one visit for each start of a server, written after every workload, so that nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from shared.errors import UserError


class Visit(msgspec.Struct, kw_only=True):
    """What one start of one server showed."""

    round: int
    server: str
    began: str
    """UTC."""

    load_before: float
    """The machine's load average of a minute, before the start: near 0 where nothing else runs."""

    ready_s: float | None = None
    peak_pss_mib: float | None = None
    """Of the process and its descendants, while it was started, warmed up and measured."""

    texts: list[str] = []
    """What it says greedily to a few prompts."""

    workloads: dict[str, dict[str, Any]] = {}
    errors: dict[str, str] = {}


class Results(msgspec.Struct, kw_only=True):
    """All visits under one set of conditions."""

    machine: str
    versions: dict[str, str]
    scale: float
    seed: int
    visits: list[Visit] = []

    def missing(self, round: int, server: str, workloads: list[str]) -> list[str]:
        """Those of ``workloads`` that were not measured, or failed."""
        done = {
            name for visit in self.visits if (visit.round, visit.server) == (round, server) for name in visit.workloads
        }
        return [name for name in workloads if name not in done]


def read(path: Path) -> Results:
    """Raises UserError where there is no such file or it is another's."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Results)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}; measure first: python -m benchmarks.peers run"
        ) from None
    except msgspec.DecodeError as error:
        raise UserError(
            f"{path} holds no results of this kind ({error}): name another file, or begin --fresh"
        ) from None


def opened(path: Path, conditions: Results, *, fresh: bool) -> Results:
    """The results to add to: those in the file, if measured alike. Raises UserError if not."""
    if fresh or not path.exists():
        return conditions
    found = read(path)
    if (found.scale, found.seed) != (conditions.scale, conditions.seed):
        raise UserError(
            f"{path} was measured with --scale {found.scale} --seed {found.seed}: go on with these, or begin --fresh"
        )
    found.machine = conditions.machine
    found.versions |= conditions.versions
    return found


def write(path: Path, results: Results) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(msgspec.to_builtins(results), indent=1) + "\n")
    scratch.replace(path)
