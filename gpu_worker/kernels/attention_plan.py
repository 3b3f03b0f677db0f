"""Work of attention on the device: packed into one buffer, copied at once, refilled without moving.

Two kinds: ``AttentionPlan`` has buffers of fixed size, so that a captured CUDA graph can be replayed for other batches;
``PassPlan`` is as large as the work of one batch and made for it. Kernels read both alike, as ``DeviceWork``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from gpu_worker.flat_batch import FlatBatch
from gpu_worker.kernels.attention_work import ITEM_FIELDS, TILE_FIELDS, Int32, Limits, Rows, Work, make_work
from gpu_worker.kernels.tiling import Tiling

_HEADER = 4  # numbers of items and of merged tokens, then nothing
_MEMBERSHIPS = 4  # of a row: itself, and so many shared segments but one that it is in on average


class Sizes(NamedTuple):
    """Entries of each list of a Work that there is room for."""

    tiles: int
    items: int
    members: int
    merged: int
    partials: int

    @property
    def numbers(self) -> tuple[int, ...]:
        """int32 numbers of header, tiles, items, members, merged, offsets and partials, each padded to 16 bytes."""
        items, tiles = self.items * ITEM_FIELDS, self.tiles * TILE_FIELDS
        lists = (_HEADER, tiles, items, self.members, self.merged, self.merged + 1, self.partials)
        return tuple(-(-count // 4) * 4 for count in lists)


class DeviceWork(NamedTuple):
    """A Work on the device, as kernels get it. Launches cover ``Sizes``; what the lists hold says ``header``."""

    sizes: Sizes
    programs: int  # of decoding, per KV head; each takes every ``programs``-th item
    header: Tensor  # int32 [4]
    tiles: Tensor
    items: Tensor
    members: Tensor
    merged: Tensor
    offsets: Tensor
    partials: Tensor


class Scratch(NamedTuple):
    """Where partial results lie between the two kernels of decoding: every layer's, one after another."""

    sums: Tensor  # float32 [P, num_heads, D], normalised
    logs: Tensor  # float32 [P, num_heads], base 2 logarithms of the sums of exponentials


class Plan(Protocol):
    """What an attention pass needs of either kind."""

    def work(self, window: int | None) -> DeviceWork: ...

    def scratch(self, window: int | None) -> Scratch: ...


class ScratchPool:
    """Memory for partial results, shared by all plans of a stream: they run one after another."""

    def __init__(self, num_heads: int, head_dim: int, device: torch.device) -> None:
        self._heads, self._dim, self._device = num_heads, head_dim, device
        self._scratch: Scratch | None = None

    def take(self, partials: int) -> Scratch:
        """Room for at least so many. It stays valid for whoever holds it; ask for the largest first."""
        if self._scratch is None or len(self._scratch.logs) < partials:
            sums = torch.empty(partials, self._heads, self._dim, dtype=torch.float32, device=self._device)
            self._scratch = Scratch(sums, sums.new_empty(partials, self._heads))
        return self._scratch


class AttentionPlan:
    """Work of batches of up to ``rows`` tokens in short rows, at fixed addresses: what a captured forward pass reads.

    Mostly they are decode rows of one token; :attr:`longest_row` says how many a row may have.

    Contract, for whoever captures and replays graphs:

    1. Before the capture: make one plan per batch bucket (``Kernels.attention_plan``), :meth:`fill` it with any batch
       of the bucket and run the pass once outside the capture, which compiles the kernels.
    2. Capture ``Decoder.forward`` of a FlatBatch whose tensors are static and whose ``plan`` is this one. Its host
       fields are not read then.
    3. Before each replay, on the stream that replays: copy the batch into the static tensors, call :meth:`fill` with a
       FlatBatch whose host fields are this step's (its tensors are not looked at), replay. ``fill`` costs the host
       some numpy and one asynchronous copy per plan; it waits only for the copy of two fills before.

    Tokens of the static batch beyond the rows filled in are in no list: nothing is read for them, what attention
    returns for them is undefined, and their KV goes nowhere if their slot is -1. The number of launched programs is
    fixed; those without work end at once.

    Sizes: the items of ``rows`` rows and of as many pieces as fill the GPU, with on average three shared segments per
    row; beyond that, sharing is given up from the leaves on and pieces get longer, so that any such batch fits. At 256
    rows of 32 heads of 128 on an H100 that is 41 KB of lists and 34 MB of scratch, which buckets share (see
    ScratchPool).
    """

    def __init__(
        self, rows: int, windows: Iterable[int | None], page_size: int, tiling: Tiling, scratch: ScratchPool
    ) -> None:
        self._tiling = tiling
        self._page_size = page_size
        self._windows = tuple(dict.fromkeys(windows))
        self._sizes = capacity(rows, tiling)
        self._scratch = scratch.take(self._sizes.partials)
        self._device = self._scratch.sums.device
        each = sum(self._sizes.numbers)
        self._on_device = torch.zeros(len(self._windows), each, dtype=torch.int32, device=self._device)
        self._on_host = [_Staging(self._on_device.shape, self._device) for _ in range(2)]
        programs = min(self._sizes.items, rows + tiling.programs)
        self._work = {
            window: _views(self._on_device[index], self._sizes, programs) for index, window in enumerate(self._windows)
        }

    @property
    def longest_row(self) -> int:
        """New tokens that a row of a batch may have at most to fit."""
        return self._tiling.tile_tokens

    def fill(self, batch: FlatBatch) -> None:
        """Replace the work by that of ``batch``. Raises ValueError for a batch that is not of this bucket."""
        rows = rows_of(batch, self._page_size)
        sizes = self._sizes
        limits = Limits(sizes.items, sizes.members, sizes.partials)
        works = [make_work(rows, self._tiling, window, limits) for window in self._windows]
        for work in works:
            if any(wanted > room for wanted, room in zip(sizes_of(work), sizes, strict=True)):
                raise ValueError(f"a batch of {rows.starts[-1]} tokens does not fit: {sizes_of(work)} into {sizes}")
        staging = self._on_host[0]
        staging.wait()
        for out, work in zip(staging.numbers, works, strict=True):
            _pack(work, sizes, out)
        staging.send(self._on_device)
        self._on_host.reverse()

    def work(self, window: int | None) -> DeviceWork:
        """Of the layers with this window, which must be one of those given at first."""
        return self._work[window]

    def scratch(self, window: int | None) -> Scratch:  # noqa: ARG002 (one for all)
        return self._scratch


