"""The passes of a draw over whole rows, as Triton kernels: adjust, survey, gather.

A row is cut into SPLITS chunks of ``chunk`` tokens, each with a program of its own, so that few rows fill a GPU too.
Shapes: L rows of the draw, V tokens, R row slots. Grid (L, SPLITS) in all of them; ``chunk`` is a multiple of BLOCK.
"""

# pyright: reportPrivateImportUsage=false, reportMissingParameterType=false
# (an annotation would be read as part of the kernel)

from __future__ import annotations

import triton
import triton.language as tl

from gpu_worker.kernels.sampling_layout_triton import (
    COUNT_MASK,
    DOUBLES,
    ENTRIES,
    ENTRY_MASK,
    ENTRY_SHIFT,
    FIRST_STOP,
    FLAGS,
    FLOATS,
    FREQUENCY,
    GREEDY,
    INTS,
    LEFT_OUT,
    LOG_MIN_P,
    LONGS,
    MARKED,
    MIN_TOKENS,
    PRESENCE,
    PROMPT_LEN,
    REPETITION,
    SEEN_MASK,
    TEMPERATURE,
    TOP_K,
    best_key,
    best_of,
    is_finite,
    logit_of,
    part_of,
    scaled_of,
    weight_of,
)


@triton.jit
def adjust(
    logits,
    stride,
    adjusted,
    rows,
    ints,
    floats,
    doubles,
    lengths,
    marks,
    biases,
    pool,
    mask_rows,
    best,
    size,
    words,
    chunk,
    ADJUSTS: tl.constexpr,  # noqa: N803
    MASKS: tl.constexpr,  # noqa: N803
    STORES: tl.constexpr,  # noqa: N803
    COPIES: tl.constexpr,  # noqa: N803
    SPLITS: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    """Penalties, biases, masked stop tokens and masks of grammars; the best token of each chunk.

    logits [L, V] of any float type, ``stride`` from row to row; adjusted float32 [L, V], the same tensor unless COPIES;
    rows int32 [L]; pool int32 [M, words], mask_rows int32 [L]; best int64 [L, SPLITS], see best_key. Without STORES
    nothing but ``best`` is written, and without COPIES only rows that change.
    """
    n = tl.program_id(0).to(tl.int64)
    slot = tl.load(rows + n).to(tl.int64)
    if slot >= 0:
        is_marked = False
        if ADJUSTS:
            is_marked = (tl.load(ints + slot * INTS + FLAGS) & MARKED) != 0
        mask_row = tl.full([], -1, tl.int64)
        if MASKS:
            mask_row = tl.load(mask_rows + n).to(tl.int64)
        begin = tl.program_id(1) * chunk
        end = tl.minimum(begin + chunk, size)
        leading = tl.full([BLOCK], -0x7FFFFFFFFFFFFFFF, tl.int64)
        for start in range(begin, end, BLOCK):
            tokens = start + tl.arange(0, BLOCK)
            inside = tokens < end
            values = tl.load(logits + n * stride + tokens, mask=inside, other=float("-inf")).to(tl.float32)
            if ADJUSTS:  # noqa: SIM102 (decided at compile time)
                if is_marked:
                    values = adjusted_of(
                        values, tokens, inside, slot, ints, floats, doubles, lengths, marks, biases, size
                    )
            if MASKS:  # noqa: SIM102
                if mask_row >= 0:
                    word = tl.load(pool + mask_row * words + tokens // 32, mask=inside, other=0)
                    values = tl.where(((word >> (tokens % 32)) & 1) == 0, float("-inf"), values)
            if COPIES:
                tl.store(adjusted + n * size + tokens, values, mask=inside)
            elif STORES:  # noqa: SIM102
                if is_marked | (mask_row >= 0):
                    tl.store(adjusted + n * stride + tokens, values, mask=inside)
            leading = tl.maximum(leading, best_key(values, tokens))
        tl.store(best + n * SPLITS + tl.program_id(1), tl.max(leading, axis=0))


@triton.jit
def adjusted_of(values, tokens, inside, slot, ints, floats, doubles, lengths, marks, biases, size):
    """A block of a marked row after penalties, biases and masked stop tokens."""
    mark = tl.load(marks + slot * size + tokens, mask=inside, other=0)
    repetition = tl.load(floats + slot * FLOATS + REPETITION)
    penalised = tl.where(values > 0, tl.div_rn(values, repetition + tl.zeros_like(values)), values * repetition)
    values = tl.where((mark & SEEN_MASK) != 0, penalised, values)
    count = mark & COUNT_MASK
    frequency = tl.load(doubles + slot * DOUBLES + FREQUENCY)
    presence = tl.load(doubles + slot * DOUBLES + PRESENCE)
    amount = (count.to(tl.float64) * frequency + presence).to(tl.float32)
    values = tl.where(count > 0, values - amount, values)
    entry = (mark >> ENTRY_SHIFT) & ENTRY_MASK  # its index + 1
    bias = tl.load(biases + slot * ENTRIES + entry - 1, mask=entry > 0, other=0.0)
    values = tl.where(entry > 0, values + bias, values)
    index = tl.load(lengths + slot) - tl.load(ints + slot * INTS + PROMPT_LEN)
    is_early = index < tl.load(ints + slot * INTS + MIN_TOKENS)
    is_stop = entry > tl.load(ints + slot * INTS + FIRST_STOP)
    return tl.where(is_stop & is_early, float("-inf"), values)


@triton.jit
def cuts_of(temperature, CUTS: tl.constexpr):  # noqa: N803
    """Scaled values where a survey looks: of logits that lie 2, 3.75, 6, 8.75, 12, 15.75, 20, 24.75 below the best.

    In logits, because a temperature stretches or shrinks the scaled values of the tokens that top-k keeps.
    """
    place = tl.arange(0, CUTS).to(tl.float32)
    return tl.div_rn(-0.25 * (place + 2) * (place + 4), temperature + tl.zeros_like(place))


@triton.jit
def survey(
    adjusted,
    stride,
    rows,
    ints,
    longs,
    floats,
    best,
    totals,
    counts,
    masses,
    size,
    chunk,
    TRUNCATES: tl.constexpr,  # noqa: N803
    CUTS: tl.constexpr,  # noqa: N803
    SPLITS: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    """How much each chunk weighs, and with TRUNCATES how many tokens lie above each cut, and what they weigh.

    adjusted float32 [L, V]; totals int64 [L, SPLITS]; counts int32 and masses int64 [L, SPLITS, CUTS].
    """
    n = tl.program_id(0).to(tl.int64)
    slot = tl.load(rows + n).to(tl.int64)
    if slot >= 0:
        top = logit_of(best_of(best, n, SPLITS))
        if is_finite(top) & ((tl.load(ints + slot * INTS + FLAGS) & GREEDY) == 0):
            temperature = tl.load(floats + slot * FLOATS + TEMPERATURE)
            top_k = tl.load(ints + slot * INTS + TOP_K)
            is_searched = (top_k > 0) | (tl.load(longs + slot * LONGS + LEFT_OUT) > 0)
            begin = tl.program_id(1) * chunk
            end = tl.minimum(begin + chunk, size)
            total = tl.zeros([BLOCK], tl.int64)
            count = tl.zeros([CUTS, BLOCK], tl.int32)
            mass = tl.zeros([CUTS, BLOCK], tl.int64)
            cuts = cuts_of(temperature, CUTS)
            for start in range(begin, end, BLOCK):
                tokens = start + tl.arange(0, BLOCK)
                values = tl.load(adjusted + n * stride + tokens, mask=tokens < end, other=float("-inf"))
                scaled = scaled_of(values, top, temperature)
                weights = weight_of(scaled)
                total += weights
                if TRUNCATES:  # noqa: SIM102
                    if is_searched:
                        above = scaled[None, :] >= cuts[:, None]
                        count += above.to(tl.int32)
                        mass += tl.where(above, weights[None, :], 0)
            place = n * SPLITS + tl.program_id(1)
            tl.store(totals + place, tl.sum(total, axis=0))
            if TRUNCATES:
                tl.store(counts + place * CUTS + tl.arange(0, CUTS), tl.sum(count, axis=1))
                tl.store(masses + place * CUTS + tl.arange(0, CUTS), tl.sum(mass, axis=1))


@triton.jit
def cut_of(n, slot, ints, longs, floats, totals, counts, masses, CUTS: tl.constexpr, SPLITS: tl.constexpr):  # noqa: N803
    """A value above which lie all tokens that truncation keeps; minus infinity where the survey knows none."""
    at = n * SPLITS * CUTS + tl.arange(0, SPLITS)[:, None] * CUTS + tl.arange(0, CUTS)[None, :]
    count = tl.sum(tl.load(counts + at), axis=0)
    mass = tl.sum(tl.load(masses + at), axis=0)
    total = tl.sum(tl.load(totals + n * SPLITS + tl.arange(0, SPLITS)), axis=0)
    top_k = tl.load(ints + slot * INTS + TOP_K)
    left_out = tl.load(longs + slot * LONGS + LEFT_OUT)
    suffices = tl.where(top_k > 0, count >= top_k, mass >= total - part_of(left_out, total))
    cuts = cuts_of(tl.load(floats + slot * FLOATS + TEMPERATURE), CUTS)
    cut = tl.max(tl.where(suffices, cuts, float("-inf")), axis=0)
    is_searched = (top_k > 0) | (left_out > 0)
    return tl.where(is_searched, cut, tl.load(floats + slot * FLOATS + LOG_MIN_P))


@triton.jit
def gather(
    adjusted,
    stride,
    rows,
    ints,
    longs,
    floats,
    best,
    totals,
    counts,
    masses,
    found,
    near,
    near_tokens,
    size,
    chunk,
    capacity,
    CUTS: tl.constexpr,  # noqa: N803
    SPLITS: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    """Bring the tokens that truncation may keep close together, in the order of the vocabulary.

    found int32 [L, SPLITS]: how many a chunk has, more than ``capacity`` where they do not fit or the row is to be
    searched whole; near float32 and near_tokens int32 [L, SPLITS, capacity].
    """
    n = tl.program_id(0).to(tl.int64)
    slot = tl.load(rows + n).to(tl.int64)
    if slot >= 0:
        place = n * SPLITS + tl.program_id(1)
        count = capacity + 1
        top = logit_of(best_of(best, n, SPLITS))
        if is_finite(top) & ((tl.load(ints + slot * INTS + FLAGS) & GREEDY) == 0):
            cut = cut_of(n, slot, ints, longs, floats, totals, counts, masses, CUTS, SPLITS)
            if cut > float("-inf"):
                temperature = tl.load(floats + slot * FLOATS + TEMPERATURE)
                count = 0
                begin = tl.program_id(1) * chunk
                end = tl.minimum(begin + chunk, size)
                for start in range(begin, end, BLOCK):
                    tokens = start + tl.arange(0, BLOCK)
                    values = tl.load(adjusted + n * stride + tokens, mask=tokens < end, other=float("-inf"))
                    is_near = scaled_of(values, top, temperature) >= cut
                    ranks = tl.cumsum(is_near.to(tl.int32), axis=0)
                    target = count + ranks - 1
                    fits = is_near & (target < capacity)
                    tl.store(near + place * capacity + target, values, mask=fits)
                    tl.store(near_tokens + place * capacity + target, tokens, mask=fits)
                    count += tl.max(ranks, axis=0)
        tl.store(found + place, count)
