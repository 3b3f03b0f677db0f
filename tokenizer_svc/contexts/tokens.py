"""The tokens of a sequence to which text and drawn tokens are added: they do not depend on how the text was cut.

Text added to text is tokenised as if both had been one; drawn tokens stay as they were drawn, and text after them
begins anew. Pure: knows a tokenizer, and nothing of models, requests or conversations.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence

import msgspec

from shared.text_stream import TextStream
from shared.tokenizer import Tokenizer

_BETWEEN_WORDS = re.compile(r"[A-Za-z](?= [A-Za-z])")
"""Before a space between two letters: where a vocabulary cuts between words, nothing on one side of it changes the
tokens of the other.
"""


class Written(msgspec.Struct, frozen=True):
    """A sequence so far."""

    ids: tuple[int, ...] = ()
    open: str = ""  # text at its end whose tokens depend on what follows
    open_at: int = 0  # where the tokens of that begin
    is_first: bool = True  # nothing but what stands before every text is before it

    def with_text(self, text: str, encoder: Tokenizer) -> Written:
        """The sequence with more text."""
        if not text:
            return self
        whole = self.open + text
        ids = encoder.encode(whole, add_special_tokens=False) if self.is_first else encoder.encode_after(whole)
        kept = self.ids[: self.open_at]
        cut = _last_cut(whole) if encoder.cuts_between_words else 0
        if not cut:
            return Written((*kept, *ids), whole, self.open_at, self.is_first)
        rest = whole[cut:]
        tail = encoder.encode_after(rest)
        if ids[len(ids) - len(tail) :] != tail:  # never, where words are cut; and no harm if it were
            return Written((*kept, *ids), whole, self.open_at, self.is_first)
        every = (*kept, *ids)
        return Written(every, rest, len(every) - len(tail), is_first=False)

    def with_drawn(self, ids: Sequence[int]) -> Written:
        """The sequence with tokens that a model drew."""
        if not ids:
            return self
        every = (*self.ids, *ids)
        return Written(every, "", len(every), is_first=False)


def opening(encoder: Tokenizer, *, framed: bool) -> Written:
    """An empty sequence; ``framed``: with what stands before every text."""
    ids = encoder.opening_ids if framed else ()
    return Written(ids, "", len(ids))


def _last_cut(text: str) -> int:
    """The last place where a text can be cut, 0 for none. Looks at its end only."""
    start = max(0, len(text) - 256)
    places = [match.end() for match in _BETWEEN_WORDS.finditer(text, start)]
    return places[-1] if places else 0


class Said(msgspec.Struct, frozen=True):
    """What of drawn tokens is part of a text, and the text beyond the last of them."""

    ids: tuple[int, ...]
    rest: str = ""


def said(ids: Sequence[int], text: str, open_stream: Callable[[], TextStream]) -> Said:
    """The drawn tokens that make a text, which a stop may have cut anywhere within them.

    ``open_stream``: the text of these tokens, from its beginning.
    """
    stream = open_stream()
    ends = [0]
    for id in ids:
        ends.append(ends[-1] + len(stream.push(id)))
    count = bisect_right(ends, len(text)) - 1
    while True:
        shown = _text(ids[:count], open_stream())
        if text.startswith(shown):  # else half a character is open there
            return Said(tuple(ids[:count]), text[len(shown) :])
        count -= 1


def _text(ids: Sequence[int], stream: TextStream) -> str:
    return "".join([stream.push(id) for id in ids]) + stream.flush()
