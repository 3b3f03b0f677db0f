"""Lists of faults: the same from the same seed, of every kind, against everybody."""

from __future__ import annotations

from tests.chaos.deployment import MEMBERS
from tests.chaos.faults import REDIS, Kind, plan, role_of


def test_a_seed_is_a_list() -> None:
    assert plan(7, 50, MEMBERS) == plan(7, 50, MEMBERS)
    assert plan(7, 50, MEMBERS) != plan(8, 50, MEMBERS)
    assert plan(7, 50, MEMBERS)[:20] == plan(7, 20, MEMBERS)


def test_a_long_list_has_every_kind_and_everybody() -> None:
    faults = plan(1, 200, MEMBERS)
    assert {fault.kind for fault in faults} == set(Kind)
    for kind in (Kind.KILL, Kind.FREEZE):
        alone = {role_of(fault.targets[0]) for fault in faults if fault.kind is kind and len(fault.targets) == 1}
        assert alone == {"worker", "scheduler", "tokenizer", "detokenizer", REDIS}
        assert any(fault.targets == MEMBERS for fault in faults if fault.kind is kind)
        assert any(1 < len(fault.targets) < len(MEMBERS) for fault in faults if fault.kind is kind)
    assert all(fault.hold_s <= 2.0 for fault in faults)


def test_only_the_kinds_asked_for() -> None:
    assert {fault.kind for fault in plan(1, 30, MEMBERS, {Kind.CUT, Kind.KILL})} == {Kind.CUT, Kind.KILL}
