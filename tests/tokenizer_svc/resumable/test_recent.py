"""Which ended answers are still in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from tokenizer_svc.resumable.recent import Recent
from tokenizer_svc.resumable.writer import Writer


def _ended(id: int, size: int, keep_s: int = 600) -> Writer:
    tail: Any = SimpleNamespace(id=id, record=SimpleNamespace(keep_s=keep_s))
    return cast("Writer", SimpleNamespace(tail=tail, size=size))


def _ids(recent: Recent) -> list[int]:
    return [writer.tail.id for writer in recent.writers]


def test_the_oldest_go_where_there_is_no_room() -> None:
    recent = Recent(room=100)
    for id, size in ((1, 40), (2, 40), (3, 40)):
        recent.add(_ended(id, size), now=id)
    assert _ids(recent) == [2, 3]
    recent.forget(2)
    recent.add(_ended(4, 60), now=4)
    assert _ids(recent) == [3, 4]
    recent.add(_ended(5, 101), now=5)
    assert _ids(recent) == []


def test_none_stays_for_longer_than_it_is_kept() -> None:
    recent = Recent()
    recent.add(_ended(1, 1), now=0)
    recent.add(_ended(2, 1, keep_s=5), now=50)
    recent.forget_old(54)
    assert _ids(recent) == [1, 2]
    recent.forget_old(61)
    assert _ids(recent) == []
