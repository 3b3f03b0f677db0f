"""The output file: what is in it after a run that was killed, and its order."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream.batch.lines import Response, Result, Trouble, mark_of, write_result
from rootstream.batch.results import Results
from shared.errors import UserError

GOOD = Response(200, "r", msgspec.Raw(b"{}"))


def ids(path: Path) -> list[str]:
    return [json.loads(line)["custom_id"] for line in path.read_text().splitlines()]


@given(st.integers(0, 400))
def test_wherever_a_run_was_killed_only_whole_lines_are_left(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("out") / "out.jsonl"
    whole = b"".join(write_result(Result(str(i), GOOD)) for i in range(3))
    path.write_bytes(whole[:cut])
    results = Results(path)
    assert len(results.good) == whole[:cut].count(b"\n")
    results.add(Result("next", GOOD))
    results.close()
    assert ids(path) == [*map(str, range(whole[:cut].count(b"\n"))), "next"]


def test_failures_are_forgotten_to_be_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out.jsonl"
    results = Results(path)
    results.add(Result("a", GOOD))
    results.add(Result("b", error=Trouble("timeout", "")))
    results.close()
    results = Results(path)
    assert results.failed == {mark_of("b")}
    results.forget_failed()
    results.add(Result("c", GOOD))
    results.close()
    assert ids(path) == ["a", "c"]


@given(st.permutations(range(6)))
def test_results_can_be_put_in_the_order_of_their_requests(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    path = tmp_path_factory.mktemp("out") / "out.jsonl"
    results = Results(path)
    for number in order:
        results.add(Result("x" * number, GOOD))
    results.put_in_order({mark_of("x" * number): number for number in range(5)})
    results.close()
    assert ids(path) == ["x" * number for number in range(6)]


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    results = Results(tmp_path / "out.jsonl")
    with pytest.raises(UserError, match="another run"):
        Results(tmp_path / "out.jsonl")
    results.close()
    Results(tmp_path / "out.jsonl").close()


def test_a_file_of_something_else_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("first\nsecond")
    with pytest.raises(UserError, match="line 1 is no result"):
        Results(path)
    assert path.read_text() == "first\nsecond"
