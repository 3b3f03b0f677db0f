"""Steps of fixed size that are launched as a whole: CUDA graphs, one for each bucket of so many tokens.

A step whose rows are all short (decode rows, a few forced tokens) is padded to the next bucket. The attention plan says
which tokens belong to which row, so one family of buckets serves steps of one token a row and of several. Its draws
are graphs of their own, a few kernels each, captured for three levels of what a draw may have to do: a captured draw
that does more than its rows need chooses the same tokens, and takes longer.

Knows nothing of requests. What the padding writes goes to the spare page.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from gpu_worker.device_rows import DeviceRows, HostFacts, host_batch
from gpu_worker.kernels.attention_plan import AttentionPlan
from gpu_worker.kernels.masks import FREE
from gpu_worker.kernels.sampling import Needs
from gpu_worker.sharing import nothing_shared
from gpu_worker.step_columns import Host, Sizes, columns_on_device, columns_on_host

Replay = Callable[[], None]

_SMALL = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)
_STRIDE = 64  # beyond those
_CELLS_PER_ROW = (
    2  # new pages that a step's rows may have on average; where there are more, it is launched piece by piece
)
_CELLS = 32  # and so many more
_LONGEST_ROW = 16  # tokens, where the attention plan sets no bound


class StepSize(NamedTuple):
    """What of a step decides which bucket it fits in."""

    tokens: int
    rows: int
    draws: int
    longest: int  # tokens of one row
    cells: int  # new pages


class Recorder(Protocol):
    """Makes launches repeatable."""

    def record(self, body: Callable[[], None]) -> Replay:
        """Run ``body`` at least once, and return what launches it again, reading and writing the same memory."""
        ...


class EagerRecorder:
    """Repeats by doing it again: where there are no graphs, and in tests."""

    def record(self, body: Callable[[], None]) -> Replay:
        body()
        return body


class GraphRecorder:
    """CUDA graphs that share one memory pool: they are replayed one after another on one stream."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, body: Callable[[], None]) -> Replay:
        body()  # compiles what is compiled on first use
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            body()
        return graph.replay


class Level(NamedTuple):
    """What a captured draw does."""

    needs: Needs
    masked: bool

    def covers(self, needs: Needs, masked: bool) -> bool:
        return self.masked >= masked and all(mine >= its for mine, its in zip(self.needs, needs, strict=True))


_LEVELS = (
    Level(Needs(adjusts=False, draws=False, truncates=False), masked=False),
    Level(Needs(adjusts=False, draws=True, truncates=True), masked=False),
    Level(Needs(adjusts=True, draws=True, truncates=True), masked=True),
)


class Budget(NamedTuple):
    """What capturing may cost; what is not captured then is launched piece by piece."""

    seconds: float
    bytes: int  # of device memory


class Shared(NamedTuple):
    """Results of all buckets: only the last step's are alive."""

    logits: Tensor  # float32 [T, V] of the largest bucket
    tokens: Tensor  # int64 [T]


