"""Pausing, and which requests an order to abort several means."""

from __future__ import annotations

import pytest

from scheduler_svc.pauses import Pauses, fits
from shared.protocol import AbortMany, Generate, Pause, PauseMode, Sampling


def generate(tenant: str, *names: str) -> Generate:
    return Generate(1, b"", Sampling(1), "", 0, "t", "d", 0.0, tenant=tenant, names=names)


@pytest.mark.parametrize(
    ("account", "tenant", "is_meant"),
    [
        ("alice", "alice", True),
        ("alice/x", "alice", True),
        ("alicia", "alice", False),
        ("bob", "alice", False),
        ("", "", True),
        ("/user", "", True),
        ("alice", "", False),
        ("alice", None, True),
    ],
)
def test_an_order_to_abort_several_fits_one_tenants_requests(account: str, tenant: str | None, is_meant: bool) -> None:
    request = generate(account, "job_1", "job")
    assert fits(request, AbortMany(tenant)) is is_meant
    assert fits(request, AbortMany(tenant, "job")) is is_meant
    assert not fits(request, AbortMany(tenant, "jo"))
    assert not fits(generate(account), AbortMany(tenant, "job"))


def test_who_asked_for_a_pause_is_answered_once() -> None:
    pauses, asked = Pauses(), Pause(7, "t", PauseMode.IN_PLACE)
    assert (pauses.mode, pauses.answered()) == (None, [])
    pauses.begin(asked)
    assert (pauses.mode, pauses.answered(), pauses.answered()) == (PauseMode.IN_PLACE, [asked], [])
    pauses.begin(asked)
    assert (pauses.end(), pauses.mode, pauses.answered()) == ([asked], None, [])
