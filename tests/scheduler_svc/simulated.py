"""A worker without a model: obeys plans to the letter and notices every wrong use of a KV page.

With ``longest_run`` it appends up to so many tokens after each one it draws, and before the first one, as grammars
force them: they are the tokens it would have drawn, but their KV comes only with the next step.

What a token scores is made of the digest of the tokens before it, and so is a prompt's vector of its last one's. Rows
that are scored have no forced tokens.

What it keeps in a KV slot is a digest of the whole sequence up to that position, so that reading a slot
that holds anything but the row's own past is caught at once.
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from shared import columns
from shared.protocol import Finish, Generate, ModelCard, Plan, Pooling, Sampling, Scores, Scoring, Step, Vector

VOCABULARY = 5


def card(num_pages: int = 64, page_size: int = 4, max_running: int = 8, chunk_tokens: int = 16, context: int = 4096):
    return ModelCard(
        model="toy",
        architecture="toy",
        dtype="float32",
        device="cpu",
        vocab_size=VOCABULARY,
        context_length=context,
        page_size=page_size,
        num_pages=num_pages,
        max_running=max_running,
        chunk_tokens=chunk_tokens,
    )


def generate(
    id: int,
    prompt: list[int],
    max_tokens: int = 8,
    *,
    namespace: str = "",
    stop: int | None = None,
    priority: int = 0,
    arrived: float = 0.0,
    reply_to: str = "t0",
    tenant: str = "",
    deadline: float = 0.0,
    scoring: Scoring | None = None,
    pooling: Pooling | None = None,
    group: str = "",
    context: str = "",
) -> Generate:
    return Generate(
        id=id,
        input_ids=columns.int32(prompt),
        sampling=Sampling(
            max_tokens=max_tokens,
            temperature=0.0,
            stop_token_ids=() if stop is None else (stop,),
            scoring=scoring,
            pooling=pooling,
        ),
        namespace=namespace,
        priority=priority,
        reply_to=reply_to,
        detokenizer="d0",
        arrived=arrived,
        tenant=tenant,
        deadline=deadline,
        group=group,
        context=context,
    )


def digests(namespace: str, tokens: list[int]) -> list[int]:
    """One digest for each prefix of ``tokens``."""
    found: list[int] = []
    digest = zlib.crc32(namespace.encode())
    for token in tokens:
        digest = hash((digest, token))
        found.append(digest)
    return found


def next_token(digest: int) -> int:
    return (digest >> 7) % VOCABULARY


def expected(request: Generate) -> list[int]:
    """The output that ``request`` must get, whatever happens."""
    tokens = columns.as_int32(request.input_ids).tolist()
    output: list[int] = []
    digest = digests(request.namespace, tokens)[-1]
    while len(output) < request.sampling.max_tokens:
        output.append(next_token(digest))
        if output[-1] in request.sampling.stop_token_ids:
            break
        digest = hash((digest, output[-1]))
    return output


def scored(id: int, digest: int, position: int) -> Scores:
    """What the token at ``position`` scores after the tokens that ``digest`` is of."""
    return Scores(id, position, struct.pack("<f", -(digest % 997) / 8), struct.pack("<i", 1 + digest % 5))


def vector_of(id: int, digest: int) -> Vector:
    return Vector(id, struct.pack("<f", digest % 997))


class WorkerDied(Exception):
    """What a poisonous request does."""


@dataclass
class Row:
    tokens: list[int]
    past: list[int]  # digests of the tokens
    prompt_len: int
    input_len: int
    sampling: Sampling
    pages: list[int]
    computed: int
    unscored: int
    limit: int = 0


@dataclass
class SimulatedWorker:
    card: ModelCard
    namespaces: dict[int, str]  # of each request: a real worker does not know them
    random: Random = field(default_factory=lambda: Random(0))
    longest_run: int = 0
    failures: dict[int, str] = field(default_factory=dict)  # rows that end in an error when their input is complete

    deadly: dict[int, int] = field(default_factory=dict)  # rows whose token with this index kills the worker

    def __post_init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.inbox: deque[Plan] = deque()
        self.kv: dict[int, int] = {}
        self.epoch = 0
        self.seq = 0
        self.applied = 0
        self.computed: list[tuple[int, int, int]] = []  # (request, start, length) of every chunk

    def open(self, epoch: int) -> None:
        self.epoch, self.applied, self.seq = epoch, 0, 0
        self.rows.clear()
        self.inbox.clear()

    def obey(self, plan: Plan) -> None:
        if plan.epoch == self.epoch and plan.seq > (self.inbox[-1].seq if self.inbox else self.applied):
            self.inbox.append(plan)

    @property
    def busy(self) -> bool:
        return bool(self.inbox) or any(self._ready(row) for row in self.rows.values())

    def step(self, plans: int = 1_000_000, burst: int = 1) -> Step:
        """Apply up to ``plans`` plans, then one forward in which a row may use up to ``burst`` slots."""
        chunks: list[tuple[int, int, int]] = []
        while self.inbox and plans > 0:
            if chunks and self.inbox[0].chunk_ids:
                break
            chunks += self._apply(self.inbox.popleft())
            plans -= 1
        decoding = [id for id, row in self.rows.items() if self._ready(row)]
        return self._forward(chunks, decoding, burst)

    def _ready(self, row: Row) -> bool:
        return row.computed >= row.input_len and row.computed < min(row.limit, len(row.tokens))

    def _apply(self, plan: Plan) -> list[tuple[int, int, int]]:
        assert plan.seq == self.applied + 1
        self.applied = plan.seq
        for id in columns.as_uint64(plan.releases).tolist():
            self.rows.pop(id, None)
        for admit in plan.admits:
            assert admit.id not in self.rows
            tokens = columns.as_int32(admit.input_ids).tolist()
            pages = columns.as_int32(admit.pages).tolist()
            assert admit.cached_len == len(pages) * self.card.page_size < len(tokens)
            past = digests(self.namespaces[admit.id], tokens)
            self.rows[admit.id] = Row(
                tokens, past, admit.prompt_len, len(tokens), admit.sampling, pages, admit.cached_len, admit.unscored
            )
            assert admit.sampling.scoring is None or admit.cached_len < admit.unscored <= len(tokens)
        assert len(self.rows) <= self.card.max_running
        pages, at = columns.as_int32(plan.grant_pages).tolist(), 0
        limits, counts = columns.as_int32(plan.grant_limits).tolist(), columns.as_int32(plan.grant_page_counts).tolist()
        for id, limit, count in zip(columns.as_uint64(plan.grant_ids).tolist(), limits, counts, strict=True):
            if id in self.rows:  # it may have finished since
                row = self.rows[id]
                row.pages += pages[at : at + count]
                assert limit > row.limit
                assert limit <= len(row.pages) * self.card.page_size
                assert limit <= row.prompt_len + max(1, row.sampling.max_tokens) - 1
                assert len(set(row.pages)) == len(row.pages)
                row.limit = limit
            at += count
        assert at == len(pages)
        assert all(0 <= page < self.card.num_pages for page in pages)
        starts, lengths = columns.as_int32(plan.chunk_starts).tolist(), columns.as_int32(plan.chunk_lengths).tolist()
        assert sum(lengths) <= self.card.chunk_tokens
        return list(zip(columns.as_uint64(plan.chunk_ids).tolist(), starts, lengths, strict=True))

    def _slot(self, row: Row, position: int) -> int:
        page = row.pages[position // self.card.page_size]
        return page * self.card.page_size + position % self.card.page_size

    def _forward(self, chunks: list[tuple[int, int, int]], decoding: list[int], burst: int) -> Step:
        writes: dict[int, int] = {}
        reads: dict[int, int] = {}
        columns_: list[tuple[int, int, list[int], int, int]] = []
        errors: list[tuple[int, str]] = []
        had = {id: row.computed for id, row in self.rows.items()}
        seen = dict(self.rows)
        total = 0
        for id, start, length in chunks:
            row = self.rows[id]  # a planned chunk is always executed, so its row must be here
            assert start == row.computed
            assert length > 0
            assert start + length <= row.input_len
            assert start + length <= row.limit
            first = len(row.tokens) - row.prompt_len
            is_last = start + length == row.input_len and id not in self.failures
            finish, end = self._begun(row, start + length) if is_last else (Finish.NONE, start + length)
            self._compute(row, end, reads, writes)
            self.computed.append((id, start, length))
            total += end - start
            if row.computed >= row.input_len:
                self._survive(id, row)
                if id in self.failures:
                    errors.append((id, self.failures[id]))
                    del self.rows[id]
                    continue
                if not finish and row.computed == len(row.tokens):
                    finish = self._drawn(row, 1 + self._run_length(row))
                if finish:
                    del self.rows[id]
                new = row.tokens[row.prompt_len + first :]
                columns_.append((id, first, new, len(row.tokens) - row.computed, finish))
        for id in decoding:
            row = self.rows[id]
            tokens: list[int] = []
            first = len(row.tokens) - row.prompt_len
            finish = Finish.NONE
            for _ in range(self.random.randint(1, burst)):
                if not self._ready(row):
                    break
                self._survive(id, row)
                before = row.computed
                self._compute(row, min(len(row.tokens), row.limit), reads, writes)
                total += row.computed - before
                if row.computed == len(row.tokens):
                    finish = self._drawn(row, 1 + self._run_length(row))
                    tokens = row.tokens[row.prompt_len + first :]
                if finish:
                    del self.rows[id]
                    break
            columns_.append((id, first, tokens, len(row.tokens) - row.computed, finish))
        assert all(self.kv.get(slot) == digest for slot, digest in reads.items()), "KV read that is not the row's own"
        assert not writes.keys() & reads.keys(), "KV written while another row reads it"
        self.kv |= writes
        self.seq += 1
        pendings = [pending for *_, pending, _ in columns_]
        return Step(
            epoch=self.epoch,
            seq=self.seq,
            plan=self.applied,
            ids=columns.uint64(id for id, *_ in columns_),
            firsts=columns.int32(first for _, first, *_ in columns_),
            counts=columns.int32(len(tokens) for _, _, tokens, *_ in columns_),
            tokens=columns.int32(token for _, _, tokens, *_ in columns_ for token in tokens),
            finishes=columns.uint8(finish for *_, finish in columns_),
            pending=columns.int32(pendings) if any(pending != 1 for pending in pendings) else b"",
            errors=tuple(errors),
            computed=total,
            scores=tuple(each for id, row in seen.items() for each in self._scored(id, row, had[id])),
            vectors=tuple(
                vector_of(id, row.past[row.prompt_len - 1])
                for id, row in seen.items()
                if row.sampling.pooling is not None and had[id] < row.prompt_len <= row.computed
            ),
        )

    def _scored(self, id: int, row: Row, before: int) -> Iterator[Scores]:
        """Tokens after those computed now, known before or drawn now."""
        if row.sampling.scoring is None:
            return
        positions = range(max(before + 1, row.unscored), row.computed + 1)
        yield from (scored(id, row.past[at - 1], at) for at in positions if at < len(row.tokens))
        assert sum(at < row.input_len for at in positions) <= 512

    def _survive(self, id: int, row: Row) -> None:
        if len(row.tokens) - row.prompt_len == self.deadly.get(id):
            raise WorkerDied

    def _compute(self, row: Row, end: int, reads: dict[int, int], writes: dict[int, int]) -> None:
        for position in range(row.computed):
            slot = self._slot(row, position)
            if slot in writes:
                assert writes[slot] == row.past[position], "KV of another row's step"
                assert position >= row.input_len, "KV read in the step that computes it"
            else:
                reads[slot] = row.past[position]
        for position in range(row.computed, end):
            slot = self._slot(row, position)
            assert slot not in writes, "two rows write one slot"
            writes[slot] = row.past[position]
        row.computed = end

    def _begun(self, row: Row, end: int) -> tuple[Finish, int]:
        """What is forced at the start of an output is computed with the prompt, as far as it fits."""
        if len(row.tokens) > row.prompt_len:
            return Finish.NONE, end
        finish = self._drawn(row, self._run_length(row))
        return finish, end if finish else max(end, min(len(row.tokens), row.limit))

    def _run_length(self, row: Row) -> int:
        return 0 if row.sampling.scoring is not None else self.random.randint(0, self.longest_run)

    def _drawn(self, row: Row, count: int) -> Finish:
        """Append tokens, up to one that ends the row."""
        if not row.sampling.max_tokens:
            return Finish.LENGTH
        for _ in range(count):
            token = next_token(row.past[-1])
            row.tokens.append(token)
            row.past.append(hash((row.past[-1], token)))
            if token in row.sampling.stop_token_ids:
                return Finish.STOP
            if len(row.tokens) - row.prompt_len == row.sampling.max_tokens:
                return Finish.LENGTH
        return Finish.NONE
