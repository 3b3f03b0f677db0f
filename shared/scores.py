"""Log-probabilities of tokens as they travel: cut by position, joined, read.

:class:`shared.protocol.Scores` holds columns; how many likeliest tokens there are to a token, and how many that were
asked for, follows from their lengths. Knows nothing of models, and not where scores come from.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from shared.protocol import Scores, Scoring

_WIDTH = 4  # bytes of a value, in all columns
_BASE_BYTES = 64


class TokenScores(NamedTuple):
    """What is known of the token at one position."""

    position: int
    logprob: float
    rank: int  # how many tokens are as likely or likelier, itself included
    top: tuple[tuple[int, float], ...]  # token ids and their log-probabilities, likeliest first
    asked: tuple[float, ...]  # in the order of `Scoring.ids`


def first_scored(scoring: Scoring, prompt_len: int) -> int:
    """The first position whose token is scored: every generated one is, whatever of the prompt."""
    return min(scoring.start, prompt_len)


def count(scores: Scores) -> int:
    """Of how many tokens."""
    return len(scores.chosen) // _WIDTH


def end(scores: Scores) -> int:
    """The position after the last one."""
    return scores.first + count(scores)


def size_of(scores: Scores | None) -> int:
    """About how many bytes they take."""
    if scores is None:
        return 0
    return _BASE_BYTES + sum(map(len, _columns(scores)))


def part(scores: Scores, start: int, stop: int) -> Scores:
    """Those at positions from ``start`` to before ``stop``, as far as they are there."""
    first, last = scores.first, end(scores)
    start = min(max(start, first), last)
    stop = min(max(stop, start), last)
    if (start, stop) == (first, last):
        return scores
    cut = [bytes(_cut(column, last - first, start - first, stop - first)) for column in _columns(scores)]
    return Scores(scores.id, start, *cut)


def covers(scores: Scores | None, start: int, stop: int) -> bool:
    """Whether every position from ``start`` to before ``stop`` is there."""
    return start >= stop or (scores is not None and scores.first <= start and stop <= end(scores))


def joined(parts: Iterable[Scores | None]) -> Scores | None:
    """Scores of one request in order of position as one; None for none.

    Positions that are there already are dropped, and so is what comes after a gap.
    """
    found: list[Scores] = []
    at = 0
    for scores in parts:
        if scores is None or not scores.chosen:
            continue
        if found and (scores.first > at or _widths(scores) != _widths(found[0])):
            break
        if not found or end(scores) > at:
            found.append(part(scores, at, end(scores)))
            at = end(scores)
    if len(found) < 2:
        return found[0] if found else None
    columns = zip(*map(_columns, found), strict=True)
    return Scores(found[0].id, found[0].first, *map(b"".join, columns))


class GrowingScores:
    """All scores of one request so far, from its first scored position on."""

    def __init__(self, id: int, first: int) -> None:
        self.first = first
        self._id = id
        self._size = 0
        self._columns = tuple(bytearray() for _ in range(5))
        self._ahead: list[Scores] = []  # what came before that which precedes it

    @property
    def end(self) -> int:
        """The position after the last one known."""
        return self.first + self._size

    @property
    def nbytes(self) -> int:
        return sum(map(len, self._columns))

    def add(self, scores: Scores) -> bool:
        """Take what is new of these. False where some are missing before them: they are kept until those come."""
        if scores.first > self.end:
            self._ahead.append(scores)
            return False
        self._take(scores)
        ahead, self._ahead = self._ahead, []
        for each in ahead:
            self.add(each)
        return True

    def forget_ahead(self) -> None:
        """What came too early will come again."""
        self._ahead.clear()

    def part(self, start: int, stop: int) -> Scores:
        """Those at positions from ``start`` to before ``stop``, as far as they are known."""
        start = min(max(start, self.first), self.end)
        stop = min(max(stop, start), self.end)
        size, at = self._size, (start - self.first, stop - self.first)
        return Scores(self._id, start, *[bytes(_cut(column, size, *at)) for column in self._columns])

    def whole(self) -> Scores:
        return self.part(self.first, self.end)

    def _take(self, scores: Scores) -> None:
        new = part(scores, self.end, end(scores))
        count_new = count(new)
        if not count_new:
            return
        if self._size and _widths(new) != _widths(self.part(self.end - 1, self.end)):
            return  # by a broken sender: as good as missing
        for column, more in zip(self._columns, _columns(new), strict=True):
            column += more
        self._size += count_new


def each(scores: Scores | None) -> Iterator[TokenScores]:
    """One by one."""
    if scores is None or not (size := count(scores)):
        return
    chosen, ranks = _floats(scores.chosen), _ints(scores.ranks)
    top_ids, top, asked = _ints(scores.top_ids), _floats(scores.top), _floats(scores.asked)
    k, a = len(top_ids) // size, len(asked) // size
    for i in range(size):
        likeliest = tuple(zip(top_ids[i * k : i * k + k], top[i * k : i * k + k], strict=True))
        yield TokenScores(scores.first + i, chosen[i], ranks[i], likeliest, tuple(asked[i * a : i * a + a]))


def packed(id: int, tokens: Iterable[TokenScores]) -> Scores:
    """Inverse of :func:`each`, for at least one token."""
    rows = list(tokens)
    return Scores(
        id,
        rows[0].position,
        array("f", [row.logprob for row in rows]).tobytes(),
        array("i", [row.rank for row in rows]).tobytes(),
        array("i", [token for row in rows for token, _ in row.top]).tobytes(),
        array("f", [logprob for row in rows for _, logprob in row.top]).tobytes(),
        array("f", [logprob for row in rows for logprob in row.asked]).tobytes(),
    )


def _widths(scores: Scores) -> tuple[int, int]:
    """Bytes of the wide columns for each token."""
    size = count(scores)
    return len(scores.top) // size, len(scores.asked) // size


def _columns(scores: Scores) -> tuple[bytes, ...]:
    return scores.chosen, scores.ranks, scores.top_ids, scores.top, scores.asked


def _cut(column: bytes | bytearray, size: int, start: int, stop: int) -> bytes | bytearray:
    row = len(column) // size if size else 0
    return column[start * row : stop * row]


def _floats(column: bytes) -> list[float]:
    return array("f", column).tolist()


def _ints(column: bytes) -> list[int]:
    return array("i", column).tolist()
