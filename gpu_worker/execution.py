"""Between plans and steps: what the engine asks of whoever computes its rows, and what it is told.

:mod:`gpu_worker.lock_step` computes a step and sees its tokens before the next one. Plans, epochs and messages are
the engine's; an execution does not know of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from gpu_worker.batch import Batch, Chunk, Outcome
from gpu_worker.constraints import Constraints
from gpu_worker.flat_batch import FlatBatch, Pass
from shared.protocol import Admit, Scores, Vector

NO_LOGITS = "the model produced no finite logits for this request"
NO_CHOICE = (
    "no token is both allowed by the grammar and possible for this request: ask for less of logit_bias or min_tokens"
)


class Model(Protocol):
    """A decoder bound to its KV pool."""

    def forward(self, batch: FlatBatch) -> Tensor:
        """Write KV of all tokens, return logits, float32 [L, V]."""
        ...

    def forward_with_states(self, batch: FlatBatch, tokens: Tensor) -> Pass:
        """As ``forward``, and the last hidden states of flat ``tokens``, int64 [M]."""
        ...


class Rows(NamedTuple):
    """The rows of one engine: shared by it and its execution."""

    batch: Batch
    constraints: Constraints
    chunk_tokens: int  # prefill budget of a step

    def spare(self, chunks: Sequence[Chunk]) -> int:
        """Forced tokens that a step with these chunks may compute besides them."""
        return max(self.chunk_tokens // 4, self.chunk_tokens - sum(chunk.length for chunk in chunks))

    def fail(self, row: int, message: str | None = None) -> None:
        """End a row that no token could be drawn for; ``message`` says why, where it is not the draw's fault."""
        request_id = self.batch.ids[row]
        if message is None:
            message = NO_CHOICE if self.constraints.is_obeyed(row) else NO_LOGITS
        self.constraints.failed.append((request_id, message))
        self.batch.release(request_id)


class Ran(NamedTuple):
    """One step that was computed."""

    plan: int  # seq of the last plan applied before it was
    outcomes: Sequence[Outcome] = ()
    computed: int = 0  # tokens through the model
    forward_ns: int = 0  # how long that took
    gap_ns: int = 0  # how long the device had nothing to do before, while there were rows
    scores: Sequence[Scores] = ()
    vectors: Sequence[Vector] = ()


class Execution(Protocol):
    """Computes rows. Chunks are computed in the order in which they come, and always."""

    @property
    def has_work(self) -> bool:
        """Whether :meth:`run` would do anything without chunks."""
        ...

    def admitted(self, admits: Iterable[Admit]) -> None:
        """Rows have joined the batch."""
        ...

    def run(self, chunks: Sequence[Chunk], plan: int) -> Ran | None:
        """Compute these chunks and all rows that can go on; ``plan`` was applied last. Returns a step that is done."""
        ...

    def idle(self) -> None:
        """There is nothing to do: time that passes from now on is nobody's fault."""
        ...

    def forget(self) -> None:
        """All rows have left. What is under way for them is nobody's any more."""
        ...


MakeExecution = Callable[[Rows], Execution]
