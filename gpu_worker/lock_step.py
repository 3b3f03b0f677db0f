"""One step at a time: a forward pass, a draw on the host, and only then the next one.

How a CPU computes: there the host is the device, so nothing is won by running ahead.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gpu_worker.batch import Chunk, Outcome, StepInputs
from gpu_worker.execution import Model, Ran, Rows
from gpu_worker.flat_batch import FlatBatch
from gpu_worker.pooling import Pools, vectors_of
from gpu_worker.sampler import sample
from gpu_worker.scoring import Want, asked_ids, score, unpacked
from shared.protocol import Admit, Finish, Sampling, Scores, Vector


@dataclass(frozen=True, slots=True)
class DrawingRow:
    """What the sampler sees of a row."""

    sampling: Sampling
    index: int
    token_ids: np.ndarray  # int32, prompt and output so far
    prompt_len: int


class LockStep:
    """An execution that sees the tokens of a step before it computes the next one."""

    def __init__(self, model: Model, rows: Rows, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._rows = rows
        self._batch, self._constraints = rows.batch, rows.constraints
        self._last_end: int | None = None  # ns; None when there was nothing to do
        self._pools = Pools()
        self._scores: list[Scores] = []  # of the step under way
        self._vectors: list[Vector] = []

    @property
    def has_work(self) -> bool:
        return bool(self._constraints.resumed) or self._batch.runnable

    def admitted(self, admits: Iterable[Admit]) -> None:
        """The batch says all there is to know of them."""

    def idle(self) -> None:
        self._last_end = None

    def forget(self) -> None:
        """Nothing is ever under way between steps."""

    def run(self, chunks: Sequence[Chunk], plan: int) -> Ran:
        begin = time.perf_counter_ns()
        extra = self._rows.spare(chunks)
        chunks, grown = self._constraints.begin(chunks, extra)
        with torch.inference_mode():
            computed, logits, rows = 0, None, list[int]()
            if chunks or self._batch.runnable:
                inputs = self._batch.gather(chunks, extra)
                logits = self._forward(inputs)
                self._batch.computed_now(inputs)
                computed, rows = len(inputs.input_ids), inputs.sampling_rows.tolist()
                grown += self._batch.behind(inputs)
                grown += self._completed(inputs.complete)
            grown += self._draw(logits, rows)
        outcomes = self._outcomes(grown)
        gap = 0 if self._last_end is None else begin - self._last_end
        end = time.perf_counter_ns()
        self._last_end = end if len(self._batch) else None
        scores, self._scores = self._scores, []
        vectors, self._vectors = self._vectors, []
        return Ran(plan, outcomes, computed, end - begin, gap, scores, vectors)

    def _forward(self, inputs: StepInputs) -> Tensor:
        """A pass, and what is wanted besides tokens; the logits [L, V] of the rows that sample."""
        batch = self._to_device(inputs)
        if inputs.state_indices is None:
            logits = self._model.forward(batch)
        else:
            logits, states = self._model.forward_with_states(batch, self._tensor(inputs.state_indices))
            pooled = self._pools.take(states, inputs.pooled)
            if pooled is not None:
                pooled = pooled._replace(values=pooled.values.cpu())
                self._vectors += vectors_of(pooled, [True] * len(pooled.spans))
        if not inputs.scored:
            return logits
        count = len(inputs.sampling_rows)
        self._score(logits[count:], self._tensor(self._batch.tokens_of(inputs.scored)), inputs.scored)
        return logits[:count]

    def _score(self, logits: Tensor, tokens: Tensor, wants: Sequence[Want], bad: Container[int] = ()) -> None:
        """Note what these tokens score, but for rows of the batch that are ``bad``."""
        scored = score(logits, tokens, self._tensor(asked_ids(wants)), wants)
        self._scores += unpacked(scored._replace(values=scored.values.cpu()), lambda want: want.row not in bad)

    def _completed(self, rows: Sequence[int]) -> Sequence[int]:
        """These rows want no token: they end with their input."""
        for row in rows:
            self._batch.finish[row] = Finish.LENGTH
        return rows

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
        wants = batch.next_wants(rows)
        raw = logits[list(wants)] if wants else None
        drawn = sample(
            logits,
            [self._sampling_row(row) for row in rows],
            None if is_free else lambda adjusted: constraints.apply_masks(adjusted, rows),
        )
        bad = set(drawn.bad_rows)
        if raw is not None:
            tokens = drawn.tokens[list(wants)]
            self._score(raw, tokens, list(wants.values()), {rows[at] for at in bad})
        for at, (row, token) in enumerate(zip(rows, drawn.tokens.tolist(), strict=True)):
            if at in bad:
                self._rows.fail(row)
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

    def _tensor(self, numbers: np.ndarray | Sequence[int]) -> Tensor:
        """Whole numbers on the device; int64 where they are a list."""
        array = numbers if isinstance(numbers, np.ndarray) else np.array(numbers, np.int64)
        return torch.from_numpy(array).to(self._device)

    def _to_device(self, inputs: StepInputs) -> FlatBatch:
        tensor = self._tensor
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
