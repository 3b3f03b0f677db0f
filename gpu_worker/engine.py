"""The engine: applies plans, runs one forward pass, draws tokens, reports. One step at a time.

Synchronous and single-threaded; the service runs it in a thread. Knows nothing of streams: messages
come in through :meth:`Engine.receive` and leave as return values of :meth:`Engine.step`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from gpu_worker.batch import Batch, Chunk, Outcome, StepInputs
from gpu_worker.constraints import Constraints
from gpu_worker.flat_batch import FlatBatch
from gpu_worker.grammar.loading import GrammarReady
from gpu_worker.grammar.mask_pool import MaskPool
from gpu_worker.sampler import sample
from shared import columns
from shared.protocol import Finish, FromWorker, ModelCard, Open, Opened, Plan, Sampling, Step

_NO_LOGITS = "the model produced no finite logits for this request"
_NO_CHOICE = (
    "no token is both allowed by the grammar and possible for this request: ask for less of logit_bias or min_tokens"
)


class Model(Protocol):
    """A decoder bound to its KV pool."""

    def forward(self, batch: FlatBatch) -> Tensor:
        """Write KV of all tokens, return logits, float32 [L, V]."""
        ...


@dataclass(frozen=True, slots=True)
class DrawingRow:
    """What the sampler sees of a row."""

    sampling: Sampling
    index: int
    token_ids: np.ndarray  # int32, prompt and output so far
    prompt_len: int


class Structure(NamedTuple):
    """What an engine needs to constrain output."""

    masks: MaskPool
    eos_ids: Sequence[int]
    want: Callable[[str], None]  # told the key of a grammar that is not at hand; it comes through ``receive``


class Engine:
    """Rows, plans and the model: everything between a plan and the step that answers it."""

    def __init__(self, model: Model, card: ModelCard, incarnation: int, structure: Structure | None = None) -> None:
        self._model = model
        self._incarnation = incarnation
        self._device = torch.device(card.device)
        self._chunk_tokens = card.chunk_tokens
        self._batch = Batch(card.max_running, card.context_length, card.page_size)
        self._constraints = (
            Constraints(self._batch, None, (), lambda _: None)
            if structure is None
            else Constraints(self._batch, structure.masks, structure.eos_ids, structure.want)
        )
        self._plans: deque[Plan] = deque()
        self._chunks: list[Chunk] = []
        self._epoch = 0
        self._applied = 0
        self._acknowledged = 0
        self._seq = 0
        self._last_end: int | None = None  # ns; None when there was nothing to do

    def receive(self, message: Open | Plan | GrammarReady) -> Opened | None:
        """Take a message. An Open for this incarnation is answered at once."""
        if isinstance(message, GrammarReady):
            self._constraints.arrived(message)
            return None
        if isinstance(message, Plan):
            if message.epoch == self._epoch:
                self._plans.append(message)
            return None
        if message.incarnation != self._incarnation or message.epoch <= self._epoch:
            return None
        self._batch.clear()
        self._constraints.clear()
        self._plans.clear()
        self._chunks = []
        self._epoch, self._applied, self._acknowledged = message.epoch, 0, 0
        return Opened(epoch=message.epoch, incarnation=self._incarnation)

    @property
    def has_work(self) -> bool:
        """Whether :meth:`step` would do anything."""
        return bool(self._plans) or self._can_run or bool(self._constraints.failed)

    @property
    def _can_run(self) -> bool:
        return bool(self._chunks or self._constraints.resumed) or self._batch.runnable

    def step(self) -> FromWorker | None:
        """Apply the plans that came, run what can run, and report. None when there is nothing to tell."""
        self._apply_plans()
        if self._can_run:
            return self._forward()
        if self._acknowledged == self._applied and not self._constraints.failed:
            return None
        self._last_end = None
        return self._report()

    def _apply_plans(self) -> None:
        """Up to and including the first plan with chunks: one such plan per step."""
        while self._plans and not self._chunks:
            plan = self._plans.popleft()
            if plan.seq <= self._applied:  # delivered twice
                continue
            self._chunks = self._batch.apply(plan)
            self._applied = plan.seq
            for admit in plan.admits:
                self._constraints.admit(admit)

    def _forward(self) -> Step:
        begin = time.perf_counter_ns()
        extra = max(self._chunk_tokens // 4, self._chunk_tokens - sum(chunk.length for chunk in self._chunks))
        chunks, grown = self._constraints.begin(self._chunks, extra)
        self._chunks = []
        with torch.inference_mode():
            computed, logits, rows = 0, None, list[int]()
            if chunks or self._batch.runnable:
                inputs = self._batch.gather(chunks, extra)
                logits = self._model.forward(self._to_device(inputs))
                self._batch.computed_now(inputs)
                computed, rows = len(inputs.input_ids), inputs.sampling_rows.tolist()
                grown += self._batch.behind(inputs)
            grown += self._draw(logits, rows)
        outcomes = self._outcomes(grown)
        gap = 0 if self._last_end is None else begin - self._last_end
        self._last_end = end = time.perf_counter_ns()
        step = self._report(outcomes, computed, end - begin, gap)
        if not len(self._batch):
            self._last_end = None
        return step

    def _draw(self, logits: Tensor | None, rows: list[int]) -> list[int]:
        """Draw a token for each row that is ready for one; ``logits`` [L, V] are theirs. Returns the rows that grew."""
        batch, constraints = self._batch, self._constraints
        ready = [at for at, row in enumerate(rows) if not self._must_wait(row, logits, at)]
        if logits is not None and len(ready) < len(rows):
            logits = logits[ready]
        rows = [rows[at] for at in ready]
        resumed = constraints.take_resumed()
        grown = [row for row, _ in resumed]
        again = [(row, kept) for row, kept in resumed if kept is not None]
        if again:
            stacked = torch.stack([kept for _, kept in again])
            logits = stacked if logits is None or not rows else torch.cat((logits, stacked))
            rows += [row for row, _ in again]
        if logits is None or not rows:
            return grown
        is_free = not any(constraints.is_obeyed(row) for row in rows)
        drawn = sample(
            logits,
            [self._sampling_row(row) for row in rows],
            None if is_free else lambda adjusted: constraints.apply_masks(adjusted, rows),
        )
        bad = set(drawn.bad_rows)
        for at, (row, token) in enumerate(zip(rows, drawn.tokens.tolist(), strict=True)):
            if at in bad:
                request_id = batch.ids[row]
                constraints.failed.append((request_id, _NO_CHOICE if constraints.is_obeyed(row) else _NO_LOGITS))
                batch.release(request_id)
                continue
            batch.extend(row, (token,))
            if not is_free:
                constraints.drawn(row, token)
        return grown + rows

    def _must_wait(self, row: int, logits: Tensor | None, at: int) -> bool:
        """Is no token to be drawn for a sampling row now? Its grammar has ended it, or is not there yet."""
        if not self._batch.occupied[row] or self._batch.finish[row] is not Finish.NONE:
            return True
        return logits is not None and self._constraints.is_obeyed(row) and self._constraints.stall(row, logits[at])

    def _outcomes(self, rows: Iterable[int]) -> list[Outcome]:
        """What is new of rows that grew or ended; one that failed has left."""
        batch = self._batch
        return [batch.outcome(row) for row in dict.fromkeys(rows) if batch.occupied[row]]

    def _sampling_row(self, row: int) -> DrawingRow:
        batch = self._batch
        sampling = batch.sampling[row]
        assert sampling is not None, "a free row cannot sample"
        length, prompt_len = int(batch.length[row]), int(batch.prompt_len[row])
        return DrawingRow(sampling, length - prompt_len, batch.tokens[row, :length], prompt_len)

    def _to_device(self, inputs: StepInputs) -> FlatBatch:
        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(self._device)

        return FlatBatch(
            input_ids=tensor(inputs.input_ids),
            positions=tensor(inputs.positions),
            slots=tensor(inputs.slots),
            starts=tensor(inputs.starts),
            kv_lens=tensor(inputs.kv_lens),
            page_tables=tensor(inputs.page_tables),
            num_decodes=inputs.num_decodes,
            logit_indices=tensor(inputs.logit_indices),
            max_kv_len=int(inputs.kv_lens.max()),
            max_new=int(np.diff(inputs.starts).max()),
            sharing=inputs.sharing,
            host_starts=inputs.starts,
            host_kv_lens=inputs.kv_lens,
        )

    def _report(
        self, outcomes: Sequence[Outcome] = (), computed: int = 0, forward_ns: int = 0, gap_ns: int = 0
    ) -> Step:
        self._seq += 1
        self._acknowledged = self._applied
        errors, self._constraints.failed = tuple(self._constraints.failed), []
        forced = [flag for outcome in outcomes for flag in outcome.forced]
        pending = [outcome.pending for outcome in outcomes]
        return Step(
            epoch=self._epoch,
            seq=self._seq,
            plan=self._applied,
            ids=columns.uint64(outcome.id for outcome in outcomes),
            firsts=columns.int32(outcome.first for outcome in outcomes),
            counts=columns.int32(len(outcome.tokens) for outcome in outcomes),
            tokens=columns.int32(token for outcome in outcomes for token in outcome.tokens),
            finishes=columns.uint8(outcome.finish for outcome in outcomes),
            pending=columns.int32(pending) if any(count != 1 for count in pending) else b"",
            forced=columns.uint8(forced) if any(forced) else b"",
            errors=errors,
            computed=computed,
            forward_us=forward_ns // 1000,
            gap_us=gap_ns // 1000,
        )
