"""Timelines, judged by the description of the trace-event format."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import rootstream as rs
from rootstream.lang.calls import Call, Outcome, Usage
from rootstream.lang.tracing.notes import note
from tests.rootstream.lang.memory import Memory

Event = dict[str, Any]
REQUIRED = {
    "B": {"name", "cat", "ts"},
    "E": {"ts"},
    "X": {"name", "cat", "ts", "dur"},
    "i": {"name", "ts", "s"},
    "C": {"name", "ts", "args"},
    "M": {"name", "args"},
    "s": {"name", "cat", "id", "ts"},
    "f": {"name", "cat", "id", "ts", "bp"},
}


def checked(text: str) -> list[Event]:
    """The events of a trace that a viewer can draw: known phases, slices that nest, arrows that begin in a slice."""
    events: list[Event] = json.loads(text)
    rows: dict[tuple[int, int], list[Event]] = defaultdict(list)
    named: set[int] = set()
    for event in events:
        assert REQUIRED[event["ph"]] <= event.keys(), event
        assert {"pid", "tid"} <= event.keys()
        assert event.get("ts", 0) >= 0
        if event["ph"] == "M" and event["name"] == "process_name":
            named.add(event["pid"])
        if event["ph"] == "C":
            assert all(isinstance(value, int | float) for value in event["args"].values())
        rows[event["pid"], event["tid"]].append(event)
    assert {pid for pid, _ in rows} <= named
    for row in rows.values():
        _check_row(row)
    for start, end in zip(of(events, "s"), of(events, "f"), strict=True):
        assert start["id"] == end["id"]
        assert start["ts"] <= end["ts"]
    return events


def _check_row(row: list[Event]) -> None:
    open_: list[str] = []
    for event in sorted(row, key=lambda event: event.get("ts", 0)):
        match event["ph"]:
            case "B":
                open_.append(event["name"])
            case "E":
                assert open_.pop() == event["name"]
            case "s" | "f" | "i" | "X":
                assert open_, f"{event} is in no slice"
            case _:
                pass
    assert not open_


def of(events: Sequence[Event], phase: str, name: str | None = None) -> list[Event]:
    return [event for event in events if event["ph"] == phase and name in {None, event["name"]}]


@rs.function
def essay(s: rs.State, topic: str) -> None:
    s += f"On {topic}: " + rs.gen("plan")
    forks = s.fork(3)
    for fork in forks:
        fork += "Expand: " + rs.gen("draft")
        fork += "; again: " + rs.gen("final")
    assert len(forks["final"]) == 3
    forks.join()
    s += "In short: " + rs.gen("end")


def test_a_program_is_a_process_and_its_branches_are_rows(tmp_path: Path) -> None:
    with rs.trace(tmp_path / "run.json"):
        essay.run("trees", backend=Memory())
    events = checked((tmp_path / "run.json").read_text())
    [begin] = of(events, "B", "essay")
    assert begin["args"] == {"0": "'trees'"}
    drafts = of(events, "B", "draft, final")
    assert len({event["tid"] for event in drafts}) == 3
    assert begin["tid"] not in {event["tid"] for event in drafts}
    assert of(events, "B", "end")[0]["tid"] == begin["tid"]
    assert len(of(events, "s", "fork")) == 3
    answered = of(events, "E", "plan")[0]["args"]
    assert answered["plan"]["finish_reason"] == "stop"
    assert answered["prompt_tokens"] > 0
    assert {"cached_tokens", "completion_tokens"} <= answered.keys()
    assert max(event["args"]["calls"] for event in of(events, "C", "calls under way")) == 3
    assert of(events, "C", "calls under way")[-1]["args"]["calls"] == 0


def test_a_map_uses_as_many_lanes_as_run_at_once(tmp_path: Path) -> None:
    essay.map([str(number) for number in range(20)], backend=Memory(), concurrency=4, trace=tmp_path / "map.json")
    events = checked((tmp_path / "map.json").read_text())
    programs = of(events, "B", "essay")
    assert len(programs) == 20, "rehearsals are not shown"
    assert len({event["pid"] for event in programs}) == 4
    assert len({(event["pid"], event["tid"]) for event in of(events, "B", "draft, final")}) <= 4 * 3


class _Troubled(Memory):
    """Tries twice, waits in between, and tells."""

    async def run(self, call: Call, on_piece: Any = None) -> Outcome:
        note("retry", attempt=2, wait_s=0.02, why="503")
        await asyncio.sleep(0.03)
        return await super().run(call, on_piece)


async def test_waits_retries_first_texts_and_errors_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "troubled.json"
    with rs.trace(path), pytest.raises(rs.CallError):
        await essay.arun("x", backend=_Troubled(broken=lambda name: name == "end"), stream=True)
    events = checked(path.read_text())
    assert of(events, "i", "retry")[0]["args"]["why"] == "503"
    assert all(0 < event["dur"] <= 20_000 for event in of(events, "X", "wait"))
    assert of(events, "i", "first text of plan")
    assert "broken" in of(events, "E", "end")[0]["args"]["error"]
    assert "broken" in of(events, "E", "essay")[0]["args"]["error"]


async def test_cancelled_calls_end_with_their_program(tmp_path: Path) -> None:
    backend = Memory()
    backend.hold.clear()
    path = tmp_path / "cancelled.json"
    running = asyncio.create_task(essay.arun("x", backend=backend, trace=path))
    while not backend.running:
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    events = checked(path.read_text())
    assert of(events, "E", "plan")[0]["args"]["error"] == "cancelled"


def test_the_file_of_a_process_that_was_killed_opens(tmp_path: Path) -> None:
    path = tmp_path / "killed.json"
    code = f"""
import os, signal
import rootstream as rs
from rootstream.lang.calls import Outcome, Usage
class Deadly:
    async def run(self, call, on_piece=None):
        os.kill(os.getpid(), signal.SIGKILL)
    async def release(self, ids): pass
    async def close(self): pass
@rs.function
def program(s):
    s += "a" + rs.gen("x")
program.run(backend=Deadly(), trace={str(path)!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    )
    assert done.returncode == -signal.SIGKILL
    text = path.read_text()
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    events = json.loads(text + "]")  # which the format lets one leave out
    assert [event["name"] for event in of(events, "B")] == ["program", "x"]


def test_usage_adds_up_over_calls(tmp_path: Path) -> None:
    class Counting(Memory):
        async def run(self, call: Call, on_piece: Any = None) -> Outcome:
            outcome = await super().run(call, on_piece)
            return Outcome(outcome.results, Usage(10, 2, 7))

    path = tmp_path / "usage.json"
    essay.run("x", backend=Counting(), trace=path)
    events = checked(path.read_text())
    calls = len(of(events, "B")) - 1
    last = of(events, "C", "tokens so far")[-1]["args"]
    assert last == {"cached": 7 * calls, "computed": 3 * calls, "generated": 2 * calls}


def test_without_a_trace_nothing_is_wrapped() -> None:
    backend = Memory()
    seen: list[Any] = []

    @rs.function
    def program(s: rs.State) -> None:
        seen.append(s._program.backend)

    program.run(backend=backend)
    assert seen == [backend]


def test_a_full_disk_ends_the_trace_and_not_the_program() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.warns(UserWarning, match="/dev/full ends early: No space left"), rs.trace("/dev/full"):
        assert essay.run("x", backend=Memory())["end"]
