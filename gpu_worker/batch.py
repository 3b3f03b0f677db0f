"""The persistent batch: every row the worker holds, as columns, and the plans that change them.

Pure numpy: plans in, flat index arrays out. Knows nothing of tensors, models or streams.

A row occupies one index from admission to its end. Its tokens (prompt and output) stand in one line
of ``tokens``; ``computed`` of them have their KV in the pool; KV of positions below ``limit`` may be
written. A row whose input is computed has one token without KV, the last one drawn, and more where a
grammar forced tokens after it: all of them that fit go through the model together.

Where steps are launched before the tokens of the last one are known, a row's last tokens may be ``unseen``: they stand
in its line as placeholders, which say where the device finds them, and count in ``length`` like any others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpu_worker.pooling import PoolSpan
from gpu_worker.scoring import Want
from gpu_worker.sharing import Sharing, find_sharing, nothing_shared
from shared import columns
from shared.protocol import Admit, Finish, Plan, Pooling, Sampling

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


class PlanError(RuntimeError):
    """A plan that contradicts the batch: the scheduler and this worker no longer agree."""


class Chunk(NamedTuple):
    """Tokens [start, start + length) of one row's input, to be computed in the next step."""

    row: int
    start: int
    length: int


class StepInputs(NamedTuple):
    """One step's work as flat arrays: T tokens, R rows (decode rows first), L rows that sample."""

    rows: Int64  # [R] row indices
    input_ids: Int64  # [T]
    positions: Int64  # [T]
    slots: Int64  # [T]
    starts: Int32  # [R + 1]
    kv_lens: Int32  # [R]
    page_tables: Int32  # [R, P]
    num_decodes: int  # leading rows of one token
    sampling_rows: Int64  # [L] row indices whose next token is drawn
    logit_indices: Int64  # [L + S] flat positions of their last tokens, and of those that score known tokens
    sharing: Sharing  # of the decode rows
    scored: Sequence[Want] = ()  # what the last S logits score
    complete: Sequence[int] = ()  # rows whose input is computed now, and that draw nothing
    pooled: Sequence[PoolSpan] = ()  # of prompts whose vectors are wanted
    state_indices: Int64 | None = None  # [M] flat positions of the tokens of these; None without any


class Outcome(NamedTuple):
    """What is new of one row."""

    id: int
    first: int  # token index of the first new token
    tokens: list[int]
    forced: list[int]  # 1 for each token that a grammar forced
    pending: int  # tokens of the row without KV
    finish: Finish


