"""Keeping a child running: what dies is started again, what hangs is killed, what the user must mend ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from rootstream.child import Child
from rootstream.keeper import Ending, Keeper
from shared.hearing import Last
from shared.registry import Pulse, Role, State

_SLEEPS = "import time\nprint('up', flush=True)\ntime.sleep(60)"
_ENDS = "import sys\nprint('bad luck', flush=True)\nsys.exit({code})"

Keep = Callable[..., Keeper]


class Said:
    def __init__(self) -> None:
        self.launcher: list[str] = []
        self.child: list[str] = []

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.child) < count:
                await asyncio.sleep(0.005)


@pytest.fixture
def said() -> Said:
    return Said()


@pytest_asyncio.fixture
async def keep(tmp_path: Path, said: Said) -> AsyncIterator[Keep]:
    """Makes keepers, whose children end with the test."""
    made: list[Keeper] = []

    def keep(source: str, *, settled: bool = True) -> Keeper:
        (tmp_path / "made_module.py").write_text(source)
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        child = Child("worker-0", "made_module", environment, lambda _, line: said.child.append(line))
        made.append(Keeper(Role.WORKER, child, said.launcher.append, lambda: settled))
        return made[-1]

    yield keep
    for keeper in made:
        keeper.kill()
        if keeper.child.pid is not None:
            await keeper.child.ended()


def pulse(state: State, incarnation: float | None = None) -> Pulse:
    at = time.time() if incarnation is None else incarnation
    return Pulse(Role.WORKER, "worker-0", int(at * 1e6), at, state)


@contextlib.asynccontextmanager
async def kept(keeper: Keeper) -> AsyncIterator[asyncio.Task[Ending | None]]:
    task = asyncio.create_task(keeper.keep())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_child_without_a_pulse_is_killed_and_started_again(keep: Keep, said: Said) -> None:
    keeper = keep(_SLEEPS)
    async with kept(keeper):
        await said.until(1)
        first = keeper.child.pid
        keeper.heard(Last(pulse(State.READY), 14.0))
        assert keeper.is_ready
        keeper.heard(Last(pulse(State.LOADING), 100.0))  # a compiler may hold everything up
        assert said.launcher == []
        keeper.heard(Last(pulse(State.READY), 15.5))
        await said.until(2)
        assert keeper.child.pid != first
        assert said.launcher == [
            "worker-0 has had no pulse for 16 s; killing it",
            "worker-0 ended with signal SIGKILL; starting it again in 0.25 s",
        ]
        assert keeper.restarts == 1


async def test_a_child_that_served_is_back_at_once(keep: Keep, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rootstream.backoff.STEADY_S", 0.05)
    keeper = keep(_SLEEPS)
    async with kept(keeper):
        await said.until(1)
        keeper.heard(Last(pulse(State.READY), 0.0))
        await asyncio.sleep(0.1)
        keeper.child.kill()
        await said.until(2)
    assert said.launcher == ["worker-0 ended with signal SIGKILL; starting it again in 0.05 s"]


async def test_an_orderly_restart_waits_for_nothing_and_the_pulse_of_the_old_process_proves_nothing(
    keep: Keep, said: Said
) -> None:
    keeper = keep(_SLEEPS)
    async with kept(keeper):
        await said.until(1)
        old = pulse(State.READY)
        keeper.heard(Last(old, 0.0))
        await keeper.restart(10)
        await said.until(2)
        keeper.heard(Last(old, 0.0))
        assert not keeper.is_ready
        ready = asyncio.create_task(keeper.ready())
        keeper.heard(Last(pulse(State.READY), 0.0))
        await asyncio.wait_for(ready, 5)
    assert said.launcher == ["worker-0 stopped; starting it again"]


async def test_a_retired_child_stays_away(keep: Keep, said: Said) -> None:
    keeper = keep(_SLEEPS)
    async with kept(keeper) as keeping:
        await said.until(1)
        await keeper.retire(10)
        assert await asyncio.wait_for(keeping, 5) is None
    assert said.launcher == []


@pytest.mark.parametrize(("code", "settled", "ends"), [(2, True, 2), (1, False, 1), (0, False, 1)])
async def test_what_cannot_go_well_ends(
    keep: Keep, code: int, settled: bool, ends: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rootstream.backoff.FIRST_S", 0.01)
    async with kept(keep(_ENDS.format(code=code), settled=settled)) as keeping:
        ending = await asyncio.wait_for(keeping, 20)
    assert ending is not None
    assert ending.code == ends
    assert "bad luck" in ending.message
