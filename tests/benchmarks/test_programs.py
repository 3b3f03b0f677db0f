"""The benchmark of programs: what is cut out of answers, what an unlimited cache has, and what the table says."""

from __future__ import annotations

import asyncio
import json

import pytest

from benchmarks.programs import workloads
from benchmarks.programs.counting import Asked, Counted, Hintless, asked
from benchmarks.programs.measure import Run
from benchmarks.programs.oracle import best_hits
from benchmarks.programs.plain import fields, prompt_of
from benchmarks.programs.table import Way, aims, row, table
from rootstream.lang.calls import Call, OnPiece, Outcome, Usage
from rootstream.lang.parts import Close, Gen, Open, Text


def test_the_oracle_has_whole_pages_of_what_was_asked_before() -> None:
    first = Asked([*range(10)], [10, 11, 12])  # of 12 nothing is computed: three pages of four
    assert best_hits([first], 4) == 0
    assert best_hits([first, Asked([*range(10)], [])], 4) == 8
    assert best_hits([first, Asked([*range(12)], [])], 4) == 8  # the last token of a prompt is computed
    assert best_hits([first, Asked([*range(13)], [])], 4) == 12
    assert best_hits([first, Asked([*range(4), 0, *range(5, 13)], [])], 4) == 4
    assert best_hits([first, Asked([*range(10)], [], 2)], 4) == 4  # what is before scored tokens is computed
    assert best_hits([Asked([], []), Asked([], [])], 4) == 0


def test_generations_are_cut_out_of_an_answer() -> None:
    answer = {
        "token_ids": [1, 2, 3, 4, 5, 6, 7, 8, 9],
        "parts": [
            {"part": 1, "type": "gen", "prompt_tokens": 2, "completion_tokens": 3},
            {"part": 3, "type": "select", "prompt_tokens": 6, "tokens": [[7, 8, 9], [70]]},
        ],
        "usage": {"prompt_tokens": 18},
    }
    assert asked(answer) == [
        Asked([1, 2], [3, 4, 5]),
        Asked([1, 2, 3, 4, 5, 6, 7, 8, 9], [], 3),
        Asked([1, 2, 3, 4, 5, 6, 70], [], 1),
    ]
    assert asked(answer | {"usage": {"prompt_tokens": 27}})[3:] == [Asked([1, 2, 3, 4, 5, 6, 7, 8, 9], [])]
    warmed = {"token_ids": [1, 2], "parts": [], "usage": {"prompt_tokens": 2}}
    assert asked(warmed) == [Asked([1, 2], [])]
    assert asked(warmed | {"usage": {"prompt_tokens": 0}}) == []  # its text was only taken down


class Echo:
    """Takes calls down."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def run(self, call: Call, on_piece: OnPiece | None = None) -> Outcome:
        self.calls.append(call)
        return Outcome((), Usage(10, 2, 5))

    async def release(self, ids: object) -> None: ...

    async def close(self) -> None: ...


def test_calls_are_counted_and_hints_taken_off() -> None:
    echo = Echo()
    counted = Counted(Hintless(echo))
    call = Call(id="b", parts=(Text("x"),), group="g", prefill=True, keep=False, release=("a",))
    asyncio.run(counted.run(call))
    asyncio.run(counted.run(Call(id="a", parts=())))
    assert (counted.calls, counted.usage) == (2, Usage(20, 4, 10))
    assert echo.calls[0] == Call(id="b", parts=(Text("x"),), history=call.history)
    for name in "ab":
        counted.answered({"id": name, "token_ids": [ord(name)], "parts": [
            {"type": "gen", "prompt_tokens": 1, "completion_tokens": 0}
        ], "usage": {"prompt_tokens": 1}})  # fmt: skip
    assert [chr(request.prompt[0]) for request in counted.requests()] == ["b", "a"]


def test_the_plain_client_sends_texts_and_messages() -> None:
    assert prompt_of([Text("a"), Text("b")]) == "ab"
    chat = [Open("user"), Text("hi"), Close(), Open("assistant")]
    assert prompt_of(chat) == [{"role": "user", "content": "hi"}]
    assert prompt_of([*chat, Text("well,")]) == [
        {"role": "user", "content": "hi"}, {"role": "assistant", "content": "well,"}
    ]  # fmt: skip
    sent = fields(Gen(name="x", max_tokens=3, stop=("\n",), temperature=0.0, regex="a+"))
    assert sent == {"max_tokens": 3, "stop": ["\n"], "n": 1, "temperature": 0.0, "extra_body": {"regex": "a+"}}
    assert fields(Gen(name="x", choices=("a", "b")))["extra_body"] == {"guided_choice": ["a", "b"]}


@pytest.mark.parametrize("name", workloads.names())
def test_a_seed_makes_the_same_items(name: str) -> None:
    made = workloads.make(name, 3)
    assert made.name == name
    if name != "react":  # whose items hold a function
        assert made.items == workloads.make(name, 3).items
    assert made.items != workloads.make(name, 4).items


def ran(seconds: float, cached: int = 90) -> Run:
    return Run(seconds, [seconds / 2] * 4, Usage(100, 10, cached), 4)


def test_the_table_says_what_was_met() -> None:
    runs = {
        Way.LANGUAGE: [ran(1), ran(2), ran(3)],
        Way.NO_CACHE: [ran(4, 0), ran(8, 0), ran(3, 0)],
        Way.PLAIN: [ran(1), ran(2), ran(3)],
    }
    found = row("tree", runs, 0.9, prefix_heavy=True, forking=True)
    assert found.rates[Way.LANGUAGE] == 2
    assert found.ratios[Way.NO_CACHE] == [4, 4, 1]
    assert (found.hit_rate, found.of_the_best) == (0.9, 1)
    assert aims([found]) == [
        "hit rate, of the best possible, mean: 100.0% (aim 96%): met",
        "prefix-heavy, over no cache: tree 4.00 (aim 3): met",
        "forking, over the plain client: tree 1.00 (aim 1.5): missed",
    ]
    lines = table([found]).splitlines()
    assert lines[2].startswith("| tree (prefix-heavy, forking) | 2.00 | **4.00×** (4.00, 4.00, 1.00) | – | **1.00×**")
    assert json.loads(json.dumps(found._asdict()))["rates"] == {"language": 2, "no cache": 1, "plain client": 2}