class Batch:
    """Columns of all rows, up to ``max_rows`` of ``context_length`` tokens each."""

    def __init__(self, max_rows: int, context_length: int, page_size: int) -> None:
        self.page_size = page_size
        self.context_length = context_length
        self._index: dict[int, int] = {}
        self._free = list(range(max_rows - 1, -1, -1))
        pages = -(-context_length // page_size)
        self.tokens: Int32 = np.zeros((max_rows, context_length + 1), np.int32)
        self.page_tables: Int32 = np.zeros((max_rows, pages), np.int32)
        self.num_pages: Int32 = np.zeros(max_rows, np.int32)
        self.length: Int32 = np.zeros(max_rows, np.int32)  # tokens known
        self.computed: Int32 = np.zeros(max_rows, np.int32)  # tokens with KV
        self.limit: Int32 = np.zeros(max_rows, np.int32)  # granted slots
        self.prompt_len: Int32 = np.zeros(max_rows, np.int32)
        self.input_len: Int32 = np.zeros(max_rows, np.int32)  # tokens it was admitted with
        self.reported: Int32 = np.zeros(max_rows, np.int32)  # tokens the scheduler knows of
        self.unseen: Int32 = np.zeros(max_rows, np.int32)  # of those known, drawn but not read by the host
        self.occupied = np.zeros(max_rows, np.bool_)
        self.held = np.zeros(max_rows, np.bool_)  # nothing of the row is to be computed now
        self.version: Int64 = np.zeros(max_rows, np.int64)  # raised when what was expected of the row is void
        self.finish: list[Finish] = [Finish.NONE] * max_rows
        self.ids: list[int] = [0] * max_rows
        self.sampling: list[Sampling | None] = [None] * max_rows
        self.stops: list[frozenset[int]] = [frozenset()] * max_rows
        self.unscored: Int32 = np.zeros(max_rows, np.int32)  # of rows that want scores: the first position to be scored
        self._scoring: set[int] = set()  # rows that want scores
        self._unusual: set[int] = set()  # rows that want a vector, or no token
        self._forced = np.zeros((max_rows, context_length + 1), np.uint8)
        self._admissions = 0
        self._sharing: tuple[tuple[int, bytes], Sharing] | None = None  # of the latest decode rows

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, request_id: int) -> bool:
        return request_id in self._index

    def clear(self) -> None:
        """Forget every row."""
        for request_id in tuple(self._index):
            self.release(request_id)

    def apply(self, plan: Plan) -> list[Chunk]:
        """Change the batch as the plan says; returns the chunks to compute in the next step.

        Raises PlanError when the plan does not fit: an unknown row, a slot that was not granted.
        """
        for request_id in columns.as_uint64(plan.releases).tolist():
            self.release(request_id)
        for admit in plan.admits:
            self._admit(admit)
        self._grant(plan)
        return self._chunks(plan)

    def release(self, request_id: int) -> None:
        """Forget a row; harmless when it has ended by itself meanwhile."""
        row = self._index.pop(request_id, None)
        if row is not None:
            self.occupied[row] = False
            self.held[row] = False
            self.unseen[row] = 0
            self.version[row] += 1
            self.sampling[row] = None
            self._scoring.discard(row)
            self._unusual.discard(row)
            self._free.append(row)

    def _admit(self, admit: Admit) -> None:
        if admit.id in self._index:
            raise PlanError(f"request {admit.id:016x} is admitted twice")
        if not self._free:
            raise PlanError(f"all {len(self.ids)} rows are taken")
        input_ids = columns.as_int32(admit.input_ids)
        pages = columns.as_int32(admit.pages)
        row = self._free.pop()
        self._admissions += 1
        self._index[admit.id] = row
        self.ids[row] = admit.id
        self.sampling[row] = admit.sampling
        self.stops[row] = frozenset(admit.sampling.stop_token_ids)
        self.tokens[row, : len(input_ids)] = input_ids
        self.page_tables[row, : len(pages)] = pages
        self.num_pages[row] = len(pages)
        self.length[row] = self.input_len[row] = self.reported[row] = len(input_ids)
        self.prompt_len[row] = admit.prompt_len
        self.occupied[row] = True
        self.finish[row] = Finish.NONE
        self._forced[row] = 0
        self.computed[row] = admit.cached_len
        self.limit[row] = admit.cached_len
        self.unscored[row] = admit.unscored
        if admit.sampling.scoring is not None:
            self._scoring.add(row)
        if admit.sampling.pooling is not None or not admit.sampling.max_tokens:
            self._unusual.add(row)

    def _grant(self, plan: Plan) -> None:
        pages = columns.as_int32(plan.grant_pages)
        limits = columns.as_int32(plan.grant_limits).tolist()
        counts = columns.as_int32(plan.grant_page_counts).tolist()
        at = 0
        for request_id, limit, count in zip(columns.as_uint64(plan.grant_ids).tolist(), limits, counts, strict=True):
            row = self._index.get(request_id)
            if row is not None:  # it may have finished while the grant was under way
                held = int(self.num_pages[row])
                if held + count > self.page_tables.shape[1]:
                    raise PlanError(f"request {request_id:016x}: {held + count} pages for {self.context_length} tokens")
                self.page_tables[row, held : held + count] = pages[at : at + count]
                self.num_pages[row] = held + count
                if limit > (held + count) * self.page_size:
                    raise PlanError(f"request {request_id:016x}: {limit} slots granted on {held + count} pages")
                self.limit[row] = limit
            at += count

    def _chunks(self, plan: Plan) -> list[Chunk]:
        chunks: list[Chunk] = []
        starts = columns.as_int32(plan.chunk_starts).tolist()
        lengths = columns.as_int32(plan.chunk_lengths).tolist()
        for request_id, start, length in zip(columns.as_uint64(plan.chunk_ids).tolist(), starts, lengths, strict=True):
            row = self._index.get(request_id)
            if row is None:
                raise PlanError(f"request {request_id:016x} has a chunk but no row")
            if start != self.computed[row] or start + length > min(self.limit[row], self.length[row]):
                raise PlanError(
                    f"request {request_id:016x}: chunk [{start}, {start + length}) with {self.computed[row]} computed,"
                    f" {self.limit[row]} granted, {self.length[row]} known"
                )
            chunks.append(Chunk(row, start, length))
        return chunks

    def row_of(self, request_id: int) -> int | None:
        """Where a request stands, None if it has left."""
        return self._index.get(request_id)

    @property
    def runnable(self) -> bool:
        """Whether a row whose input is computed has a token to compute and a granted slot for it."""
        return bool(self._runnable().any())

    def _runnable(self) -> NDArray[np.bool_]:
        ready = self.occupied & ~self.held & (self.computed >= self.input_len)
        return ready & (self.computed < np.minimum(self.length, self.limit))

    def gather(self, chunks: Sequence[Chunk], extra: int, *, with_tables: bool = True) -> StepInputs:
        """Everything that can run now: these chunks, and all rows whose input is computed.

        Such a row computes its next token, and as many more of those forced on it as are left of ``extra``. Without
        ``with_tables`` the page tables stay empty: whoever keeps them on the device has them there.
        """
        active = np.flatnonzero(self._runnable())
        counts = (np.minimum(self.length[active], self.limit[active]) - self.computed[active]).astype(np.int64)
        spans: list[Chunk] = []
        if (counts > 1).any():
            counts, spans = self._extends(active, counts, extra)
        decode = active[counts == 1]
        at = self.computed[decode].astype(np.int64)
        rows, ids, positions = [decode], [self.tokens[decode, at].astype(np.int64)], [at]
        slots = [self._slots(decode, at)]
        lengths = [np.ones(len(decode), np.int32)]
        spans += chunks
        for row, start, length in spans:
            span = np.arange(start, start + length)
            rows.append(np.array([row]))
            ids.append(self.tokens[row, start : start + length].astype(np.int64))
            positions.append(span)
            slots.append(self._slots(np.full(length, row), span))
            lengths.append(np.array([length], np.int32))
        all_rows = np.concatenate(rows)
        row_lengths = np.concatenate(lengths)
        starts = np.zeros(len(all_rows) + 1, np.int32)
        np.cumsum(row_lengths, out=starts[1:])
        kv_lens = np.empty(len(all_rows), np.int32)
        kv_lens[: len(decode)] = at + 1
        kv_lens[len(decode) :] = [span.start + span.length for span in spans]
        widest = -(-int(kv_lens.max()) // self.page_size) if with_tables else 0
        samples = kv_lens == self.length[all_rows]
        inputs = StepInputs(
            rows=all_rows,
            input_ids=np.concatenate(ids),
            positions=np.concatenate(positions),
            slots=np.concatenate(slots),
            starts=starts,
            kv_lens=kv_lens,
            page_tables=np.ascontiguousarray(self.page_tables[all_rows, :widest]),
            num_decodes=len(decode),
            sampling_rows=all_rows[samples],
            logit_indices=(starts[1:][samples] - 1).astype(np.int64),
            sharing=self._shared_by(decode),
        )
        if self._unusual:
            inputs = self._with_unusual(inputs)
        return self._with_scored(inputs) if self._scoring else inputs

    def _with_unusual(self, inputs: StepInputs) -> StepInputs:
        """Draw nothing for rows that want no token, and pool what is wanted of prompts."""
        draws = np.array([self._draws_any(row) for row in inputs.sampling_rows.tolist()], np.bool_)
        spans: list[PoolSpan] = []
        places: list[Int64] = []
        for row, begin, end, kv_len in _spans(inputs):
            pooling, prompt_len = self._pooling(row), int(self.prompt_len[row])
            first, stop = kv_len - (end - begin), min(kv_len, prompt_len)
            if pooling is Pooling.LAST:
                first = max(first, prompt_len - 1)
            if pooling is not None and first < stop:
                span = PoolSpan(
                    row, self.ids[row], stop - first, pooling, first == 0, prompt_len, is_last=stop == prompt_len
                )
                spans.append(span)
                places.append(np.arange(end - kv_len + first, end - kv_len + stop))
        return inputs._replace(
            sampling_rows=inputs.sampling_rows[draws],
            logit_indices=inputs.logit_indices[draws],
            complete=inputs.sampling_rows[~draws].tolist(),
            pooled=spans,
            state_indices=np.concatenate(places) if places else None,
        )

    def _with_scored(self, inputs: StepInputs) -> StepInputs:
        """Score the known tokens that follow those of this step, where they are wanted."""
        wants: list[Want] = []
        places = [inputs.logit_indices]
        for row, begin, end, kv_len in _spans(inputs):
            if row not in self._scoring:
                continue
            first = max(kv_len - (end - begin) + 1, int(self.unscored[row]))
            count = min(kv_len, int(self.length[row]) - 1) - first + 1
            if count > 0:
                wants.append(self._want(row, first, count))
                places.append(np.arange(count) + (end - kv_len + first - 1))
        return inputs._replace(logit_indices=np.concatenate(places), scored=wants) if wants else inputs

    def next_wants(self, rows: Sequence[int]) -> dict[int, Want]:
        """What is wanted of the tokens that are drawn next for these rows, by their places; -1 is no row."""
        if not self._scoring:
            return {}
        return {at: self._want(row, int(self.length[row]), 1) for at, row in enumerate(rows) if row in self._scoring}

    def tokens_of(self, wants: Sequence[Want]) -> list[int]:
        """The known tokens that are scored."""
        return [
            token for want in wants for token in self.tokens[want.row, want.first : want.first + want.length].tolist()
        ]

    def _want(self, row: int, first: int, count: int) -> Want:
        sampling = self.sampling[row]
        assert sampling is not None, "a free row wants nothing"
        assert sampling.scoring is not None, "only those that want scores are asked"
        return Want(row, self.ids[row], first, count, sampling.scoring.top, sampling.scoring.ids)

    def _draws_any(self, row: int) -> bool:
        sampling = self.sampling[row]
        return sampling is None or sampling.max_tokens > 0

    def _pooling(self, row: int) -> Pooling | None:
        sampling = self.sampling[row]
        return None if sampling is None else sampling.pooling

    def _shared_by(self, decode: Int64) -> Sharing:
        """Pages that these rows share. New pages are a row's own, so it stays as it is while the rows do."""
        if len(decode) < 2:
            return nothing_shared(len(decode))
        key = (self._admissions, decode.tobytes())
        if self._sharing is None or self._sharing[0] != key:
            tables = self.page_tables[decode, : int(self.num_pages[decode].max())]
            self._sharing = key, find_sharing(tables, self.computed[decode] + 1, self.page_size)
        return self._sharing[1]

    def _extends(self, active: Int64, counts: Int64, extra: int) -> tuple[Int64, list[Chunk]]:
        """Cut ``counts`` to the budget; the rows that compute more than one token, as spans."""
        spans: list[Chunk] = []
        for place in np.flatnonzero(counts > 1).tolist():
            count = 1 + min(int(counts[place]) - 1, max(0, extra))
            extra -= count - 1
            counts[place] = count
            if count > 1:
                row = int(active[place])
                spans.append(Chunk(row, int(self.computed[row]), count))
        return counts, spans

    def computed_now(self, inputs: StepInputs) -> None:
        """The step ran: KV of its tokens is in the pool."""
        self.computed[inputs.rows] = inputs.kv_lens

    def behind(self, inputs: StepInputs) -> list[int]:
        """Rows of a step that have output tokens without KV: not all that was forced on them fitted into it."""
        rows = inputs.rows
        is_behind = (self.computed[rows] >= self.input_len[rows]) & (self.computed[rows] < self.length[rows])
        return rows[is_behind].tolist()

    def extend(self, row: int, tokens: Sequence[int], *, forced: bool = False) -> int:
        """Append tokens, up to the one that ends the row, if one does. Returns how many it took."""
        sampling = self.sampling[row]
        assert sampling is not None, "a free row cannot grow"
        stops, length = self.stops[row], int(self.length[row])
        index = length - int(self.prompt_len[row])
        taken = 0
        for token in tokens:
            self.tokens[row, length] = token
            self._forced[row, length] = forced
            length += 1
            taken += 1
            if token in stops and index >= sampling.min_tokens:
                self.finish[row] = Finish.STOP
            elif index + 1 >= sampling.max_tokens or length >= self.context_length:
                self.finish[row] = Finish.LENGTH
            if self.finish[row] is not Finish.NONE:
                break
            index += 1
        self.length[row] = length
        return taken

    def expect(self, rows: Int64) -> None:
        """A token is being drawn for each of these rows, none of them twice; nobody has seen it yet."""
        self.tokens[rows, self.length[rows]] = placeholders(rows)
        self.length[rows] += 1
        self.unseen[rows] += 1

    def recall(self, row: int) -> int:
        """Take a row back to the tokens that have been seen. Returns how many had not."""
        unseen = int(self.unseen[row])
        self.length[row] -= unseen
        self.unseen[row] = 0
        return unseen

    def outcome(self, row: int, computed: int | None = None) -> Outcome:
        """What became of a row since this was asked last. A row that has ended leaves the batch.

        ``computed`` of its tokens had their KV then, by default as many as have it now.
        """
        begin, end = int(self.reported[row]), int(self.length[row] - self.unseen[row])
        prompt_len = int(self.prompt_len[row])
        self.reported[row] = end
        outcome = Outcome(
            id=self.ids[row],
            first=begin - prompt_len,
            tokens=self.tokens[row, begin:end].tolist(),
            forced=self._forced[row, begin:end].tolist(),
            pending=end - (int(self.computed[row]) if computed is None else computed),
            finish=self.finish[row],
        )
        if outcome.finish is not Finish.NONE:
            self.release(outcome.id)
        return outcome

    def _slots(self, rows: NDArray[np.signedinteger], positions: Int64) -> Int64:
        pages = self.page_tables[rows, positions // self.page_size].astype(np.int64)
        return pages * self.page_size + positions % self.page_size


def placeholders(rows: Int64) -> Int64:
    """In place of the ids of unseen tokens of these rows: negative numbers; the function is its own inverse.

    The device finds the id at the token's position in the history that it keeps of the row.
    """
    return -1 - rows


def _spans(inputs: StepInputs) -> Iterable[tuple[int, int, int, int]]:
    """Of each row of a step: its index, its flat tokens [begin, end), and how many tokens have KV with these."""
    starts = inputs.starts.tolist()
    return zip(inputs.rows.tolist(), starts, starts[1:], inputs.kv_lens.tolist(), strict=False)
