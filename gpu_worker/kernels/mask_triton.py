"""The mask operations as Triton kernels: one lane per token, whatever the vocabulary.

The walk of ``build_rows`` is over flat spellings, not over the trie: 1,024 tokens side by side, one byte at a time,
until the longest of them has ended or is dead. Rows are addressed in int64; every dimension that can overrun is masked.
"""

# pyright: reportPrivateImportUsage=false, reportMissingParameterType=false
# (an annotation would be read as part of the kernel)

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def apply_rows(logits, pool, rows, size, words, BLOCK: tl.constexpr):  # noqa: N803
    """Minus infinity where the bit is 0. Grid (R, ceil(V / BLOCK)).

    logits float32 [R, V], pool int32 [M, W], rows int32 [R], -1 for rows that are left as they are.
    """
    row = tl.program_id(0).to(tl.int64)
    mask = tl.load(rows + row).to(tl.int64)
    if mask >= 0:
        tokens = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = tokens < size
        word = tl.load(pool + mask * words + tokens // 32, mask=inside, other=0)
        refused = ((word >> (tokens % 32)) & 1) == 0
        tl.store(logits + row * size + tokens, float("-inf"), mask=inside & refused)


@triton.jit
def build_rows(
    pool,
    targets,
    states,
    transitions,
    num_classes,
    classes,
    token_bytes,
    token_starts,
    size,
    words,
    BLOCK: tl.constexpr,  # noqa: N803
):
    """The bits of those tokens that keep a state alive. Grid (n, ceil(V / BLOCK)), BLOCK a multiple of 32.

    pool int32 [M, W], targets and states int32 [n], transitions int16 [S, C] read as unsigned, classes uint8 [256],
    token_bytes uint8 [K], token_starts int32 [V + 1].
    """
    target = tl.load(targets + tl.program_id(0)).to(tl.int64)
    tokens = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = tokens < size
    start = tl.load(token_starts + tokens, mask=inside, other=0)
    length = tl.load(token_starts + tokens + 1, mask=inside, other=0) - start
    state = tl.load(states + tl.program_id(0)) + tl.zeros([BLOCK], tl.int32)
    place = 0
    while tl.max(tl.where(state != 0, length, 0), axis=0) > place:
        going = (length > place) & (state != 0)
        byte = tl.load(token_bytes + start + place, mask=going, other=0).to(tl.int32)
        column = tl.load(classes + byte, mask=going, other=0).to(tl.int32)
        after = tl.load(transitions + state * num_classes + column, mask=going, other=0).to(tl.int32) & 0xFFFF
        state = tl.where(going, after, state)
        place += 1
    allowed = (length > 0) & (state != 0)
    bits = tl.reshape(allowed.to(tl.int32), [BLOCK // 32, 32]) << tl.arange(0, 32)[None, :]
    word = tl.program_id(1) * (BLOCK // 32) + tl.arange(0, BLOCK // 32)
    tl.store(pool + target * words + word, tl.sum(bits, axis=1), mask=word < words)


@triton.jit
def advance(
    after,
    states,
    tokens,
    which,
    transitions,
    offsets,
    num_classes,
    classes,
    token_bytes,
    token_starts,
    rows,
    BLOCK: tl.constexpr,  # noqa: N803
):
    """The state of each row after its token's bytes. Grid (ceil(R / BLOCK),).

    after and states int32 [R], tokens int64 [R], which int32 [R], -1 for rows that keep their state; then the arena:
    transitions int16 flat, read as unsigned, offsets int64 [A], num_classes int32 [A], classes uint8 [A, 256];
    token_bytes uint8 [K], token_starts int32 [V + 1].
    """
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = row < rows
    automaton = tl.load(which + row, mask=inside, other=-1).to(tl.int64)
    bound = automaton >= 0
    token = tl.load(tokens + row, mask=bound, other=0)
    start = tl.load(token_starts + token, mask=bound, other=0)
    length = tl.load(token_starts + token + 1, mask=bound, other=0) - start
    offset = tl.load(offsets + automaton, mask=bound, other=0)
    width = tl.load(num_classes + automaton, mask=bound, other=0)
    state = tl.load(states + row, mask=inside, other=0)
    place = 0
    while tl.max(tl.where(state != 0, length, 0), axis=0) > place:
        going = (length > place) & (state != 0)
        byte = tl.load(token_bytes + start + place, mask=going, other=0).to(tl.int32)
        column = tl.load(classes + automaton * 256 + byte, mask=going, other=0).to(tl.int32)
        step = tl.load(transitions + offset + state * width + column, mask=going, other=0).to(tl.int32) & 0xFFFF
        state = tl.where(going, step, state)
        place += 1
    tl.store(after + row, state, mask=inside)
