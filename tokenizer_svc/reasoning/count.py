"""How many of an answer's tokens are reasoning: those up to the closing mark, marks included."""

from __future__ import annotations

from collections.abc import Sequence

from shared.text_stream import TextStream
from tokenizer_svc.reasoning.stream import ReasoningStream


class ReasoningCount:
    """A fold over tokens, which reads their text for itself: what clients see of it may lag behind, or be cut."""

    def __init__(self, text: TextStream, stream: ReasoningStream) -> None:
        """Both are at the beginning of the answer, and nobody else's."""
        self._text = text
        self._stream = stream
        self._read = 0

    @property
    def tokens(self) -> int:
        return self._read if self._stream.has_reasoning else 0

    def push(self, tokens: Sequence[int]) -> None:
        """Take the next tokens."""
        for token in tokens:
            if self._stream.is_over:
                return
            self._stream.push(self._text.push(token))
            self._read += 1
