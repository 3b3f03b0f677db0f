"""The persistent batch: every row the worker holds, as columns, and the plans that change them.

Pure numpy: plans in, flat index arrays out. Knows nothing of tensors, models or streams.

A row occupies one index from admission to its end. Its tokens (prompt and output) stand in one line
of ``tokens``; ``computed`` of them have their KV in the pool; KV of positions below ``limit`` may be
written. A row whose prompt is computed has exactly one token without KV, the last one sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared import columns
from shared.protocol import Admit, Finish, Plan, Sampling

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
    num_decodes: int
    sampling_rows: Int64  # [L] row indices whose next token is drawn
    logit_indices: Int64  # [L] flat positions of their last tokens


class Outcome(NamedTuple):
    """What one row's new token led to."""

    id: int
    token_index: int
    token: int
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
        self.decoding = np.zeros(max_rows, np.bool_)  # occupied, and its whole input is computed
        self.ids: list[int] = [0] * max_rows
        self.sampling: list[Sampling | None] = [None] * max_rows
        self._stops: list[frozenset[int]] = [frozenset()] * max_rows

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
            self.decoding[row] = False
            self.sampling[row] = None
            self._free.append(row)

    def _admit(self, admit: Admit) -> None:
        if admit.id in self._index:
            raise PlanError(f"request {admit.id:016x} is admitted twice")
        if not self._free:
            raise PlanError(f"all {len(self.ids)} rows are taken")
        input_ids = columns.as_int32(admit.input_ids)
        pages = columns.as_int32(admit.pages)
        row = self._free.pop()
        self._index[admit.id] = row
        self.ids[row] = admit.id
        self.sampling[row] = admit.sampling
        self._stops[row] = frozenset(admit.sampling.stop_token_ids)
        self.tokens[row, : len(input_ids)] = input_ids
        self.page_tables[row, : len(pages)] = pages
        self.num_pages[row] = len(pages)
        self.length[row] = len(input_ids)
        self.prompt_len[row] = admit.prompt_len
        self.computed[row] = admit.cached_len
        self.limit[row] = admit.cached_len

    def _grant(self, plan: Plan) -> None:
        pages = columns.as_int32(plan.grant_pages)
        limits = columns.as_int32(plan.grant_limits).tolist()
        counts = columns.as_int32(plan.grant_page_counts).tolist()
        at = 0
        for request_id, limit, count in zip(columns.as_uint64(plan.grant_ids).tolist(), limits, counts, strict=True):
            row = self._index.get(request_id)
            if row is not None:  # it may have finished while the grant was under way
                held = int(self.num_pages[row])
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

    @property
    def runnable(self) -> bool:
        """Whether a decode row holds a free granted slot."""
        return bool((self.decoding & (self.computed < self.limit)).any())

    def gather(self, chunks: Sequence[Chunk]) -> StepInputs:
        """Everything that can run now: all decode rows with a free slot, and these chunks."""
        decode = np.flatnonzero(self.decoding & (self.computed < self.limit))
        at = self.computed[decode].astype(np.int64)
        rows, ids, positions = [decode], [self.tokens[decode, at].astype(np.int64)], [at]
        slots = [self._slots(decode, at)]
        lengths = [np.ones(len(decode), np.int32)]
        ends_prompt: list[bool] = []
        for row, start, length in chunks:
            span = np.arange(start, start + length)
            rows.append(np.array([row]))
            ids.append(self.tokens[row, start : start + length].astype(np.int64))
            positions.append(span)
            slots.append(self._slots(np.full(length, row), span))
            lengths.append(np.array([length], np.int32))
            ends_prompt.append(start + length == self.length[row])
        all_rows = np.concatenate(rows)
        row_lengths = np.concatenate(lengths)
        starts = np.zeros(len(all_rows) + 1, np.int32)
        np.cumsum(row_lengths, out=starts[1:])
        kv_lens = np.empty(len(all_rows), np.int32)
        kv_lens[: len(decode)] = at + 1
        kv_lens[len(decode) :] = [chunk.start + chunk.length for chunk in chunks]
        widest = -(-int(kv_lens.max()) // self.page_size)
        samples = np.concatenate([np.ones(len(decode), np.bool_), np.array(ends_prompt, np.bool_)])
        return StepInputs(
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
        )

    def computed_now(self, inputs: StepInputs) -> None:
        """The step ran: KV of its tokens is in the pool."""
        self.computed[inputs.rows] = inputs.kv_lens

    def append(self, row: int, token: int) -> Outcome:
        """A token was drawn for this row. A row that finishes leaves the batch."""
        sampling = self.sampling[row]
        assert sampling is not None, "a free row cannot sample"
        length = int(self.length[row])
        index = length - int(self.prompt_len[row])
        self.tokens[row, length] = token
        self.length[row] = length + 1
        self.decoding[row] = True
        finish = Finish.NONE
        if token in self._stops[row] and index >= sampling.min_tokens:
            finish = Finish.STOP
        elif index + 1 >= sampling.max_tokens or length + 1 >= self.context_length:
            finish = Finish.LENGTH
        outcome = Outcome(self.ids[row], index, token, finish)
        if finish is not Finish.NONE:
            self.release(outcome.id)
        return outcome

    def _slots(self, rows: NDArray[np.signedinteger], positions: Int64) -> Int64:
        pages = self.page_tables[rows, positions // self.page_size].astype(np.int64)
        return pages * self.page_size + positions % self.page_size
