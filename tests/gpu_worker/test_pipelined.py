"""Launching ahead changes nothing that anybody is told: scenarios in lock-step and pipelined, token for token."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpu_worker.device_rows import HostFacts
from gpu_worker.device_sampler import DeviceSampler
from gpu_worker.engine import Engine, Structure
from gpu_worker.execution import MakeExecution
from gpu_worker.grammar.loading import GrammarLoader
from gpu_worker.graphs import Bucket
from gpu_worker.startup import Loaded, load
from shared import columns
from shared.config import Settings
from shared.grammar import Guidance, encode
from shared.protocol import Admit, Finish, Grammar, Jump, Open, Opened, Plan, Sampling, Step
from tests.gpu_worker.pipelines import pipelined
from tests.toy import EOS_ID
from tokenizer_svc.grammar.dfa import compile_dfa
from tokenizer_svc.grammar.regex import parse

PAGE = 4
ROWS = 6
CONTEXT = 96

GRAMMARS: dict[str, bytes] = {
    "record": encode(compile_dfa(parse('\\{"name": "[a-zA-Z ]{1,12}", "age": [0-9]{1,3}\\}'))),
    "choice": encode(compile_dfa(parse("(yes|no|maybe, but (not|only) today)"))),
    "text": encode(compile_dfa(parse("the quick brown fox jumps over the lazy dog"))),
    "open": encode(compile_dfa(parse("(abc|de)*"))),
    "large": encode(compile_dfa(parse("([a-z]{1,40} and [0-9]{1,40}){1,14}"))),  # too many states to be resident
    "nested": encode(Guidance('start: "(" (start)* ")"')),
}


@dataclass
class Request:
    id: int
    prompt: list[int]
    sampling: Sampling
    output: list[int] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)
    limit: int = 0
    planned: int = 0  # of its input
    input_len: int = 0
    admitted: bool = False
    finish: Finish | None = None
    error: str | None = None

    @property
    def ended(self) -> bool:
        return self.finish is not None or self.error is not None


class Scheduler:
    """As much of a scheduler as it takes to be unkind to an engine. Freed pages are given away at once."""

    def __init__(self, loaded: Loaded, execution: MakeExecution | None) -> None:
        assert loaded.structured is not None
        self.wanted: list[str] = []
        eos_ids = loaded.structured.lexicon.vocabulary.eos_ids
        structure = Structure(loaded.structured.masks, eos_ids, self.wanted.append)
        self.engine = Engine(loaded.model, loaded.card, 5, structure, execution)
        self._loader = GrammarLoader(loaded.structured.lexicon)
        self.requests: dict[int, Request] = {}
        self._free = list(range(loaded.card.num_pages - 1, -1, -1))
        self._epoch = 0
        self.steps: list[Step] = []
        self.open()

    def open(self) -> None:
        """A new epoch: every row is forgotten, and has to be admitted again."""
        self._epoch += 1
        self._seq = 0
        for request in self.requests.values():
            self._leave(request)
        answer = self.engine.receive(Open(epoch=self._epoch, incarnation=5))
        assert answer == Opened(epoch=self._epoch, incarnation=5)

    def submit(self, id: int, prompt: list[int], sampling: Sampling) -> None:
        self.requests[id] = Request(id, prompt, sampling)

    def admit(self, id: int, lease: int) -> None:
        request = self.requests[id]
        running = sum(other.admitted for other in self.requests.values())
        if request.admitted or request.ended or running == ROWS:
            return
        tokens = [*request.prompt, *request.output]
        request.admitted, request.planned, request.input_len = True, 0, len(tokens)
        admission = Admit(id, columns.int32(tokens), len(request.prompt), 0, request.sampling, b"")
        self._plan(admits=(admission,), grants=[(request, len(tokens) + lease)])

    def chunk(self, id: int, length: int) -> None:
        request = self.requests[id]
        length = min(length, request.input_len - request.planned)
        if request.admitted and length > 0:
            self._plan(chunks=[(request, length)])

    def grant(self, id: int, slots: int) -> None:
        request = self.requests[id]
        if request.admitted:
            self._plan(grants=[(request, request.limit + slots)])

    def preempt(self, id: int) -> None:
        """Its row leaves, with whatever is under way for it; what was reported stays."""
        request = self.requests[id]
        if request.admitted:
            self._leave(request)
            self._plan(releases=[id])

    def deliver(self) -> None:
        while self.wanted:
            key = self.wanted.pop()
            self.engine.receive(self._loader.load(key, GRAMMARS[key]))

    def step(self) -> None:
        if not self.engine.has_work:
            return
        report = self.engine.step()
        if report is None:
            return
        assert isinstance(report, Step)
        assert report.epoch == self._epoch
        self.steps.append(report)
        at = 0
        ids, counts = columns.as_uint64(report.ids).tolist(), columns.as_int32(report.counts).tolist()
        tokens, firsts = columns.as_int32(report.tokens).tolist(), columns.as_int32(report.firsts).tolist()
        for id, first, count, finish in zip(ids, firsts, counts, report.finishes, strict=True):
            request = self.requests[id]
            new, at = tokens[at : at + count], at + count
            assert all(token >= 0 for token in new), "nobody sees a placeholder"
            if not request.admitted:  # preempted meanwhile: as a scheduler does, take what is new
                assert new[: len(request.output) - first] == request.output[first:][: len(new)]
                continue
            assert first == len(request.output)
            request.output += new
            if finish:
                request.finish = Finish(finish)
                self._leave(request)
        for id, message in report.errors:
            self.requests[id].error = message
            self._leave(self.requests[id])

    def finish(self) -> None:
        """Run everything to its end."""
        for _ in range(400):
            self.deliver()
            waiting = [request for request in self.requests.values() if not request.ended]
            if not waiting:
                break
            for request in waiting:
                self.admit(request.id, 16)
                self.chunk(request.id, 1000)
                self.grant(request.id, 16)
            for _ in range(8):
                self.step()
        for _ in range(5):
            self.step()
        assert not self.engine.has_work

    def _leave(self, request: Request) -> None:
        request.admitted = False
        self._free += request.pages
        request.pages, request.limit = [], 0

    def _plan(
        self,
        releases: list[int] | None = None,
        admits: tuple[Admit, ...] = (),
        grants: list[tuple[Request, int]] | None = None,
        chunks: list[tuple[Request, int]] | None = None,
    ) -> None:
        self._seq += 1
        limits: list[int] = []
        pages: list[list[int]] = []
        for request, limit in grants or []:
            limit = min(limit, len(request.prompt) + request.sampling.max_tokens - 1, CONTEXT)
            request.limit = max(request.limit, limit)
            new = [self._free.pop() for _ in range(-(-request.limit // PAGE) - len(request.pages))]
            request.pages += new
            limits.append(request.limit)
            pages.append(new)
        starts = [request.planned for request, _ in chunks or []]
        for request, length in chunks or []:
            request.planned += length
        self.engine.receive(
            Plan(
                epoch=self._epoch,
                seq=self._seq,
                releases=columns.uint64(releases or []),
                admits=admits,
                grant_ids=columns.uint64(request.id for request, _ in grants or []),
                grant_limits=columns.int32(limits),
                grant_page_counts=columns.int32(len(new) for new in pages),
                grant_pages=columns.int32(page for new in pages for page in new),
                chunk_ids=columns.uint64(request.id for request, _ in chunks or []),
                chunk_starts=columns.int32(starts),
                chunk_lengths=columns.int32(length for _, length in chunks or []),
            )
        )


@pytest.fixture(scope="module")
def loaded(toy_model: Path, cache_dir: Path) -> Loaded:
    settings = Settings(
        model=str(toy_model), dtype="float32", kv_memory="1MiB", page_size=PAGE, threads=1, max_running=ROWS,
        context_length=CONTEXT, cache_dir=cache_dir,
    )  # fmt: skip
    return load(settings, lambda _: None)


@pytest.fixture(scope="module")
def execution(loaded: Loaded) -> MakeExecution:
    return pipelined(loaded)


@pytest.fixture
def ahead(loaded: Loaded, execution: MakeExecution) -> Scheduler:
    return Scheduler(loaded, execution)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[HostFacts]:
    """The steps that are launched as a whole, in order."""
    found: list[HostFacts] = []
    run = Bucket.run

    def noted(self: Bucket, facts: HostFacts, *args: Any, **kwargs: Any) -> Tensor:
        found.append(facts)
        return run(self, facts, *args, **kwargs)

    monkeypatch.setattr(Bucket, "run", noted)
    return found


samplings = st.builds(
    lambda grammar, jump, greedy, **rest: Sampling(
        grammar=None if grammar is None else Grammar(grammar, jump), temperature=0.0 if greedy else 1.0, **rest
    ),
    grammar=st.sampled_from([None, None, None, *GRAMMARS]),
    jump=st.sampled_from(list(Jump)),
    greedy=st.booleans(),
    max_tokens=st.integers(1, 40),
    seed=st.integers(0, 2**64 - 1),
    top_k=st.sampled_from([0, 5]),
    top_p=st.sampled_from([1.0, 0.8]),
    frequency_penalty=st.sampled_from([0.0, 0.7]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    min_tokens=st.sampled_from([0, 3]),
    logit_bias=st.sampled_from([(), ((EOS_ID, 4.0),), ((400, 1.0),)]),  # the last one's token does not exist
    stop_token_ids=st.sampled_from([(), (EOS_ID,), (EOS_ID, *range(60, 130))]),
)
prompts = st.lists(st.integers(3, 319), min_size=1, max_size=20)
ids = st.integers(1, 8)
actions = st.one_of(
    st.tuples(st.just("step"), st.integers(1, 4)),
    st.tuples(st.just("step"), st.integers(1, 4)),
    st.tuples(st.just("admit"), ids, st.integers(0, 12)),
    st.tuples(st.just("chunk"), ids, st.integers(1, 24)),
    st.tuples(st.just("chunk"), ids, st.just(1000)),
    st.tuples(st.just("grant"), ids, st.integers(1, 16)),
    st.tuples(st.just("preempt"), ids),
    st.tuples(st.just("deliver")),
    st.tuples(st.just("open")),
)


def play(scheduler: Scheduler, submitted: list[tuple[list[int], Sampling]], script: list[tuple[Any, ...]]) -> None:
    for id, (prompt, sampling) in enumerate(submitted, 1):
        scheduler.submit(id, prompt, sampling)
    for name, *arguments in script:
        if name == "step":
            for _ in range(arguments[0]):
                scheduler.step()
        elif name in {"deliver", "open"}:
            getattr(scheduler, name)()
        else:
            id, *rest = arguments
            if id in scheduler.requests:
                getattr(scheduler, name)(id, *rest)
    scheduler.finish()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    submitted=st.lists(st.tuples(prompts, samplings), min_size=1, max_size=8),
    script=st.lists(actions, max_size=40),
)
def test_every_request_gets_the_tokens_that_it_gets_in_lock_step(
    loaded: Loaded,
    execution: MakeExecution,
    submitted: list[tuple[list[int], Sampling]],
    script: list[tuple[Any, ...]],
) -> None:
    in_lock_step, ahead = Scheduler(loaded, None), Scheduler(loaded, execution)
    play(in_lock_step, submitted, script)
    play(ahead, submitted, script)
    for id, expected in in_lock_step.requests.items():
        found = ahead.requests[id]
        assert (found.output, found.finish, found.error) == (expected.output, expected.finish, expected.error)


def alone(scheduler: Scheduler, prompt: list[int], lease: int = 90, **sampling: Any) -> Request:
    """One request, admitted with room for all of it, and its prompt's chunk planned."""
    id = len(scheduler.requests) + 1
    scheduler.submit(id, prompt, Sampling(**{"max_tokens": 12, "temperature": 0.0, **sampling}))
    scheduler.admit(id, lease)
    scheduler.chunk(id, 1000)
    scheduler.deliver()
    return scheduler.requests[id]


