"""A minute of chaos: every kind of fault once, against everybody, while 48 clients stream."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.deployment import KV_MEMORY, MEMBERS, deployed
from tests.chaos.faults import REDIS, Fault, Kind
from tests.chaos.history import Injected
from tests.chaos.run import Chaos, Options, keep

pytestmark = pytest.mark.slow
_SEED = 5

FAULTS = (
    Fault(0, Kind.KILL, ("worker-0",), 0.5),
    Fault(1, Kind.KILL, ("scheduler-0",), 0.4),
    Fault(2, Kind.KILL, ("detokenizer-0",), 0.3),
    Fault(3, Kind.CUT, (), 0.3, share=0.5),
    Fault(4, Kind.KILL, (REDIS,), 0.3),
    Fault(5, Kind.KILL, ("tokenizer-1",), 0.3),
    Fault(6, Kind.FREEZE, ("scheduler-0", "worker-0"), 0.4, hold_s=1.0),
    Fault(7, Kind.FREEZE, (REDIS,), 0.3, hold_s=2.0),
    Fault(8, Kind.KILL, ("detokenizer-1", REDIS, "scheduler-0"), 0.3, settles=False),
    Fault(9, Kind.KILL, MEMBERS, 0.5),
)


async def test_nothing_is_lost(toy_model: Path, cache_dir: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    async with deployed("--kv-memory", KV_MEMORY, model=toy_model, cache=cache_dir) as deployment:
        chaos = Chaos(deployment, Options(_SEED, FAULTS, requests=100), lines.append)
        result = await chaos.run()
        log = deployment.last_lines(200)
        whole_log = deployment.log.read_bytes()
    if result.findings:
        keep(result, tmp_path)
        (tmp_path / "log").write_bytes(whole_log)
        shown = [f"{finding.violation.wrong}: {finding.violation.detail}" for finding in result.findings[:20]]
        pytest.fail("\n".join([log, *lines, *shown, f"histories are in {tmp_path}"]), pytrace=False)
    assert [len(injected.targets) for injected in result.faults] == [max(1, len(fault.targets)) for fault in FAULTS]
    assert all(_had_effect(injected) for injected in result.faults)
    assert sum(count for (_, end), count in result.outcomes.items() if end == "ended") > 3 * 100  # storm and calms


def _had_effect(injected: Injected) -> bool:
    """A fault that hit nobody proves nothing."""
    if injected.kind == Kind.CUT:
        return injected.targets != ("0 connections",)
    return len(injected.outages) > 0
