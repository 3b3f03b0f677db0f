"""How an answer gets the shape of one API: events of a stream, or one body. Knows nothing of connections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from shared.protocol import Scores
from tokenizer_svc.answers import Answer, Piece, merged
from tokenizer_svc.api_error import ApiError

ANSWER_PREFIX = "(?:(?:chatcmpl|cmpl|gen)-|(?:msg|resp)_)"
"""What the ids of answers begin with, as a pattern: the APIs' own words."""


class Origin(NamedTuple):
    """What a rendering says of where an answer comes from."""

    model: str
    created: int  # unix seconds
    elapsed: Callable[[], float]  # seconds since the request arrived


class Rendering(Protocol):
    """The shape that one API gives to an answer. A fold: it is told every piece in order."""

    @property
    def waiting(self) -> Callable[[], bytes] | None:
        """The first events of a kept stream while nobody knows yet whether its answer starts; None: it waits, too."""
        ...

    def opening(self) -> bytes:
        """The first events of a stream, or those after :attr:`waiting`."""
        ...

    def piece(self, piece: Piece) -> bytes:
        """The events for one piece; called for every piece in order."""
        ...

    def closing(self) -> bytes:
        """The last events of a stream that went well."""
        ...

    def failing(self, error: ApiError) -> bytes:
        """The last events of a stream that ends in an error."""
        ...

    def whole(self, texts: Sequence[str], tokens: Sequence[Sequence[int]], scores: Sequence[Scores | None]) -> bytes:
        """The body of an answer that is no stream, from text, tokens and their log-probabilities by choice."""
        ...


def whole_from(answer: Answer, rendering: Rendering, pieces: Iterable[Piece]) -> bytes:
    """The body of an answer, from all of its pieces."""
    by_choice = {piece.choice.index: piece for piece in merged(pieces)}
    found = [by_choice.get(choice.index) for choice in answer.choices]
    return rendering.whole(
        [piece.text if piece else "" for piece in found],
        [piece.tokens if piece else () for piece in found],
        [piece.scores if piece else None for piece in found],
    )
