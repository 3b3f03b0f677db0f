"""The engine: applies plans, runs one forward pass, draws tokens, reports. One step at a time.

Synchronous and single-threaded; the service runs it in a thread. Knows nothing of streams: messages
come in through :meth:`Engine.receive` and leave as return values of :meth:`Engine.step`.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gpu_worker.batch import Batch, Chunk, Outcome, StepInputs
from gpu_worker.flat_batch import FlatBatch
from gpu_worker.sampler import sample
from shared import columns
from shared.protocol import FromWorker, ModelCard, Open, Opened, Plan, Sampling, Step


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


class Engine:
    """Rows, plans and the model: everything between a plan and the step that answers it."""

    def __init__(self, model: Model, card: ModelCard, incarnation: int) -> None:
        self._model = model
        self._incarnation = incarnation
        self._device = torch.device(card.device)
        self._batch = Batch(card.max_running, card.context_length, card.page_size)
        self._plans: deque[Plan] = deque()
        self._chunks: list[Chunk] = []
        self._epoch = 0
        self._applied = 0
        self._acknowledged = 0
        self._seq = 0
        self._last_end: int | None = None  # ns; None when there was nothing to do

    def receive(self, message: Open | Plan) -> Opened | None:
        """Take a message from the scheduler. An Open for this incarnation is answered at once."""
        if isinstance(message, Plan):
            if message.epoch == self._epoch:
                self._plans.append(message)
            return None
        if message.incarnation != self._incarnation or message.epoch <= self._epoch:
            return None
        self._batch.clear()
        self._plans.clear()
        self._chunks = []
        self._epoch, self._applied, self._acknowledged = message.epoch, 0, 0
        return Opened(epoch=message.epoch, incarnation=self._incarnation)

    @property
    def has_work(self) -> bool:
        """Whether :meth:`step` would do anything."""
        return bool(self._plans or self._chunks) or self._batch.runnable

    def step(self) -> FromWorker | None:
        """Apply the plans that came, run what can run, and report. None when there is nothing to tell."""
        self._apply_plans()
        if self._chunks or self._batch.runnable:
            return self._forward()
        if self._acknowledged == self._applied:
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

    def _forward(self) -> Step:
        begin = time.perf_counter_ns()
        inputs = self._batch.gather(self._chunks)
        self._chunks = []
        with torch.inference_mode():
            logits = self._model.forward(self._to_device(inputs))
            self._batch.computed_now(inputs)
            outcomes, errors = self._draw(logits, inputs)
        gap = 0 if self._last_end is None else begin - self._last_end
        self._last_end = end = time.perf_counter_ns()
        step = self._report(outcomes, errors, len(inputs.input_ids), end - begin, gap)
        if not len(self._batch):
            self._last_end = None
        return step

    def _draw(self, logits: Tensor, inputs: StepInputs) -> tuple[list[Outcome], list[tuple[int, str]]]:
        batch = self._batch
        rows = inputs.sampling_rows.tolist()
        if not rows:
            return [], []
        drawn = sample(logits, [self._sampling_row(row) for row in rows])
        tokens = drawn.tokens.tolist()
        bad = set(drawn.bad_rows)
        outcomes: list[Outcome] = []
        errors: list[tuple[int, str]] = []
        for at, row in enumerate(rows):
            if at in bad:
                request_id = batch.ids[row]
                errors.append((request_id, "the model produced no finite logits for this request"))
                batch.release(request_id)
            else:
                outcomes.append(batch.append(row, tokens[at]))
        return outcomes, errors

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
        )

    def _report(
        self,
        outcomes: list[Outcome] | None = None,
        errors: list[tuple[int, str]] | None = None,
        computed: int = 0,
        forward_ns: int = 0,
        gap_ns: int = 0,
    ) -> Step:
        outcomes = outcomes or []
        self._seq += 1
        self._acknowledged = self._applied
        return Step(
            epoch=self._epoch,
            seq=self._seq,
            plan=self._applied,
            ids=columns.uint64(outcome.id for outcome in outcomes),
            firsts=columns.int32(outcome.token_index for outcome in outcomes),
            counts=columns.int32(1 for _ in outcomes),
            tokens=columns.int32(outcome.token for outcome in outcomes),
            finishes=columns.uint8(outcome.finish for outcome in outcomes),
            errors=tuple(errors or ()),
            computed=computed,
            forward_us=forward_ns // 1000,
            gap_us=gap_ns // 1000,
        )
