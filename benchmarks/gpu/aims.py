"""What the table is measured against. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from benchmarks.gpu.rows import Judged, show


class Aim(NamedTuple):
    """A bound on one row: on its share of the floor, or on its value."""

    text: str
    key: str
    of: Literal["share", "value"]
    least: float | None = None
    most: float | None = None


class Verdict(NamedTuple):
    """What became of an aim; ``met`` is None where its row was not measured."""

    aim: Aim
    found: str
    met: bool | None


AIMS = (
    Aim("decode of the 8B shape at batch 1 at 85% of its floor", "decode/llama-3-8b/1x1024", "share", least=0.85),
    Aim("decode at batch 64 with 2k contexts at 75% of its floor", "decode/llama-3-8b/64x2048", "share", least=0.75),
    Aim("prefill of 8k tokens at 60% of the matrix rate", "prefill/llama-3-8b/8192", "share", least=0.60),
    Aim("Qwen3-0.6B at batch 1 within twice its floor", "decode/qwen3-0.6b/1x1024", "share", least=0.50),
    Aim("host gap of at most 30 µs a step", "server/llama-3-8b/gap, 64 rows", "value", most=30e-6),
    Aim("constrained at most 2% over free", "server/llama-3-8b/constrained over free", "value", most=1.02),
    Aim("32 rows that share 8k tokens 4 times as fast", "sharing/32x8192/speedup", "value", least=4.0),
)


def verdicts(rows: Iterable[Judged], aims: Iterable[Aim] = AIMS) -> list[Verdict]:
    """Every aim beside what was measured for it."""
    by_key = {judgement.row.key: judgement for judgement in rows}
    return [_verdict(aim, by_key.get(aim.key)) for aim in aims]


def _verdict(aim: Aim, judgement: Judged | None) -> Verdict:
    found = None if judgement is None else judgement.share if aim.of == "share" else judgement.row.value
    if judgement is None or found is None:
        return Verdict(aim, "", None)
    met = (aim.least is None or found >= aim.least) and (aim.most is None or found <= aim.most)
    return Verdict(aim, f"{found:.0%}" if aim.of == "share" else show(found, judgement.row.unit), met)


def describe(verdict: Verdict) -> str:
    """One line for people."""
    mark = "not measured" if verdict.met is None else "met" if verdict.met else "missed"
    return f"{mark:14}{verdict.aim.text}" + (f": {verdict.found}" if verdict.found else "")


def as_json(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    """Plain values."""
    return [{"aim": v.aim.text, "key": v.aim.key, "found": v.found, "met": v.met} for v in verdicts]
