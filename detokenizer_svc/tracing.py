"""What traces say of a request's text: from its first piece to its last, and how much there was of it.

Follows the messages that come and go. Times are unix nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shared import columns
from shared.protocol import Texts, Track
from shared.tracing import REQUEST_ID, Tracing

DETOKENISE = "detokenizer.detokenise"


@dataclass(slots=True)
class _Traced:
    trace: str
    since_ns: int = 0  # its first text; 0: none yet
    tokens: int = 0
    characters: int = 0
    messages: int = 0


class TextSpans:
    """The requests that are traced. Costs nothing for those that are not."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._traced: dict[int, _Traced] = {}

    def tracked(self, track: Track) -> None:
        """A request came, perhaps once more."""
        if track.trace:
            self._traced.setdefault(track.id, _Traced(track.trace))

    def untracked(self, id: int, now_ns: int) -> None:
        """Nobody waits for it any more."""
        self._end(id, now_ns, "untracked")

    def wrote(self, written: Iterable[Texts], now_ns: int) -> None:
        """Text was written."""
        if not self._traced:
            return
        for texts in written:
            counts = columns.ints(texts.counts)
            for id, count, text, finish in zip(
                columns.longs(texts.ids), counts, texts.texts, texts.finishes, strict=True
            ):
                if (traced := self._traced.get(id)) is None:
                    continue
                traced.since_ns = traced.since_ns or now_ns
                traced.tokens += count
                traced.characters += len(text)
                traced.messages += 1
                if finish:
                    self._end(id, now_ns)

    def _end(self, id: int, now_ns: int, failure: str = "") -> None:
        traced = self._traced.pop(id, None)
        if traced is None or not traced.since_ns:
            return
        attributes = {
            REQUEST_ID: f"{id:016x}",
            "rootstream.output_tokens": traced.tokens,
            "rootstream.characters": traced.characters,
            "rootstream.messages": traced.messages,
        }
        self._tracing.record(DETOKENISE, traced.trace, traced.since_ns, now_ns, attributes, failure)
