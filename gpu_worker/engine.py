"""The engine: plans in, steps out. Applies plans in order, fences epochs, reports what was computed.

Synchronous and single-threaded; the service runs it in a thread. Knows nothing of streams: messages
come in through :meth:`Engine.receive` and leave as return values of :meth:`Engine.step`. How rows are computed is
its execution's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from gpu_worker.batch import Batch, Chunk
from gpu_worker.constraints import Constraints
from gpu_worker.execution import MakeExecution, Model, Ran, Rows
from gpu_worker.grammar.loading import GrammarReady
from gpu_worker.grammar.mask_pool import MaskPool
from gpu_worker.lock_step import LockStep
from gpu_worker.plan_check import check_plan
from shared import columns
from shared.protocol import FromWorker, ModelCard, Open, Opened, Plan, Step


class Structure(NamedTuple):
    """What an engine needs to constrain output."""

    masks: MaskPool
    eos_ids: Sequence[int]
    want: Callable[[str], None]  # told the key of a grammar that is not at hand; it comes through ``receive``


class Engine:
    """Rows and plans: everything between a plan and the step that answers it."""

    def __init__(
        self,
        model: Model,
        card: ModelCard,
        incarnation: int,
        structure: Structure | None = None,
        execution: MakeExecution | None = None,
    ) -> None:
        """Computes ``model`` in lock-step unless given another way to compute rows."""
        self._incarnation = incarnation
        self._card = card
        self._batch = Batch(card.max_running, card.context_length, card.page_size)
        self._constraints = (
            Constraints(self._batch, None, (), lambda _: None)
            if structure is None
            else Constraints(self._batch, structure.masks, structure.eos_ids, structure.want)
        )
        rows = Rows(self._batch, self._constraints, card.chunk_tokens)
        self._execution = LockStep(model, rows, torch.device(card.device)) if execution is None else execution(rows)
        self._plans: deque[Plan] = deque()
        self._chunks: list[Chunk] = []
        self._epoch = 0
        self._applied = 0
        self._acknowledged = 0
        self._seq = 0

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
        self._execution.forget()
        self._plans.clear()
        self._chunks = []
        self._epoch, self._applied, self._acknowledged = message.epoch, 0, 0
        return Opened(epoch=message.epoch, incarnation=self._incarnation)

    @property
    def has_work(self) -> bool:
        """Whether :meth:`step` would do anything."""
        return bool(self._plans) or self._can_run or self._must_tell

    @property
    def tokens_ahead(self) -> int:
        """About how many tokens the next :meth:`step` computes."""
        chunks = next((plan.chunk_lengths for plan in self._plans if plan.chunk_lengths), b"")
        return int(columns.as_int32(chunks).sum()) + len(self._batch)

    @property
    def _can_run(self) -> bool:
        return bool(self._chunks) or self._execution.has_work

    @property
    def _must_tell(self) -> bool:
        return self._acknowledged != self._applied or bool(self._constraints.failed)

    def step(self) -> FromWorker | None:
        """Apply the plans that came, run what can run, and report. None when there is nothing to tell yet."""
        self._apply_plans()
        if self._can_run:
            chunks, self._chunks = self._chunks, []
            ran = self._execution.run(chunks, self._applied)
            return None if ran is None else self._report(ran)
        if not self._must_tell:
            return None
        self._execution.idle()
        return self._report(Ran(self._applied))

    def _apply_plans(self) -> None:
        """Up to and including the first plan with chunks: one such plan per step."""
        while self._plans and not self._chunks:
            plan = self._plans.popleft()
            if plan.seq <= self._applied:  # delivered twice
                continue
            check_plan(plan, self._card)
            self._chunks = self._batch.apply(plan)
            self._applied = plan.seq
            for admit in plan.admits:
                self._constraints.admit(admit)
            self._execution.admitted(plan.admits)

    def _report(self, ran: Ran) -> Step:
        self._seq += 1
        self._acknowledged = ran.plan
        errors, self._constraints.failed = tuple(self._constraints.failed), []
        outcomes = ran.outcomes
        forced = [flag for outcome in outcomes for flag in outcome.forced]
        pending = [outcome.pending for outcome in outcomes]
        return Step(
            epoch=self._epoch,
            seq=self._seq,
            plan=ran.plan,
            ids=columns.uint64(outcome.id for outcome in outcomes),
            firsts=columns.int32(outcome.first for outcome in outcomes),
            counts=columns.int32(len(outcome.tokens) for outcome in outcomes),
            tokens=columns.int32(token for outcome in outcomes for token in outcome.tokens),
            finishes=columns.uint8(outcome.finish for outcome in outcomes),
            pending=columns.int32(pending) if any(count != 1 for count in pending) else b"",
            forced=columns.uint8(forced) if any(forced) else b"",
            errors=errors,
            computed=ran.computed,
            forward_us=ran.forward_ns // 1000,
            gap_us=ran.gap_ns // 1000,
            scores=tuple(ran.scores),
            vectors=tuple(ran.vectors),
        )
