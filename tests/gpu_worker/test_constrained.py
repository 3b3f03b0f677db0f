"""Rows that obey grammars, engine and all: random weights at temperature 1, so only the engine can make text valid."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gpu_worker.engine import Engine, Structure
from gpu_worker.execution import MakeExecution
from gpu_worker.grammar.loading import GrammarLoader, GrammarReady
from gpu_worker.startup import Loaded, load
from shared import columns
from shared.config import Settings
from shared.grammar import Guidance, Rejected, encode
from shared.protocol import Admit, Finish, Grammar, Jump, Open, Plan, Sampling, Step
from tests.gpu_worker.pipelines import pipelined
from tests.toy import EOS_ID
from tokenizer_svc.grammar.dfa import compile_dfa
from tokenizer_svc.grammar.regex import parse

PAGE = 4


@dataclass
class Output:
    tokens: list[int] = field(default_factory=list)
    forced: list[int] = field(default_factory=list)
    finish: Finish = Finish.NONE
    error: str | None = None
    steps: int = 0


class Desk:
    """An engine, grammars by name, and a scheduler that grants everything at once."""

    def __init__(self, loaded: Loaded, execution: MakeExecution | None = None) -> None:
        assert loaded.structured is not None
        self.lexicon = loaded.structured.lexicon
        self.wanted: list[str] = []
        structure = Structure(loaded.structured.masks, self.lexicon.vocabulary.eos_ids, self.wanted.append)
        self.execution = execution
        self.engine = Engine(loaded.model, loaded.card, 5, structure, execution)
        self.engine.receive(Open(epoch=1, incarnation=5))
        self.loader = GrammarLoader(self.lexicon)
        self.compiled: dict[str, bytes] = {}
        self.outputs: dict[int, Output] = {}
        self._seq = 0
        self._page = 0

    def regex(self, pattern: str) -> str:
        self.compiled[pattern] = encode(compile_dfa(parse(pattern)))
        return pattern

    def guidance(self, name: str, lark: str) -> str:
        self.compiled[name] = encode(Guidance(lark))
        return name

    def submit(
        self,
        id: int,
        key: str | None,
        prompt: list[int] | None = None,
        output: tuple[int, ...] = (),
        jump: Jump = Jump.CANONICAL,
        limit: int | None = None,
        **sampling: Any,
    ) -> None:
        prompt = prompt or [5, 6, 7]
        defaults: dict[str, Any] = {"max_tokens": 60, "seed": id, "stop_token_ids": (EOS_ID,)}
        params = Sampling(grammar=None if key is None else Grammar(key, jump), **(defaults | sampling))
        tokens = [*prompt, *output]
        slots = len(prompt) + params.max_tokens - 1
        pages = -(-slots // PAGE)
        self._seq += 1
        self.outputs[id] = Output(list(output))
        self.engine.receive(
            Plan(
                epoch=1,
                seq=self._seq,
                admits=(Admit(id, columns.int32(tokens), len(prompt), 0, params, b""),),
                grant_ids=columns.uint64([id]),
                grant_limits=columns.int32([slots if limit is None else limit]),
                grant_page_counts=columns.int32([pages]),
                grant_pages=columns.int32(range(self._page, self._page + pages)),
                chunk_ids=columns.uint64([id]),
                chunk_starts=columns.int32([0]),
                chunk_lengths=columns.int32([len(tokens)]),
            )
        )
        self._page = (self._page + pages) % 200

    def release(self, id: int) -> None:
        self._seq += 1
        self.engine.receive(Plan(epoch=1, seq=self._seq, releases=columns.uint64([id])))

    def grant(self, id: int, limit: int) -> None:
        self._seq += 1
        self.engine.receive(
            Plan(
                epoch=1,
                seq=self._seq,
                grant_ids=columns.uint64([id]),
                grant_limits=columns.int32([limit]),
                grant_page_counts=columns.int32([0]),
            )
        )

    def deliver(self) -> None:
        """The grammars that the engine asked for come."""
        while self.wanted:
            key = self.wanted.pop()
            self.engine.receive(self.loader.load(key, self.compiled[key]))

    def step(self) -> Step | None:
        report = self.engine.step()
        if report is None:
            return None
        assert isinstance(report, Step)
        at = 0
        ids, counts = columns.as_uint64(report.ids).tolist(), columns.as_int32(report.counts).tolist()
        tokens = columns.as_int32(report.tokens).tolist()
        flags = list(report.forced) or [0] * len(tokens)
        firsts = columns.as_int32(report.firsts).tolist()
        for id, first, count, finish in zip(ids, firsts, counts, report.finishes, strict=True):
            output = self.outputs[id]
            assert first == len(output.tokens)
            output.tokens += tokens[at : at + count]
            output.forced += flags[at : at + count]
            output.finish = Finish(finish)
            output.steps += 1
            at += count
        for id, message in report.errors:
            self.outputs[id].error = message
        return report

    def run(self) -> None:
        self.deliver()
        while self.engine.has_work:
            self.step()
            self.deliver()

    def text(self, id: int) -> str:
        tokens = self.outputs[id].tokens
        return b"".join(self.lexicon.spelling[token] for token in tokens).decode()


@pytest.fixture(scope="module")
def loaded(toy_model: Path, cache_dir: Path) -> Loaded:
    settings = Settings(
        model=str(toy_model), dtype="float32", kv_memory="1MiB", page_size=PAGE, threads=1, max_running=8,
        cache_dir=cache_dir,
    )  # fmt: skip
    return load(settings, lambda _: None)


@pytest.fixture(scope="module", params=["lock-step", "pipelined"])
def execution(loaded: Loaded, request: pytest.FixtureRequest) -> MakeExecution | None:
    return None if request.param == "lock-step" else pipelined(loaded)


@pytest.fixture
def desk(loaded: Loaded, execution: MakeExecution | None) -> Desk:
    return Desk(loaded, execution)


PATTERNS = [
    "[a-z]{3,8}",
    '\\{"name": "[a-zA-Z ]{1,12}", "age": [0-9]{1,3}\\}',
    "(yes|no|maybe, but (not|only) today)",
    "the quick brown fox jumps over the lazy dog",
    "[\u00e0-\u00ff]{2,5}\u20ac",
    "(ab|a)(c|bcd)*",
    "\U0001f600{1,3}|\u4f60\u597d",
]


@pytest.mark.parametrize("jump", list(Jump))
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_output_is_in_the_language(desk: Desk, pattern: str, jump: Jump) -> None:
    key = desk.regex(pattern)
    for id in range(1, 7):
        desk.submit(id, key, jump=jump)
        desk.run()
        output = desk.outputs[id]
        text = desk.text(id)
        if output.finish is Finish.STOP:
            assert re.fullmatch(pattern, text, re.ASCII), text
        else:
            assert len(output.tokens) == 60


def test_a_run_costs_one_forward(desk: Desk) -> None:
    desk.submit(1, desk.regex("the quick brown fox (is|was) quick"), temperature=0)
    desk.run()
    output = desk.outputs[1]
    assert output.finish is Finish.STOP
    assert output.steps <= 4
    assert sum(output.forced) > len(output.tokens) / 2


def test_a_run_is_what_the_tokenizer_itself_would_write(desk: Desk) -> None:
    text = "the quick brown fox jumps over the lazy dog"
    desk.submit(1, desk.regex(text))
    desk.run()
    assert desk.outputs[1].tokens == desk.lexicon.encode(text)
    assert all(desk.outputs[1].forced)


def test_text_with_one_way_on_needs_no_end_of_sequence_token(desk: Desk) -> None:
    desk.submit(1, desk.regex("yes|no"))
    desk.run()
    assert desk.text(1) in {"yes", "no"}
    assert desk.outputs[1].finish is Finish.STOP
    assert EOS_ID not in desk.outputs[1].tokens


@pytest.mark.parametrize("pattern", PATTERNS)
def test_exact_jumping_changes_no_token(desk: Desk, pattern: str) -> None:
    key = desk.regex(pattern)
    for id in range(1, 9):
        desk.submit(id, key, jump=Jump.OFF, seed=77 + id)
        desk.submit(id + 100, key, jump=Jump.EXACT, seed=77 + id)
        desk.run()
        assert desk.outputs[id].tokens == desk.outputs[id + 100].tokens
        assert desk.outputs[id].finish == desk.outputs[id + 100].finish


def test_neighbours_leases_and_restarts_change_nothing(desk: Desk, loaded: Loaded) -> None:
    key = desk.regex(PATTERNS[1])
    desk.submit(1, key, seed=9)
    desk.run()
    whole = desk.outputs[1].tokens
    desk.submit(2, None, prompt=[9, 8, 7, 6, 5])
    desk.submit(3, key, seed=9)
    desk.submit(4, desk.regex(PATTERNS[2]))
    desk.run()
    assert desk.outputs[3].tokens == whole
    desk.submit(5, key, seed=9, limit=4)
    desk.run()
    for limit in range(5, 63):
        desk.grant(5, limit)
        desk.run()
    assert desk.outputs[5].tokens == whole
    for cut in range(1, len(whole)):  # as after a preemption, wherever tokens came from
        if desk.outputs[1].forced[cut]:
            continue  # a run is reported whole, so nobody stops in the middle of one
        fresh = Desk(loaded, desk.execution)
        fresh.regex(key)
        fresh.submit(6, key, output=tuple(whole[:cut]), seed=9)
        fresh.run()
        assert fresh.outputs[6].tokens == whole


def test_a_prompt_does_not_wait_for_its_grammar(desk: Desk) -> None:
    key = desk.regex("[a-z]{3,8}")
    desk.submit(1, key, seed=3)
    desk.submit(2, None, max_tokens=4)
    while desk.engine.has_work:
        desk.step()
    assert desk.outputs[1].tokens == []
    assert len(desk.outputs[2].tokens) == 4
    desk.run()
    assert re.fullmatch("[a-z]{3,8}", desk.text(1))
    late = desk.outputs[1].tokens
    desk.submit(3, key, seed=3)
    desk.run()
    assert desk.outputs[3].tokens == late


def test_a_row_that_waits_may_be_released_and_come_back(desk: Desk) -> None:
    key = desk.regex("[a-z]{3,8}x")
    desk.submit(1, key)
    desk.step()
    desk.release(1)
    desk.step()
    desk.submit(1, key)
    desk.run()
    assert re.fullmatch("[a-z]{3,8}x", desk.text(1))


@pytest.mark.parametrize("late", [False, True])
def test_a_rejected_grammar_ends_its_rows_and_no_others(desk: Desk, *, late: bool) -> None:
    desk.compiled["bad"] = encode(Rejected("no such thing"))
    desk.submit(1, "bad")
    desk.submit(2, desk.regex("[a-z]{5}"))
    if late:
        desk.step()
        desk.step()
    desk.run()
    assert desk.outputs[1].error == "no such thing"
    assert re.fullmatch("[a-z]{5}", desk.text(2))


def test_length_cuts_and_stop_tokens_hold_for_forced_tokens_too(desk: Desk) -> None:
    text = "the quick brown fox jumps over the lazy dog"
    key = desk.regex(text)
    tokens = desk.lexicon.encode(text)
    assert tokens is not None
    desk.submit(1, key, max_tokens=3)
    desk.submit(2, key, stop_token_ids=(tokens[4],))
    desk.submit(3, key, max_tokens=len(tokens))
    desk.run()
    assert (desk.outputs[1].tokens, desk.outputs[1].finish) == (tokens[:3], Finish.LENGTH)
    assert (desk.outputs[2].tokens, desk.outputs[2].finish) == (tokens[: tokens.index(tokens[4]) + 1], Finish.STOP)
    assert desk.outputs[3].finish is Finish.STOP


def test_an_end_of_sequence_comes_only_where_the_text_may_end(desk: Desk) -> None:
    key = desk.regex("(abc)*")
    ends = 0
    for id in range(1, 13):
        desk.submit(id, key, logit_bias=((EOS_ID, 10.0),), min_tokens=2, seed=id)
        desk.run()
        output = desk.outputs[id]
        assert output.tokens.count(EOS_ID) == (output.finish is Finish.STOP)
        ends += output.finish is Finish.STOP
        text = b"".join(desk.lexicon.spelling[token] for token in output.tokens[:-1]).decode()
        assert re.fullmatch("(abc)*", text) or output.finish is Finish.LENGTH
        assert len(output.tokens) > 2
    assert ends


def test_ignoring_the_end_of_sequence_leaves_the_grammar_its_own_end(desk: Desk) -> None:
    desk.submit(1, desk.regex("[ab]{0,9}c"), stop_token_ids=(), logit_bias=((EOS_ID, 100.0),))
    desk.run()
    assert re.fullmatch("[ab]{0,9}c", desk.text(1))


@pytest.mark.parametrize("jump", list(Jump))
def test_grammars_beyond_automata(desk: Desk, jump: Jump) -> None:
    key = desk.guidance("nested", 'start: "(" (start)* ")"')
    for id in range(1, 6):
        desk.submit(id, key, jump=jump, max_tokens=90)
    desk.run()
    for id in range(1, 6):
        text = desk.text(id)
        if desk.outputs[id].finish is Finish.STOP:
            depth = 0
            for place, letter in enumerate(text):
                depth += 1 if letter == "(" else -1
                assert depth > 0 or place == len(text) - 1
            assert depth == 0
        else:
            assert re.fullmatch(r"[()]*", text)


def test_grammars_beyond_automata_end_only_where_they_may(desk: Desk) -> None:
    key = desk.guidance("letters", 'start: "(" /[ab]+/ ")"? ')
    desk.submit(1, key, stop_token_ids=(), logit_bias=((EOS_ID, 100.0),), max_tokens=20)
    desk.submit(2, key, logit_bias=((EOS_ID, 100.0),), min_tokens=6, max_tokens=20)
    desk.submit(3, key, logit_bias=((EOS_ID, 100.0),), max_tokens=20)
    desk.run()
    assert EOS_ID not in desk.outputs[1].tokens
    assert desk.outputs[2].tokens.index(EOS_ID) >= 6 if EOS_ID in desk.outputs[2].tokens else ")" in desk.text(2)
    assert re.fullmatch(r"\([ab]+", desk.text(3)), "it ends as soon as it may"


def test_guidance_exact_jumping_changes_no_token(desk: Desk) -> None:
    key = desk.guidance("choice", 'start: "alpha" x "omega"\nx: "[" x "]" | /[a-z]{1,5}/')
    for id in range(1, 6):
        desk.submit(id, key, jump=Jump.OFF, seed=id)
        desk.submit(id + 100, key, jump=Jump.EXACT, seed=id)
        desk.submit(id + 200, key, jump=Jump.CANONICAL, seed=id)
        desk.run()
        assert desk.outputs[id].tokens == desk.outputs[id + 100].tokens
    assert any(sum(desk.outputs[id + 200].forced) for id in range(1, 6))


def test_a_text_that_can_only_be_empty_ends_at_once(desk: Desk) -> None:
    desk.submit(1, desk.regex("(?:)"))
    desk.run()
    assert (desk.outputs[1].tokens, desk.outputs[1].finish) == ([], Finish.STOP)


def test_a_worker_without_spelled_tokens_says_so(loaded: Loaded) -> None:
    desk = Desk(loaded)
    desk.engine = Engine(loaded.model, loaded.card, 5)
    desk.engine.receive(Open(epoch=1, incarnation=5))
    desk.submit(1, "anything")
    desk.run()
    assert "byte by byte" in (desk.outputs[1].error or "")


def test_many_grammars_come_and_go(desk: Desk) -> None:
    for id in range(1, 600):
        desk.submit(id, desk.regex(f"{id}: [a-f]"), max_tokens=12)
        if id % 8 == 0:
            desk.run()
    desk.run()
    assert all(re.fullmatch(f"{id}: [a-f]", desk.text(id)) for id in range(1, 600))
    assert desk.engine.receive(GrammarReady("nobody asked", "x")) is None
