"""What the host writes into a row's history and marks, as Triton kernels. Launched in this order, one after the other.

Shapes as in :mod:`gpu_worker.kernels.sampling`; ``slots`` are int64, everything else int32 unless said otherwise.
"""

# pyright: reportPrivateImportUsage=false, reportMissingParameterType=false
# (an annotation would be read as part of the kernel)

from __future__ import annotations

import triton
import triton.language as tl

from gpu_worker.kernels.sampling_layout_triton import (
    COUNTED,
    ENTRIES,
    ENTRY_SHIFT,
    FLAGS,
    INTS,
    PROMPT_BIT,
    PROMPT_LEN,
)


@triton.jit
def put_entries(slots, offsets, entry_tokens, entry_biases, marks, biases, size, BLOCK: tl.constexpr):  # noqa: N803
    """Biases of rows whose marks have been cleared. Grid (B,).

    slots [B], offsets [B + 1], entry_tokens [N], entry_biases float32 [N], marks [R, V], biases float32 [R, ENTRIES].
    """
    slot = tl.load(slots + tl.program_id(0))
    begin = tl.load(offsets + tl.program_id(0))
    count = tl.load(offsets + tl.program_id(0) + 1) - begin
    for start in range(0, count, BLOCK):
        entry = start + tl.arange(0, BLOCK)
        inside = entry < count
        token = tl.load(entry_tokens + begin + entry, mask=inside, other=0)
        bias = tl.load(entry_biases + begin + entry, mask=inside, other=0.0)
        tl.store(biases + slot * ENTRIES + entry, bias, mask=inside)
        tl.store(marks + slot * size + token, (entry + 1) << ENTRY_SHIFT, mask=inside)


@triton.jit
def take_back(slots, starts, ints, lengths, history, marks, size, positions, BLOCK: tl.constexpr):  # noqa: N803
    """Uncount a row's tokens from a position on. Grid (E,).

    slots [E], starts [E], ints [R, INTS], lengths [R], history [R, C], marks [R, V]; positions is C.
    """
    slot = tl.load(slots + tl.program_id(0))
    if (tl.load(ints + slot * INTS + FLAGS) & COUNTED) != 0:
        prompt_len = tl.load(ints + slot * INTS + PROMPT_LEN)
        begin = tl.maximum(tl.load(starts + tl.program_id(0)), prompt_len)
        end = tl.load(lengths + slot)
        for start in range(begin, end, BLOCK):
            position = start + tl.arange(0, BLOCK)
            token = tl.load(history + slot * positions + position, mask=position < end, other=-1)
            exists = (token >= 0) & (token < size)
            tl.atomic_add(marks + slot * size + token, tl.full([BLOCK], -1, tl.int32), mask=exists, sem="relaxed")


@triton.jit
def put_tokens(
    slots,
    starts,
    offsets,
    tokens,
    ints,
    lengths,
    history,
    marks,
    size,
    positions,
    BLOCK: tl.constexpr,  # noqa: N803
):
    """A row's tokens from a position on, counted; it ends after them. Grid (E, at least one for BLOCK new tokens).

    slots [E], starts [E], offsets [E + 1], tokens [T], ints [R, INTS], lengths [R], history [R, C], marks [R, V];
    positions is C.
    """
    slot = tl.load(slots + tl.program_id(0))
    first = tl.load(starts + tl.program_id(0))
    begin = tl.load(offsets + tl.program_id(0))
    count = tl.load(offsets + tl.program_id(0) + 1) - begin
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    token = tl.load(tokens + begin + place, mask=inside, other=-1)
    tl.store(history + slot * positions + first + place, token, mask=inside)
    if (tl.load(ints + slot * INTS + FLAGS) & COUNTED) != 0:
        in_prompt = first + place < tl.load(ints + slot * INTS + PROMPT_LEN)
        exists = (token >= 0) & (token < size)
        mark = marks + slot * size + token
        tl.atomic_or(mark, tl.full([BLOCK], PROMPT_BIT, tl.int32), mask=exists & in_prompt, sem="relaxed")
        tl.atomic_add(mark, tl.full([BLOCK], 1, tl.int32), mask=exists & (in_prompt == 0), sem="relaxed")
    if tl.program_id(1) == 0:
        tl.store(lengths + slot, first + count)
