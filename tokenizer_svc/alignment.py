"""Which tokens a piece of text is made of: a fold over the tokens of one answer, beside the text that clients see.

Text lags behind its tokens: half a character, or what may become a stop string, is held back. A token is shown with the
text that completes it; one that has no text of its own (a part of a character, a token that is hidden), with the next
that has, or at the end. So every token is shown exactly once, in order, and never before its text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import chain, pairwise, repeat
from typing import NamedTuple

from shared import scores
from shared.protocol import Scores
from shared.scores import TokenScores
from shared.text_stream import TextStream


class Shown(NamedTuple):
    """A token of an answer."""

    id: int
    offset: int  # characters of the answer's text before it
    score: TokenScores | None


class _Group(NamedTuple):
    """Tokens that are shown together."""

    end: int  # characters of the text up to its end
    tokens: list[Shown]


class Alignment:
    """The tokens of one answer that are not shown yet."""

    def __init__(self, text: TextStream) -> None:
        """``text``: at the beginning of the answer, and nobody else's."""
        self._text = text
        self._characters = 0  # of all tokens taken
        self._come = 0  # of these, as pieces of text
        self.shown = 0  # of these, to clients
        self._open: list[Shown] = []  # tokens whose text is not complete
        self._groups: deque[_Group] = deque()

    def push(self, tokens: Sequence[int], found: Scores | None) -> None:
        """Take the next tokens, with their log-probabilities where there are any."""
        for id, score in zip(tokens, chain(scores.each(found), repeat(None)), strict=False):
            text = self._text.push(id)
            self._open.append(Shown(id, self._characters, score))
            self._close(text)

    def flush(self) -> None:
        """No token follows: what is left of a character that was cut short is text, too."""
        self._close(self._text.flush())

    def cut(self, text: str) -> list[str]:
        """The next piece of text, in one or more: cut where tokens end."""
        end = self._come + len(text)
        places = [group.end - self._come for group in self._groups if self._come < group.end < end]
        return [text[start:stop] for start, stop in pairwise((0, *places, len(text)))]

    def show(self, text: str, held: int = 0) -> None:
        """Clients are about to see the next piece of text, but for ``held`` characters at the end of all so far."""
        self._come += len(text)
        self.shown = max(self.shown, self._come - held)

    def due(self) -> list[Shown]:
        """The tokens that the text shown so far completes."""
        found: list[Shown] = []
        while self._groups and self._groups[0].end <= self.shown:
            found += self._groups.popleft().tokens
        return found

    def rest(self) -> list[Shown]:
        """All tokens that are left when no more text will come."""
        found = [token for group in self._groups for token in group.tokens] + self._open
        self._groups.clear()
        self._open = []
        return found

    def _close(self, text: str) -> None:
        if text:
            self._characters += len(text)
            self._groups.append(_Group(self._characters, self._open))
            self._open = []


def overlapping(tokens: Sequence[Shown], start: int, end: int) -> list[Shown]:
    """Those of successive tokens that have a part in the text from ``start`` on; ``end`` is that of the last one."""
    found: list[Shown] = []
    until, last = end, end  # where the token at hand ends, and where the one before it began
    for token in reversed(tokens):
        if token.offset < last:
            until, last = last, token.offset
        if until <= start:
            break
        found.append(token)
    return found[::-1]


def echoed(ids: Sequence[int], text: str, found: Scores | None, stream: TextStream) -> list[Shown]:
    """The tokens of a prompt, by their places in its text as clients see it.

    Tokens that frame the text (a first token of every prompt) have no place of their own. ``stream``: of all tokens.
    """
    parts = [stream.push(id) for id in ids]
    whole = "".join(parts) + stream.flush()
    at = len(text) - len(whole) if whole.endswith(text) else 0
    scored = {score.position: score for score in scores.each(found)}
    shown: list[Shown] = []
    for position, (id, part) in enumerate(zip(ids, parts, strict=True)):
        shown.append(Shown(id, min(max(at, 0), len(text)), scored.get(position)))
        at += len(part)
    return shown
