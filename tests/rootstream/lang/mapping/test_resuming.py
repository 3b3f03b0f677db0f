"""Maps that go on after an end, whatever kind of end it was."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pydantic
import pytest

import rootstream as rs
from rootstream.lang.calls import Call, CallError, Outcome
from rootstream.lang.mapping.keys import Keys
from rootstream.line_file import LineFile
from shared.errors import UserError
from tests.rootstream.lang.memory import Memory

ROOT = Path(__file__).parents[4]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


class Verdict(pydantic.BaseModel):
    score: int


class Failing(Memory):
    """Memory that knows which questions it fails at."""

    def __init__(self, *bad: str) -> None:
        super().__init__(answers={"verdict": '{"score": 3}'})
        self.bad = bad

    async def run(self, call: Call, on_piece: Any = None) -> Outcome:
        if any(f"Q: {bad}" in str(call.parts) for bad in self.bad):
            raise CallError("no")
        return await super().run(call, on_piece)


@rs.function
def judge(s: rs.State, question: str) -> Verdict:
    s += f"Q: {question}\n" + rs.gen("verdict", json_schema=Verdict)
    forks = s.fork(2)
    for fork in forks:
        fork += "Because" + rs.gen("why")
    forks.join()
    return s["verdict"]


def test_what_is_done_is_not_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "map.jsonl"
    first = judge.map(["a", "b", "c"], backend=Failing("b"), resume=path)
    assert [item.is_good for item in first] == [True, False, True]
    backend = Failing()
    again = judge.map(["a", "b", "c", "d"], backend=backend, resume=path)
    assert [item.is_restored for item in again] == [True, False, True, False]
    assert sum("Q: a" in str(call.parts) or "Q: c" in str(call.parts) for call in backend.calls) == 0
    kept = again[0]
    assert first[0].returned == Verdict(score=3)
    assert kept.returned == {"score": 3}, "as JSON has it"
    assert kept["verdict"] == {"score": 3}
    assert kept["why"] == first[0]["why"]
    assert kept.text() == first[0].text()
    assert kept.usage == first[0].usage
    assert kept.state is not None
    assert first[0].state is not None
    assert kept.state.meta("verdict") == first[0].state.meta("verdict")
    assert kept.state.names() == ["verdict", "why"]
    with pytest.raises(ValueError, match="no roles"):
        kept.state.messages()
    third = judge.map(["d", "a", "b"], backend=Failing("a", "b", "d"), resume=path)
    assert all(item.is_restored for item in third)
    assert [item.args for item in third] == ["d", "a", "b"]


def test_conversations_keep_their_messages(tmp_path: Path) -> None:
    @rs.function
    def chat(s: rs.State, question: str) -> None:
        s += rs.user(question) + rs.assistant(rs.gen("answer"))

    first = chat.map(["a"], backend=Memory(), resume=tmp_path / "x")
    again = chat.map(["a"], backend=Failing("a"), resume=tmp_path / "x")
    assert again[0].is_restored
    assert again[0].finished().messages() == first[0].finished().messages()


def test_equal_items_are_different_items(tmp_path: Path) -> None:
    items = judge.map(["a", "a"], backend=Failing(), resume=tmp_path / "x", seed=1)
    again = judge.map(["a", "a", "a"], backend=Failing(), resume=tmp_path / "x", seed=1)
    assert [item.is_restored for item in again] == [True, True, False]
    assert [item["why"] for item in again[:2]] == [item["why"] for item in items]


def test_other_options_and_other_bodies_are_other_maps(tmp_path: Path) -> None:
    path = tmp_path / "x"
    judge.map(["a"], backend=Failing(), resume=path, temperature=0.5)
    assert judge.map(["a"], backend=Failing(), resume=path, temperature=0.5, timeout=9)[0].is_restored
    assert not judge.map(["a"], backend=Failing(), resume=path, temperature=0.7)[0].is_restored
    assert not judge.map(["a"], backend=Failing(), resume=path, seed=1)[0].is_restored

    @rs.function
    def judge_(s: rs.State, question: str) -> None:
        s += f"Q: {question}" + rs.gen("x")

    assert not judge_.map(["a"], backend=Failing(), resume=path)[0].is_restored
    assert len(path.read_text().splitlines()) == 4


def test_half_a_line_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "x"
    judge.map(["a", "b"], backend=Failing(), resume=path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    again = judge.map(["a", "b"], backend=Failing(), resume=path)
    assert [item.is_restored for item in again].count(True) == 1
    assert all(json.loads(line) for line in path.read_text().splitlines())
    assert len(path.read_text().splitlines()) == 2


def test_another_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "novel.txt"
    path.write_text("It was a dark and stormy night.\n")
    with pytest.raises(UserError, match=r"novel\.txt line 1 is no item of a map .*: name another resume file"):
        judge.map(["a"], backend=Failing(), resume=path)
    assert path.read_text() == "It was a dark and stormy night.\n"


def test_one_run_at_a_time(tmp_path: Path) -> None:
    held = LineFile.at(tmp_path / "x")
    with pytest.raises(UserError, match="is being written by another run"):
        judge.map(["a"], backend=Failing(), resume=tmp_path / "x")
    held.close()
    assert judge.map(["a"], backend=Failing(), resume=tmp_path / "x")[0].is_good


@dataclasses.dataclass
class Point:
    x: int
    y: Path


class Opaque:
    pass


def test_keys_are_the_same_for_equal_arguments() -> None:
    def keys() -> Keys:
        return Keys(judge.body, {}, None)

    assert keys().of({"b": 1, "a": 2}) == keys().of({"a": 2, "b": 1})
    assert keys().of(Point(1, Path("x"))) == keys().of(Point(1, Path("x")))
    assert keys().of(Verdict(score=1)) != keys().of(Verdict(score=2))
    assert keys().of((1, "a")) != keys().of((1, "b"))
    with pytest.raises(TypeError, match="give key="):
        keys().of(Opaque())
    assert Keys(judge.body, {}, lambda args: "x").of(Opaque()) == Keys(judge.body, {}, lambda args: "x").of(Opaque())


def test_what_cannot_be_kept_ends_the_map_with_a_reason(tmp_path: Path) -> None:
    @rs.function
    def program(s: rs.State, word: str) -> object:
        return Opaque()

    with pytest.raises(TypeError, match=r"what item 0 came to cannot be written into .*: return JSON"):
        program.map(["a"], backend=Memory(), resume=tmp_path / "x")


PROGRAM = """
import asyncio, sys
import rootstream as rs
from rootstream.lang.calls import Outcome, Result

