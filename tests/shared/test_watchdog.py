"""A process that hangs ends itself and says where it hung: real processes, which hang."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shared.watchdog import EXIT_HUNG

_PREAMBLE = """
import asyncio, sys, threading, time
from shared import watchdog
from shared.registry import Role, State
from shared.service import Context, main

async def work_that_hangs(context):
    await context.announce(State.READY)
    context.rounds.pace.took(1, 0.01, time.monotonic())
    context.rounds.begin()
    await context.stopping.wait()

async def loop_that_is_held_up(context):
    watchdog._BLOCKED_S = 2
    await context.announce(State.READY)
    await asyncio.sleep(3)
    time.sleep(60)

main(Role.SCHEDULER, globals()[sys.argv.pop()])
"""


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("work_that_hangs", EXIT_HUNG, ["has been at the same work for", "work_that_hangs", "thread 0x"]),
        ("loop_that_is_held_up", 1, ["Timeout", "in loop_that_is_held_up"]),
    ],
)
def test_what_hangs_ends(redis_url: str, namespace: str, how: str, code: int, said: list[str]) -> None:
    flags = ["--redis", redis_url, "--namespace", namespace, "--step-timeout", "1"]
    ended = subprocess.run(
        [sys.executable, "-c", _PREAMBLE, *flags, how], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == code, ended.stderr
    for words in said:
        assert words in ended.stderr
