"""Building blocks of a made log: Tracks, Opened and Steps in short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from shared import columns
from shared.protocol import Finish, Restated, Step, Texts, Track


class Row(NamedTuple):
    """One row of a Step."""

    id: int
    first: int
    tokens: Sequence[int]
    finish: Finish = Finish.NONE
    forced: Sequence[int] = ()  # a flag per token; none where empty


def step(*rows: Row, epoch: int = 1, seq: int = 0, errors: tuple[tuple[int, str], ...] = ()) -> Step:
    return Step(
        epoch=epoch,
        seq=seq,
        plan=0,
        ids=columns.uint64(row.id for row in rows),
        firsts=columns.int32(row.first for row in rows),
        counts=columns.int32(len(row.tokens) for row in rows),
        tokens=columns.int32(token for row in rows for token in row.tokens),
        finishes=columns.uint8(row.finish for row in rows),
        errors=errors,
        forced=bytes(flag for row in rows for flag in row.forced or [0] * len(row.tokens)),
    )


def track(request_id: int, reply_to: str = "t", **more: Any) -> Track:
    return Track(id=request_id, reply_to=reply_to, context=b"", **more)


def restated(request_id: int, tokens: Sequence[int], finish: Finish = Finish.NONE) -> Restated:
    return Restated(request_id, columns.int32(list(tokens)), finish)


class Text(NamedTuple):
    """One row of a Texts message."""

    id: int
    first: int
    tokens: tuple[int, ...]
    text: str
    finish: Finish
    matched: str | int | None


def rows(texts: Texts) -> list[Text]:
    tokens = columns.as_int32(texts.tokens).tolist()
    found: list[Text] = []
    start = 0
    for request_id, first, count, text, finish, matched in zip(
        columns.as_uint64(texts.ids).tolist(),
        columns.as_int32(texts.firsts).tolist(),
        columns.as_int32(texts.counts).tolist(),
        texts.texts,
        texts.finishes,
        texts.matched,
        strict=True,
    ):
        found.append(Text(request_id, first, tuple(tokens[start : start + count]), text, Finish(finish), matched))
        start += count
    assert start == len(tokens)
    return found