class PassPlan:
    """Work of one batch, made for each window when a layer first asks."""

    def __init__(self, batch: FlatBatch, page_size: int, tiling: Tiling, scratch: ScratchPool) -> None:
        self._rows = rows_of(batch, page_size)
        self._tiling = tiling
        self._pool = scratch
        self._longest = batch.max_kv_len
        self._device = batch.positions.device
        self._work: dict[int | None, DeviceWork] = {}

    def work(self, window: int | None) -> DeviceWork:
        if window is not None and window >= self._longest:
            window = None
        found = self._work.get(window)
        if found is None:
            work = make_work(self._rows, self._tiling, window)
            sizes = sizes_of(work)
            staging = _Staging((sum(sizes.numbers),), self._device)
            _pack(work, sizes, staging.numbers)
            on_device = torch.empty(sum(sizes.numbers), dtype=torch.int32, device=self._device)
            staging.send(on_device)
            found = self._work[window] = _views(on_device, sizes, sizes.items)
        return found

    def scratch(self, window: int | None) -> Scratch:
        return self._pool.take(max(1, self.work(window).sizes.partials))


class _Staging:
    """Host memory that the device copies from, pinned where there is a device."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self._is_gpu = device.type == "cuda"
        self._tensor = torch.zeros(shape, dtype=torch.int32, pin_memory=self._is_gpu)
        self._sent: torch.cuda.Event | None = None
        self.numbers: Int32 = self._tensor.numpy()

    def wait(self) -> None:
        """Until the last copy has been made."""
        if self._sent is not None:
            self._sent.synchronize()

    def send(self, to: Tensor) -> None:
        to.copy_(self._tensor, non_blocking=True)
        if self._is_gpu:
            self._sent = self._sent or torch.cuda.Event()
            self._sent.record()


def rows_of(batch: FlatBatch, page_size: int) -> Rows:
    return Rows(batch.host_starts, batch.host_kv_lens, batch.sharing, page_size)


def sizes_of(work: Work) -> Sizes:
    return Sizes(len(work.tiles), len(work.items), len(work.members), len(work.merged), len(work.partials))


def capacity(rows: int, tiling: Tiling) -> Sizes:
    """Room for any decode batch of ``rows`` rows, and for its pieces and sharing as described at AttentionPlan."""
    members = _MEMBERSHIPS * rows
    return Sizes(
        tiles=0,
        items=members + tiling.programs,
        members=members,
        merged=rows,
        partials=members + tiling.programs * min(rows, tiling.tile_tokens),
    )


def _views(numbers: Tensor, sizes: Sizes, programs: int) -> DeviceWork:
    """``numbers`` cut into lists."""
    return DeviceWork(sizes, programs, *numbers.split(sizes.numbers))


def _pack(work: Work, sizes: Sizes, out: Int32) -> None:
    """Write ``work`` into ``out``; the rest of each list keeps what it has."""
    header = np.array((len(work.items), len(work.merged)), np.int32)
    begin = 0
    for part, room in zip((header, *work), sizes.numbers, strict=True):
        out[begin : begin + part.size] = part.ravel()
        begin += room