def unseen(scheduler: Scheduler, request: Request) -> int:
    batch = scheduler.engine._batch
    row = batch.row_of(request.id)
    assert row is not None
    return int(batch.unseen[row])


def test_a_step_is_launched_before_the_last_one_is_told(ahead: Scheduler, launched: list[HostFacts]) -> None:
    request = alone(ahead, [5, 6, 7])
    ahead.step()
    assert (len(ahead.steps), unseen(ahead, request)) == (0, 1)
    for told in range(1, 6):
        ahead.step()
        assert (len(request.output), len(launched), unseen(ahead, request)) == (told, told + 1, 1)
    ahead.finish()


def test_no_step_is_launched_beyond_an_end_that_is_known(ahead: Scheduler) -> None:
    request = alone(ahead, [5, 6, 7], max_tokens=7)
    long = alone(ahead, list(range(10, 10 + CONTEXT - 5)), max_tokens=30, lease=4)
    ahead.finish()
    assert (len(request.output), request.finish) == (7, Finish.LENGTH)
    assert (len(long.output), long.finish) == (5, Finish.LENGTH)
    assert sum(step.computed for step in ahead.steps) == 3 + 6 + (CONTEXT - 5) + 4


def test_what_was_drawn_beyond_a_stop_is_never_told(ahead: Scheduler) -> None:
    whole = alone(ahead, [5, 6, 7])
    ahead.finish()
    stop = whole.output[4]
    begun = len(ahead.steps)
    request = alone(ahead, [5, 6, 7], stop_token_ids=(stop,))
    ahead.finish()
    steps = ahead.steps[begun:]
    assert request.finish is Finish.STOP
    assert request.output == whole.output[: whole.output.index(stop) + 1]
    assert sum(len(step.tokens) // 4 for step in steps) == len(request.output)
    assert sum(step.computed for step in steps) == 3 + len(request.output), "one step more than was needed"


@pytest.mark.parametrize("jump", list(Jump))
def test_rows_with_resident_automata_run_ahead(ahead: Scheduler, jump: Jump) -> None:
    request = alone(ahead, [5, 6, 7], max_tokens=60, grammar=Grammar("open", jump), temperature=1.0, seed=5)
    seen: list[int] = []
    while not request.ended:
        ahead.step()
        ahead.deliver()
        if ahead.engine._batch.row_of(request.id) is not None:
            seen.append(unseen(ahead, request))
    ahead.finish()
    assert seen.count(1) > len(seen) / 2
    assert len(request.output) > 10


@pytest.mark.parametrize("name", ["large", "nested"])
def test_rows_that_the_host_follows_take_part_in_every_second_step(ahead: Scheduler, name: str) -> None:
    held = alone(ahead, [5, 6, 7], max_tokens=40, grammar=Grammar(name, Jump.OFF), temperature=1.0)
    free = alone(ahead, [8, 9], max_tokens=40)
    for _ in range(16):
        ahead.step()
        ahead.deliver()
    assert not held.ended
    assert len(held.output) == pytest.approx(len(free.output) / 2, abs=2)
    ahead.finish()


def test_forced_runs_are_launched_as_a_whole(ahead: Scheduler, launched: list[HostFacts]) -> None:
    alone(ahead, [8, 9], max_tokens=40)
    request = alone(ahead, [5, 6, 7], max_tokens=60, grammar=Grammar("record"), temperature=1.0, seed=3)
    ahead.finish()
    assert request.finish is Finish.STOP
    assert max(facts.max_new for facts in launched) > 2
    assert any(facts.num_decodes for facts in launched if facts.max_new > 1), "beside rows of one token"


def test_a_request_that_the_sampler_cannot_hold_fails_alone(ahead: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    request = alone(ahead, [5, 6, 7])
    ahead.step()
    with monkeypatch.context() as patched:
        patched.setattr(DeviceSampler, "admit", _refuse)
        refused = alone(ahead, [5, 6, 7], grammar=Grammar("text"))
        ahead.step()
    ahead.finish()
    assert refused.error == "too much"
    assert request.finish is Finish.LENGTH


def _refuse(*_: object) -> None:
    raise ValueError("too much")


def test_without_graphs_every_step_is_launched_in_pieces(loaded: Loaded, launched: list[HostFacts]) -> None:
    outputs: list[list[int]] = []
    for execution in (None, pipelined(loaded, graphs=False)):
        scheduler = Scheduler(loaded, execution)
        free = alone(scheduler, [8, 9], max_tokens=20, temperature=1.0)
        held = alone(scheduler, [5, 6, 7], max_tokens=60, grammar=Grammar("record"), temperature=1.0, seed=3)
        scheduler.finish()
        outputs.append(free.output + held.output)
    assert outputs[0] == outputs[1]
    assert not launched
