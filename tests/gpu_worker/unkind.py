"""A scheduler that is unkind to an engine: odd chunks, preemption, new epochs, pages given away at once.

What it is told of requests it keeps, and checks as a scheduler would: tokens in order, scores without holes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gpu_worker.engine import Engine, Structure
from gpu_worker.execution import MakeExecution
from gpu_worker.grammar.loading import GrammarLoader
from gpu_worker.startup import Loaded
from shared import columns
from shared.grammar import Guidance, encode
from shared.protocol import Admit, Finish, Open, Opened, Plan, Sampling, Step, Vector
from shared.scores import GrowingScores, first_scored
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
    scores: GrowingScores | None = None
    vector: Vector | None = None

    def __post_init__(self) -> None:
        scoring = self.sampling.scoring
        if scoring is not None:
            self.scores = GrowingScores(self.id, first_scored(scoring, len(self.prompt)))

    @property
    def ended(self) -> bool:
        return self.finish is not None or self.error is not None


class Scheduler:
    """As much of a scheduler as it takes."""

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
        unscored = 0 if request.scores is None else request.scores.end
        admission = Admit(id, columns.int32(tokens), len(request.prompt), 0, request.sampling, b"", unscored)
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
        for scores in report.scores:
            request = self.requests[scores.id]
            assert request.scores is not None
            if request.admitted:  # else they come again, with the tokens that are not taken either
                assert request.scores.add(scores), "there is no hole"
        for vector in report.vectors:
            self.requests[vector.id].vector = vector
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
            if request.scores is not None:
                assert request.scores.end == len(request.prompt) + len(request.output)
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
            limit = min(limit, len(request.prompt) + max(1, request.sampling.max_tokens) - 1, CONTEXT)
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