class Bucket:
    """Steps of up to ``tokens`` tokens in as many rows, each of up to ``longest`` tokens."""

    def __init__(self, rows: DeviceRows, tokens: int, shared: Shared, plan: AttentionPlan | None) -> None:
        self.tokens = tokens
        self.longest = _LONGEST_ROW if plan is None else plan.longest_row
        self.sizes = Sizes(tokens, tokens, tokens, tokens, _CELLS_PER_ROW * tokens + _CELLS)
        self._rows = rows
        self._plan = plan
        self.buffer = torch.zeros(self.sizes.nbytes, dtype=torch.uint8, device=rows.device)
        self._x = columns_on_device(self.buffer, self.sizes)
        self._facts = HostFacts(0, 1, 1, nothing_shared(0), np.zeros(1, np.int32), np.zeros(0, np.int32))
        self.logits, self._result = shared.logits[:tokens], shared.tokens[:tokens]
        self._forward: Replay | None = None
        self._draws: list[tuple[Level, Replay]] = []

    def capture(self, recorder: Recorder) -> None:
        """Record the pass and its draws, with nothing but padding."""
        host = np.zeros(self.sizes.nbytes, np.uint8)
        columns = columns_on_host(host, self.sizes)
        self.pad(columns, StepSize(0, 0, 0, 0, 0))
        self.buffer.copy_(torch.from_numpy(host))
        one = np.array([0, 1], np.int32)
        self._set(HostFacts(1, 1, 1, nothing_shared(1), one, one[1:]), columns)
        self._forward = recorder.record(self._run_forward)
        for level in _LEVELS:
            if level.masked and self._rows.masking is None:
                level = level._replace(masked=False)
            self._draws.append((level, recorder.record(self._draw_at(level))))

    def pad(self, columns: Host, step: StepSize) -> None:
        """Fill what a step has left of ``columns``, which are to be sent to ``buffer``.

        Tokens that are left are rows of one token each; rows that are left then have none.
        """
        tokens, rows, draws = step.tokens, step.rows, step.draws
        padding = self._rows.padding
        columns.input_ids[tokens:] = 0
        columns.positions[tokens:] = 0
        columns.slots[tokens:] = self._rows.spare_slot
        columns.logit_indices[draws:] = 0
        columns.rows[rows:] = padding
        columns.cells[step.cells :] = padding * self._rows.page_tables.shape[1]
        columns.pages[step.cells :] = self._rows.spare_page
        left = self.tokens - tokens
        columns.starts[rows : rows + left + 1] = np.arange(tokens, self.tokens + 1)
        columns.starts[rows + left + 1 :] = self.tokens
        columns.kv_lens[rows : rows + left] = 1
        columns.kv_lens[rows + left :] = 0
        columns.draws[draws:] = -1
        columns.automata[draws:] = FREE
        columns.states[draws:] = 0
        columns.bases[draws:] = -1
        columns.masks[draws:] = FREE

    def run(self, facts: HostFacts, columns: Host, needs: Needs, *, masked: bool) -> Tensor:
        """Launch the step whose padded ``columns`` were sent to ``buffer``; ``facts`` are those of its rows alone.

        Returns int64 [tokens], -1 where nothing was drawn.
        """
        assert self._forward is not None, "capture first"
        self._set(facts, columns)
        self._rows.sampler.flush()
        self._forward()
        for level, replay in self._draws:
            if level.covers(needs, masked):
                replay()
                break
        return self._result

    def _set(self, facts: HostFacts, columns: Host) -> None:
        if self._plan is not None:
            self._plan.fill(host_batch(facts))
        else:  # whoever plans for itself sees the padding, too
            starts, kv_lens = columns.starts.astype(np.int32), columns.kv_lens.astype(np.int32)
            self._facts = facts._replace(starts=starts, kv_lens=kv_lens)

    def _run_forward(self) -> None:
        rows = self._rows
        logits = rows.forward(self._x, self._facts, rows.page_tables.shape[1], self._plan)
        self.logits.copy_(logits)

    def _draw_at(self, level: Level) -> Callable[[], None]:
        def run() -> None:
            drawn = self._rows.draw(self._x, self.logits, level.needs, masked=level.masked)
            self._result.copy_(drawn)

        return run


class Graphs:
    """The buckets that were captured."""

    def __init__(self, buckets: Sequence[Bucket] = ()) -> None:
        """``buckets`` by size, the smallest first."""
        self._buckets = buckets

    @property
    def sizes(self) -> list[int]:
        """Tokens of each captured bucket."""
        return [bucket.tokens for bucket in self._buckets]

    def bucket(self, step: StepSize) -> Bucket | None:
        """The smallest one that a step fits in; None if there is none."""
        at = bisect.bisect_left(self._buckets, step.tokens, key=lambda bucket: bucket.tokens)
        if at == len(self._buckets):
            return None
        found = self._buckets[at]
        return found if step.longest <= found.longest and step.cells <= found.sizes.cells else None


@torch.inference_mode()
def capture_graphs(
    rows: DeviceRows,
    most_tokens: int,
    vocab_size: int,
    recorder: Recorder,
    budget: Budget,
    progress: Callable[[str], None],
) -> Graphs:
    """Capture as many buckets of up to ``most_tokens`` tokens as the budget allows, the largest first.

    Plans and graphs of smaller ones share the memory of larger ones. Where only large ones were captured, small steps
    take those: padding costs less than launches one by one.
    """
    sizes = bucket_sizes(most_tokens)
    shared = Shared(
        torch.empty((sizes[-1], vocab_size), dtype=torch.float32, device=rows.device),
        torch.empty(sizes[-1], dtype=torch.int64, device=rows.device),
    )
    begin, free = time.monotonic(), _free_memory(rows.device)
    captured: list[Bucket] = []
    for size in reversed(sizes):
        if time.monotonic() - begin > budget.seconds or free - _free_memory(rows.device) > budget.bytes:
            break
        bucket = Bucket(rows, size, shared, rows.model.attention_plan(size))
        bucket.capture(recorder)
        captured.insert(0, bucket)
        progress(f"capturing CUDA graphs {len(captured) / len(sizes):.0%}")
    return Graphs(captured)


def _free_memory(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def bucket_sizes(most: int) -> list[int]:
    """Up to ``most`` tokens, which is always one of them."""
    sizes = [*_SMALL, *range(_SMALL[-1] + _STRIDE, most, _STRIDE)]
    return [size for size in sizes if size < most] + [most]
