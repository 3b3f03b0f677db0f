"""Tokens to text, one token at a time, never half a character.

Two ways to the same end. A byte-level vocabulary (GPT-2's and its heirs) spells every token as bytes,
so text is an incremental UTF-8 decoding: exact, 0.5 µs a token. Any other vocabulary goes through the
library's DecodeStream, which decodes a window of recent tokens.

Knows nothing of stop strings or requests.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Protocol

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

_REPLACEMENT = "\ufffd"
_PATIENCE = 8  # tokens without text after which no character can still be incomplete (UTF-8 has 4 bytes)


class TextStream(Protocol):
    """The text of one sequence of tokens, in pieces that are whole characters.

    All pieces and the flush together are the decoding of all tokens.
    """

    def push(self, token_id: int) -> str:
        """The text that is certain now that this token came: empty while a character is incomplete."""
        ...

    def flush(self) -> str:
        """What is left when no token follows: U+FFFD for a character cut short."""
        ...


class ByteTextStream:
    """TextStream of a byte-level vocabulary."""

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        return self._decoder.decode(self._token_bytes(token_id))

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class WindowTextStream:
    """TextStream of any vocabulary, on the library's DecodeStream.

    DecodeStream looks back at the tokens of the piece before, so that a leading space survives; at
    first these are the last prompt tokens. It raises when later tokens change the decoding of earlier
    ones (an invalid byte in a run of byte-fallback tokens), and waits for ever on invalid UTF-8: both
    end the window here, and what was sent stays as it was sent.
    """

    def __init__(self, tokenizer: Tokenizer, context: Sequence[int], *, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._window: list[int] = []
        self._pending: list[int] = []
        self._restart(context if self._is_whole(context) else ())

    def push(self, token_id: int) -> str:
        self._pending.append(token_id)
        try:
            text = self._stream.step(self._tokenizer, token_id)
        except Exception:  # noqa: BLE001 (the library raises bare Exception: InvalidPrefix)
            return self._cut()
        if text is None:
            return self._cut() if len(self._pending) > _PATIENCE else ""
        self._window, self._pending = self._pending, []
        return text

    def flush(self) -> str:
        return self._cut()

    def _cut(self) -> str:
        """The text of all pending tokens, as it is; the window starts anew after it."""
        before = self._decode(self._window)
        after = self._decode(self._window + self._pending)
        text = after[len(before) :] if after.startswith(before) else self._decode(self._pending)
        self._restart(self._pending if self._is_whole(self._pending) else self._window)
        return text

    def _restart(self, window: Sequence[int]) -> None:
        self._window, self._pending = list(window), []
        self._stream = DecodeStream(ids=self._window, skip_special_tokens=self._skip)

    def _is_whole(self, ids: Sequence[int]) -> bool:
        """Whether ``ids`` show text that ends in a whole character: DecodeStream repeats any other window."""
        text = self._decode(ids)
        return bool(text) and not text.endswith(_REPLACEMENT)

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=self._skip)
