"""SamplingKernels on a device that Triton compiles for."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gpu_worker.kernels import sampling_edit_triton, sampling_finish_triton, sampling_scan_triton
from gpu_worker.kernels.sampling import Drawn, Edits, MaskRows, Needs, RowState

_BLOCK = 1024  # tokens of a program at a time
_SURVEY_BLOCK = 512  # its counters are _CUTS times as many: 90 registers a thread with 8 warps, 152 at 1,024
_TILE = 1024  # values of a row that ``finish`` looks at together
_CUTS = 8
_PROGRAMS = 512  # of a scan, about: four for each multiprocessor of an H100
_MOST_SPLITS = 32
_NEAR_SHARE = 4  # a row is searched whole when more than one in so many of a chunk's tokens may be kept


class Shape(NamedTuple):
    """How the rows of a draw are cut."""

    splits: int  # of a row, a power of two
    chunk: int  # tokens of each but the last, a multiple of _BLOCK
    capacity: int  # tokens of a chunk that can be gathered


def shape_of(count: int, size: int) -> Shape:
    """Enough programs for the whole device, whether for one row or for many; none of them for less than a block."""
    blocks = -(-size // _BLOCK)
    wanted = max(1, min(_MOST_SPLITS, blocks, _PROGRAMS // count))
    splits = 1 << (wanted - 1).bit_length()
    chunk = -(-blocks // splits) * _BLOCK
    return Shape(splits, chunk, chunk // _NEAR_SHARE)


class TritonSamplingKernels:
    """A draw is two launches for greedy rows, three for rows without truncation, four for all others."""

    def edit(self, state: RowState, edits: Edits) -> None:
        if len(edits.admitted):
            state.lengths.index_fill_(0, edits.admitted, 0)
            state.ints.index_copy_(0, edits.admitted, edits.ints)
            state.longs.index_copy_(0, edits.admitted, edits.longs)
            state.floats.index_copy_(0, edits.admitted, edits.floats)
            state.doubles.index_copy_(0, edits.admitted, edits.doubles)
        size, positions = state.marks.shape[1], state.history.shape[1]
        put_entries: Any = sampling_edit_triton.put_entries
        take_back: Any = sampling_edit_triton.take_back
        put_tokens: Any = sampling_edit_triton.put_tokens
        if len(edits.marked):
            state.marks.index_fill_(0, edits.marked, 0)
            put_entries[len(edits.marked),](
                edits.marked,
                edits.entry_offsets,
                edits.entry_tokens,
                edits.entry_biases,
                state.marks,
                state.biases,
                size,
                BLOCK=_BLOCK,
            )
        if len(edits.rows):
            columns = (state.ints, state.lengths, state.history, state.marks, size, positions)
            take_back[len(edits.rows),](edits.rows, edits.starts, *columns, BLOCK=_BLOCK)
            put_tokens[len(edits.rows), max(1, -(-edits.longest // _BLOCK))](
                edits.rows, edits.starts, edits.offsets, edits.tokens, *columns, BLOCK=_BLOCK
            )

    def draw(self, state: RowState, logits: Tensor, rows: Tensor, needs: Needs, masks: MaskRows | None) -> Drawn:
        count, size = logits.shape
        device = logits.device
        tokens = torch.empty(count, dtype=torch.int64, device=device)
        ok = torch.empty(count, dtype=torch.int8, device=device)
        if not count:
            return Drawn(tokens, ok.view(torch.bool))
        shape = shape_of(count, size)
        copies = needs.draws and logits.dtype != torch.float32
        adjusted = torch.empty((count, size), dtype=torch.float32, device=device) if copies else logits
        stride = adjusted.stride(0)
        splits = (count, shape.splits)
        best = torch.empty(splits, dtype=torch.int64, device=device)
        adjust: Any = sampling_scan_triton.adjust
        adjust[splits](
            logits,
            logits.stride(0),
            adjusted,
            rows,
            state.ints,
            state.floats,
            state.doubles,
            state.lengths,
            state.marks,
            state.biases,
            rows if masks is None else masks.pool,
            rows if masks is None else masks.rows,
            best,
            size,
            0 if masks is None else masks.pool.stride(0),
            shape.chunk,
            ADJUSTS=needs.adjusts,
            MASKS=masks is not None,
            STORES=needs.draws,
            COPIES=copies,
            SPLITS=shape.splits,
            BLOCK=_BLOCK,
        )
        columns = (rows, state.ints, state.longs, state.floats)
        totals, found, near, near_tokens = best, rows, adjusted, rows  # of the right types; read only where needed
        if needs.draws:
            totals = torch.empty(splits, dtype=torch.int64, device=device)
            counts = masses = totals
            if needs.truncates:
                counts = torch.empty((*splits, _CUTS), dtype=torch.int32, device=device)
                masses = torch.empty((*splits, _CUTS), dtype=torch.int64, device=device)
            survey: Any = sampling_scan_triton.survey
            measured = (best, totals, counts, masses)
            constants = {"CUTS": _CUTS, "SPLITS": shape.splits}
            survey[splits](
                adjusted,
                stride,
                *columns,
                *measured,
                size,
                shape.chunk,
                TRUNCATES=needs.truncates,
                **constants,
                BLOCK=_SURVEY_BLOCK,
                num_warps=8,
            )
            if needs.truncates:
                found = torch.empty(splits, dtype=torch.int32, device=device)
                near = torch.empty((*splits, shape.capacity), dtype=torch.float32, device=device)
                near_tokens = torch.empty((*splits, shape.capacity), dtype=torch.int32, device=device)
                gather: Any = sampling_scan_triton.gather
                gather[splits](
                    adjusted,
                    stride,
                    *columns,
                    *measured,
                    found,
                    near,
                    near_tokens,
                    size,
                    shape.chunk,
                    shape.capacity,
                    **constants,
                    BLOCK=_BLOCK,
                )
        finish: Any = sampling_finish_triton.finish
        finish[count,](
            adjusted,
            stride,
            *columns,
            state.lengths,
            state.history,
            state.marks,
            best,
            totals,
            found,
            near,
            near_tokens,
            tokens,
            ok,
            size,
            shape.chunk,
            shape.capacity,
            state.history.shape[1],
            DRAWS=needs.draws,
            TRUNCATES=needs.truncates,
            SPLITS=shape.splits,
            WIDTH=max(1, _TILE // shape.splits),
            BLOCK=_BLOCK,
            num_warps=8,
        )
        return Drawn(tokens, ok.view(torch.bool))
