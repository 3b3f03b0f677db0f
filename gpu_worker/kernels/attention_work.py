"""What one pass of attention has to do, as lists that programs on a GPU take their work from.

Rows with many new tokens are cut into *tiles* of queries, each of which walks all of its keys. Rows with few (decode
rows, forced tokens, a short message after a long conversation) are cut the other way too: an *item* is some queries
and a range of keys. A segment of pages that
several rows share is read by items whose queries are those of all its rows; from where a row is alone on, it has items
of its own (Hydragen, arXiv 2402.05099; cascade inference in FlashInfer). A token that several items
attend for gets a *partial* result from each, merged by log-sum-exp (Flash-Decoding).

Pure numpy, host memory; knows nothing of tensors or devices. Everything is int32.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpu_worker.kernels.tiling import WAVES, Tiling
from gpu_worker.sharing import Sharing, nothing_shared

Int32 = NDArray[np.int32]

_LONG = 8  # pieces that make a row worth splitting though it has many new tokens

TILE_FIELDS = 4
ITEM_FIELDS = 6


class Rows(NamedTuple):
    """The rows of a batch as the host knows them; see FlatBatch."""

    starts: Int32  # [R + 1]
    kv_lens: Int32  # [R]
    sharing: Sharing  # of the leading decode rows
    page_size: int


class Limits(NamedTuple):
    """What buffers of fixed size can hold."""

    items: int
    members: int
    partials: int


class Work(NamedTuple):
    """E tiles; I items over M members; Q tokens with P partial results.

    A tile is (row, first flat token, tokens, position of the first). Those with most keys come first.
    An item is (first member, members, row, first key, end of keys, first partial): its queries are the flat tokens
    ``members[first:first + count]``, its keys those of ``row`` at positions [first, end) as far as each query may see
    them. Partial results of its members lie one after another from the first on; -1: there is only this
    one, and it is the result. Items with most work come first.
    Token ``merged[i]`` is the sum of ``partials[offsets[i]:offsets[i + 1]]``.
    """

    tiles: Int32  # [E, 4]
    items: Int32  # [I, 6]
    members: Int32  # [M]
    merged: Int32  # [Q]
    offsets: Int32  # [Q + 1]
    partials: Int32  # [P]


class _Spans(NamedTuple):
    """Queries and the keys they attend to together, before these are split."""

    first: Int32  # of its members
    queries: Int32
    row: Int32
    begin: Int32  # of its keys
    end: Int32
    shared: NDArray[np.bool_]
    direct: NDArray[np.bool_]  # nobody else attends for these queries


def make_work(rows: Rows, tiling: Tiling, window: int | None, limits: Limits | None = None) -> Work:
    """Plan a pass of layers that see the last ``window`` tokens. Raises ValueError where ``limits`` are too small.

    Sharing is ignored if the window cuts any row's context. Within limits, segments are dropped and pieces get longer
    before anything fails: rows as many as the limits were made for always fit.
    """
    cut = window is not None and len(rows.kv_lens) > 0 and window < int(rows.kv_lens.max())
    sharing = nothing_shared(len(rows.sharing.own)) if cut or tiling.tile_tokens < 2 else rows.sharing
    lengths = np.diff(rows.starts)
    few = _are_few(lengths, rows.kv_lens, tiling)
    own_members = _tokens_of(rows.starts[:-1][few], lengths[few])
    if limits is not None:
        sharing = _within(sharing, limits.members - len(own_members))
    members = np.concatenate((own_members, sharing.members))
    spans = _spans(rows, sharing, lengths, few, window if cut else None, len(own_members), tiling.tile_tokens)
    items = _split(spans, tiling, limits)
    return Work(_tiles(rows, lengths, ~few, tiling.extend_tokens), items, members, *_merges(items, members))


def _are_few(lengths: Int32, kv_lens: Int32, tiling: Tiling) -> NDArray[np.bool_]:
    """Which rows are to be items: those of one tile, and long ones where all tiles would leave half the GPU idle."""
    few = lengths <= tiling.tile_tokens
    if few.all():
        return few
    tiles = int((-(-lengths[~few] // tiling.extend_tokens)).sum())
    if tiles * 2 * WAVES > tiling.programs:
        return few
    return few | (kv_lens >= _LONG * tiling.min_split)


def _tokens_of(first: Int32, count: Int32) -> Int32:
    """The flat tokens of rows, one after another."""
    return np.repeat(first, count) + _within_each(count)


def _within_each(count: Int32) -> Int32:
    """0, 1, ... of each group of ``count``."""
    ends = np.cumsum(count, dtype=np.int32)
    return np.arange(ends[-1] if len(ends) else 0, dtype=np.int32) - np.repeat(ends - count, count)


def _within(sharing: Sharing, members: int) -> Sharing:
    """Its leading segments, parents before children, that have at most so many members together."""
    kept = int(np.searchsorted(sharing.offsets, members, side="right")) - 1
    if kept == sharing.num_segments:
        return sharing
    offsets = sharing.offsets[: max(kept, 0) + 1]
    left = sharing.members[: offsets[-1]]
    own = np.zeros_like(sharing.own)
    np.maximum.at(own, left, np.repeat(sharing.ends[: len(offsets) - 1], np.diff(offsets)))
    return Sharing(sharing.begins[: len(offsets) - 1], sharing.ends[: len(offsets) - 1], offsets, left, own)


def _spans(
    rows: Rows,
    sharing: Sharing,
    lengths: Int32,
    few: NDArray[np.bool_],
    window: int | None,
    num_own: int,
    tile_tokens: int,
) -> _Spans:
    """Of rows alone, then of segments; the queries of either are cut into tiles."""
    own = np.zeros(len(lengths), np.int32)
    own[: len(sharing.own)] = sharing.own
    new = lengths[few]
    tiles = -(-new // tile_tokens)
    row = np.repeat(np.flatnonzero(few).astype(np.int32), tiles)
    at = _within_each(tiles) * tile_tokens
    count = np.minimum(lengths[row] - at, tile_tokens)
    mine = np.repeat(np.cumsum(new) - new, tiles) + at
    end = rows.kv_lens[row] - lengths[row] + at + count
    alone = own[row]
    begin = alone * rows.page_size
    if window is not None:
        oldest = np.maximum(end - count + 1 - window, 0)  # that the first query sees
        begin = oldest // rows.page_size * rows.page_size
    sizes = np.diff(sharing.offsets)
    tiles = -(-sizes // tile_tokens)
    at = _within_each(tiles) * tile_tokens
    first = np.repeat(sharing.offsets[:-1], tiles) + at
    return _Spans(
        np.concatenate((mine, first + num_own)).astype(np.int32),
        np.concatenate((count, np.minimum(np.repeat(sizes, tiles) - at, tile_tokens))),
        np.concatenate((row, sharing.members[first])).astype(np.int32),
        np.concatenate((begin, np.repeat(sharing.begins, tiles) * rows.page_size)),
        np.concatenate((end, np.repeat(sharing.ends, tiles) * rows.page_size)),
        np.arange(len(count) + len(first)) >= len(count),
        np.concatenate((alone == 0, np.zeros(len(first), bool))),
    )


def _split(spans: _Spans, tiling: Tiling, limits: Limits | None) -> Int32:
    """Items [I, 6]: as many as fill the GPU, none too short, all of a span about equal."""
    length = spans.end - spans.begin
    step = tiling.decode.keys
    wanted = max(1, int(length.sum(dtype=np.int64)) // tiling.programs)
    shortest = np.where(spans.shared, tiling.min_shared_split, tiling.min_split)
    while True:
        pieces = np.maximum(-(-length // np.maximum(shortest, wanted)), 1)
        is_partial = ~(spans.direct & (pieces == 1))
        if limits is None:
            break
        if pieces.sum() <= limits.items and (pieces * spans.queries)[is_partial].sum() <= limits.partials:
            break
        if (pieces == 1).all():
            raise ValueError(f"{len(pieces)} spans are beyond {limits}")
        wanted *= 2
    equal = -(-length // pieces)
    piece = -(-equal // step) * step
    pieces = np.maximum(-(-length // piece), 1)  # rounding up may have made the last ones superfluous
    is_partial = ~(spans.direct & (pieces == 1))
    count = np.repeat(spans.queries, pieces)
    begin = np.repeat(spans.begin, pieces) + _within_each(pieces) * np.repeat(piece, pieces)
    end = np.minimum(begin + np.repeat(piece, pieces), np.repeat(spans.end, pieces))
    order = np.argsort(begin - end, kind="stable")
    stored = np.where(np.repeat(is_partial, pieces), count, 0)[order]
    partial = np.where(stored > 0, np.cumsum(stored) - stored, -1)
    first, row = np.repeat(spans.first, pieces), np.repeat(spans.row, pieces)
    columns = (first[order], count[order], row[order], begin[order], end[order], partial)
    return np.stack(columns, axis=1).astype(np.int32)


def _merges(items: Int32, members: Int32) -> tuple[Int32, Int32, Int32]:
    """Which tokens have partial results, and which: ``merged``, ``offsets`` and ``partials`` of Work."""
    items = items[items[:, 5] >= 0]
    tokens = members[_tokens_of(items[:, 0], items[:, 1])]  # of partial 0, 1, ...
    if not len(tokens):
        return tokens, np.zeros(1, np.int32), tokens
    partials = np.argsort(tokens, kind="stable").astype(np.int32)
    tokens = tokens[partials]
    first = np.flatnonzero(np.diff(tokens, prepend=-1)).astype(np.int32)
    return tokens[first], np.append(first, np.int32(len(tokens))), partials


def _tiles(rows: Rows, lengths: Int32, many: NDArray[np.bool_], tokens: int) -> Int32:
    """Tiles [E, 4] of rows with many new tokens."""
    if not many.any():
        return np.zeros((0, TILE_FIELDS), np.int32)
    pieces = -(-lengths[many] // tokens)
    row = np.repeat(np.flatnonzero(many).astype(np.int32), pieces)
    at = _within_each(pieces) * tokens
    position = rows.kv_lens[row] - lengths[row] + at
    tiles = np.stack((row, rows.starts[row] + at, np.minimum(lengths[row] - at, tokens), position), 1)
    return tiles[np.argsort(-position, kind="stable")].astype(np.int32)
