"""The end of a draw, as a Triton kernel: one program per row finds the threshold of truncation and the token drawn.

It reads the tokens that ``gather`` brought close together, or the whole row where that was not possible, as tiles of
SPLITS x WIDTH: some of each chunk at once. A value is searched by bisection among those there are: the middle of an
interval is moved to the nearest value above or below it, so that some ten rounds decide among a thousand.
"""

# pyright: reportPrivateImportUsage=false, reportMissingParameterType=false, reportGeneralTypeIssues=false
# (an annotation would be read as part of the kernel)

from __future__ import annotations

import triton
import triton.language as tl

from gpu_worker.kernels.sampling_layout_triton import (
    COUNTED,
    FLAGS,
    FLOATS,
    GREEDY,
    IMPOSSIBLE,
    INTS,
    LEFT_OUT,
    LOG_MIN_P,
    LONGS,
    PROMPT_LEN,
    SEED,
    TEMPERATURE,
    TOP_K,
    best_of,
    is_finite,
    logit_of,
    part_of,
    scaled_of,
    token_of,
    uniform_bits,
    weight_of,
)

_LOWEST = tl.constexpr(-3.4028234663852886e38)


@triton.jit
def finish(
    adjusted,
    stride,
    rows,
    ints,
    longs,
    floats,
    lengths,
    history,
    marks,
    best,
    totals,
    found,
    near,
    near_tokens,
    tokens,
    ok,
    size,
    chunk,
    capacity,
    positions,
    DRAWS: tl.constexpr,  # noqa: N803
    TRUNCATES: tl.constexpr,  # noqa: N803
    SPLITS: tl.constexpr,  # noqa: N803
    WIDTH: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    """Choose each row's token, append it to the history and count it. Grid (L,).

    What the scans left: adjusted float32 [L, V], best and totals int64 [L, SPLITS], found int32 [L, SPLITS], near
    float32 and near_tokens int32 [L, SPLITS, capacity]. Columns of the R row slots, history int32 [R, positions], marks
    int32 [R, V]. Written: tokens int64 [L], ok int8 [L], 0 and 0 for rows without a token.
    """
    n = tl.program_id(0).to(tl.int64)
    slot = tl.load(rows + n).to(tl.int64)
    token = tl.full([], 0, tl.int64)
    is_ok = tl.full([], 0, tl.int8)
    if slot >= 0:
        key = best_of(best, n, SPLITS)
        flags = tl.load(ints + slot * INTS + FLAGS)
        if is_finite(logit_of(key)) & ((flags & IMPOSSIBLE) == 0):
            is_ok = tl.full([], 1, tl.int8)
            token = token_of(key)
            length = tl.load(lengths + slot)
            if DRAWS:  # noqa: SIM102 (decided at compile time)
                if (flags & GREEDY) == 0:
                    index = length - tl.load(ints + slot * INTS + PROMPT_LEN)
                    token = drawn_of(
                        adjusted + n * stride, ints + slot * INTS, longs + slot * LONGS, floats + slot * FLOATS,
                        logit_of(key), index, totals + n * SPLITS, found + n * SPLITS,
                        near + n * SPLITS * capacity, near_tokens + n * SPLITS * capacity,
                        size, chunk, capacity, TRUNCATES, SPLITS, WIDTH, BLOCK,
                    )  # fmt: skip
            if length < positions:
                tl.store(history + slot * positions + length, token.to(tl.int32))
                tl.store(lengths + slot, length + 1)
                if (flags & COUNTED) != 0:
                    mark = marks + slot * size + token
                    tl.store(mark, tl.load(mark) + 1)
    tl.store(tokens + n, token)
    tl.store(ok + n, is_ok)


@triton.jit
def drawn_of(
    row,
    ints,
    longs,
    floats,
    top,
    index,
    totals,
    found,
    near,
    near_tokens,
    size,
    chunk,
    capacity,
    TRUNCATES: tl.constexpr,  # noqa: N803
    SPLITS: tl.constexpr,  # noqa: N803
    WIDTH: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    """The token drawn from a row that is not greedy, int64. All pointers are to the row's own."""
    temperature = tl.load(floats + TEMPERATURE)
    splits = tl.arange(0, SPLITS)
    counts = tl.minimum(tl.maximum(size - splits * chunk, 0), chunk)
    masses = tl.load(totals + splits)
    threshold = tl.full([], float("-inf"), tl.float32)
    is_whole = True
    if TRUNCATES:
        top_k = tl.load(ints + TOP_K)
        left_out = tl.load(longs + LEFT_OUT)
        log_min_p = tl.load(floats + LOG_MIN_P)
        is_searched = (top_k > 0) | (left_out > 0)
        if is_searched | (log_min_p > float("-inf")):
            gathered = tl.load(found + splits)
            is_whole = tl.max(gathered, axis=0) > capacity
            counts = tl.where(is_whole, counts, gathered)
            if is_searched:
                threshold = searched(
                    row, near, counts, is_whole, chunk, capacity, top, temperature,
                    top_k, left_out, tl.sum(masses, axis=0), SPLITS, WIDTH,
                )  # fmt: skip
            threshold = tl.maximum(threshold, log_min_p)
            masses = masses_above(
                threshold, row, near, counts, is_whole, chunk, capacity, top, temperature, SPLITS, WIDTH
            )
    target = part_of(uniform_bits(tl.load(longs + SEED), index), tl.sum(masses, axis=0))
    split = tl.sum((tl.cumsum(masses, axis=0) <= target).to(tl.int32), axis=0)
    target -= tl.sum(tl.where(splits < split, masses, 0), axis=0)
    count = tl.sum(tl.where(splits == split, counts, 0), axis=0)
    place = place_of(
        target, threshold, row + split * chunk, near + split * capacity, count, is_whole, top, temperature, BLOCK
    )
    token = split * chunk + place
    token = tl.where(is_whole, token, tl.load(near_tokens + split * capacity + place, mask=is_whole == 0, other=0))
    return token.to(tl.int64)


@triton.jit
def tile_of(
    start,
    row,
    near,
    counts,
    is_whole,
    chunk,
    capacity,
    top,
    temperature,
    SPLITS: tl.constexpr,  # noqa: N803
    WIDTH: tl.constexpr,  # noqa: N803
):
    """Scaled values [SPLITS, WIDTH]: from place ``start`` of every chunk, minus infinity beyond its ``counts``."""
    splits = tl.arange(0, SPLITS)[:, None]
    places = start + tl.arange(0, WIDTH)[None, :]
    inside = places < counts[:, None]
    whole = tl.load(row + splits * chunk + places, mask=inside & is_whole, other=float("-inf"))
    some = tl.load(near + splits * capacity + places, mask=inside & (is_whole == 0), other=float("-inf"))
    return scaled_of(tl.maximum(whole, some), top, temperature)


@triton.jit
def searched(
    row,
    near,
    counts,
    is_whole,
    chunk,
    capacity,
    top,
    temperature,
    top_k,
    left_out,
    total,
    SPLITS: tl.constexpr,  # noqa: N803
    WIDTH: tl.constexpr,  # noqa: N803
):
    """The smallest scaled value that top-k, and top-p of what it left, keep. ``total`` is the weight of all tokens."""
    count, mass, low, _ = around(_LOWEST, row, near, counts, is_whole, chunk, capacity, top, temperature, SPLITS, WIDTH)
    if top_k > 0:
        if count < top_k:
            low = tl.full([], float("-inf"), tl.float32)
            mass = total
        else:
            low, mass = largest(
                low, mass, top_k, tl.full([], 0, tl.int64),
                row, near, counts, is_whole, chunk, capacity, top, temperature, SPLITS, WIDTH,
            )  # fmt: skip
        total = mass
    if left_out > 0:
        low = tl.maximum(low, _LOWEST)
        low, mass = largest(
            low, mass, 0, total - part_of(left_out, total),
            row, near, counts, is_whole, chunk, capacity, top, temperature, SPLITS, WIDTH,
        )  # fmt: skip
    return low


@triton.jit
def largest(
    low,
    mass_of_low,
    count_wanted,
    mass_wanted,
    row,
    near,
    counts,
    is_whole,
    chunk,
    capacity,
    top,
    temperature,
    SPLITS: tl.constexpr,  # noqa: N803
    WIDTH: tl.constexpr,  # noqa: N803
):
    """The largest value such that it and all above are as many and weigh as much as wanted; and what they weigh.

    True of ``low``, which need not be a value of the row; the largest value of all is 0.
    """
    high = tl.full([], 0.0, tl.float32)
    while low < high:  # all values above ``high`` are too large; ``high`` is one of the row's
        middle = low + (high - low) * 0.5
        middle = tl.where(middle > low, middle, high)
        count, mass, above, below = around(
            middle, row, near, counts, is_whole, chunk, capacity, top, temperature, SPLITS, WIDTH
        )
        is_enough = (count >= count_wanted) & (mass >= mass_wanted)
        low = tl.where(is_enough, above, low)
        mass_of_low = tl.where(is_enough, mass, mass_of_low)
        high = tl.where(is_enough, high, below)
    return low, mass_of_low


@triton.jit
def around(
    pivot,
    row,
    near,
    counts,
    is_whole,
    chunk,
    capacity,
    top,
    temperature,
    SPLITS: tl.constexpr,  # noqa: N803
    WIDTH: tl.constexpr,  # noqa: N803
):
    """How many values are at least ``pivot``, what they weigh, the smallest of them, and the largest that is not."""
    count = tl.zeros([SPLITS, WIDTH], tl.int32)
    mass = tl.zeros([SPLITS, WIDTH], tl.int64)
    above = tl.full([SPLITS, WIDTH], float("inf"), tl.float32)
    below = tl.full([SPLITS, WIDTH], float("-inf"), tl.float32)
    for start in range(0, tl.max(counts, axis=0), WIDTH):
        scaled = tile_of(start, row, near, counts, is_whole, chunk, capacity, top, temperature, SPLITS, WIDTH)
        is_above = scaled >= pivot
        count += is_above.to(tl.int32)
        mass += tl.where(is_above, weight_of(scaled), 0)
        above = tl.minimum(above, tl.where(is_above, scaled, float("inf")))
        below = tl.maximum(below, tl.where(is_above, float("-inf"), scaled))
    return (
        tl.sum(tl.sum(count, axis=1), axis=0),
        tl.sum(tl.sum(mass, axis=1), axis=0),
        tl.min(tl.min(above, axis=1), axis=0),
        tl.max(tl.max(below, axis=1), axis=0),
    )


@triton.jit
def masses_above(
    threshold,
    row,
    near,
    counts,
    is_whole,
    chunk,
    capacity,
    top,
    temperature,
    SPLITS: tl.constexpr,  # noqa: N803
    WIDTH: tl.constexpr,  # noqa: N803
):
    """What the values of each chunk that are at least ``threshold`` weigh, int64 [SPLITS]."""
    mass = tl.zeros([SPLITS, WIDTH], tl.int64)
    for start in range(0, tl.max(counts, axis=0), WIDTH):
        scaled = tile_of(start, row, near, counts, is_whole, chunk, capacity, top, temperature, SPLITS, WIDTH)
        mass += tl.where(scaled >= threshold, weight_of(scaled), 0)
    return tl.sum(mass, axis=1)


@triton.jit
def place_of(target, threshold, row, near, count, is_whole, top, temperature, BLOCK: tl.constexpr):  # noqa: N803
    """The first place of a chunk up to which its values weigh more than ``target``.

    The chunk weighs more than that. If an exponential were rounded otherwise here than where that was found, its last
    place that weighs anything.
    """
    place = tl.full([], -1, tl.int32)
    last = tl.full([], 0, tl.int32)
    start = tl.full([], 0, tl.int32)
    while (place < 0) & (start < count):
        places = start + tl.arange(0, BLOCK)
        inside = places < count
        whole = tl.load(row + places, mask=inside & is_whole, other=float("-inf"))
        some = tl.load(near + places, mask=inside & (is_whole == 0), other=float("-inf"))
        scaled = scaled_of(tl.maximum(whole, some), top, temperature)
        weights = tl.where(scaled >= threshold, weight_of(scaled), 0)
        mass = tl.cumsum(weights, axis=0)
        place = tl.max(tl.where(mass > target, start + BLOCK - places, 0), axis=0)
        place = tl.where(place > 0, start + BLOCK - place, -1)
        last = tl.maximum(last, tl.max(tl.where(weights > 0, places, 0), axis=0))
        target -= tl.sum(weights, axis=0)
        start += BLOCK
    return tl.where(place < 0, last, place)