class Slow:
    async def run(self, call, on_piece=None):
        await asyncio.sleep(0.02)
        return Outcome((Result(name="x", text="y", part=1),))

    async def release(self, ids):
        pass

    async def close(self):
        pass

@rs.function
def program(s, number):
    s += f"{number}: " + rs.gen("x")

print(sum(item.is_restored for item in program.map(range(400), backend=Slow(), concurrency=4, resume=sys.argv[1])))
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_map_goes_on(tmp_path: Path, how: signal.Signals) -> None:
    path, script = tmp_path / "x", tmp_path / "program.py"
    script.write_text(PROGRAM)
    command = [sys.executable, str(script), str(path)]
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + 60
        while running.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") > 5):
            if time.monotonic() > deadline:
                running.kill()
            time.sleep(0.02)
        running.send_signal(how)
        _, told = running.communicate(timeout=60)
    done = len(path.read_text().splitlines())
    assert running.returncode != 0
    assert done < 400
    if how is signal.SIGINT:
        assert told.rstrip().endswith("KeyboardInterrupt")
        assert "never retrieved" not in told
    # the rest is not worth its time: that the file is taken up again shows on the first items
    short = script.read_text().replace("range(400)", "range(8)")
    script.write_text(short)
    again = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert int(again.stdout) >= 5
