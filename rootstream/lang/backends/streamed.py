"""Reads the events of our server's streamed answers. Knows no connections."""

from __future__ import annotations

import msgspec

from rootstream.lang.backends import wire
from rootstream.lang.backends.asking import Reader
from rootstream.lang.backends.events import EventReader, TooLong
from rootstream.lang.backends.pieces import Pieces
from rootstream.lang.backends.refusals import of_error
from rootstream.lang.backends.retrying import Passing
from rootstream.lang.calls import CallError, OnPiece


class Streamed:
    """An answer in pieces, over as many attempts as it takes."""

    def __init__(self, on_piece: OnPiece | None) -> None:
        self._pieces = Pieces(on_piece)
        self._events = EventReader()
        self.body = b""
        """The whole answer, as it is where nothing is streamed."""

    def begin(self) -> Reader:
        """Read the answer from its beginning."""
        self._events = EventReader()
        self._pieces.again()
        return self

    @property
    def may_repeat(self) -> bool:
        return True

    def push(self, chunk: bytes) -> None:
        """Raises CallError."""
        try:
            for data in self._events.push(chunk):
                if data != b"[DONE]":
                    self._read(data)
        except (msgspec.MsgspecError, TooLong) as error:
            raise CallError(f"the server's stream is not understood: {error}", 200) from error

    def end(self) -> None:
        """Raises Passing if it is not whole."""
        if not self.body:
            raise Passing("the server's stream ended before the answer was whole", code="connection")

    def _read(self, data: bytes) -> None:
        event = wire.decode_event(data)
        if event.error is not None:
            raise of_error(event.error, None)
        if event.delta is not None:
            if event.index == 0:  # of n texts a program goes on with the first
                self._pieces.add(event.part, event.delta)
        elif event.result is not None:
            self._pieces.complete((event.result,))
        elif event.object == "context":
            self._pieces.complete(wire.decode_context(data).parts)
            self.body = data
