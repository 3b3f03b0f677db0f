"""The pieces of a streamed answer, each told once, although a stream that broke comes again from its beginning.

Pure; knows neither connections nor the shape of events.
"""

from __future__ import annotations

from collections.abc import Iterable

from rootstream.lang.calls import OnPiece, Result


class Pieces:
    """What came for each part: in the present attempt, and what of it was told."""

    def __init__(self, tell: OnPiece | None) -> None:
        self._tell = tell
        self._came: dict[int, int] = {}  # characters
        self._told: dict[int, int] = {}

    def again(self) -> None:
        """The stream begins anew; what was told is skipped."""
        self._came.clear()

    def add(self, part: int, text: str) -> None:
        """A piece of a part came."""
        came = self._came.get(part, 0)
        self._came[part] = came + len(text)
        self._say(part, text[max(self._told.get(part, 0) - came, 0) :])

    def complete(self, results: Iterable[Result]) -> None:
        """Say the rest of texts that did not come in pieces: choices, and answers that were kept."""
        for result in results:
            self._say(result.part, result.text[self._told.get(result.part, 0) :])

    def _say(self, part: int, text: str) -> None:
        if text:
            self._told[part] = self._told.get(part, 0) + len(text)
            if self._tell is not None:
                self._tell(part, text)
