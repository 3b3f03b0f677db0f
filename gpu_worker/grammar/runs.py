"""Forced runs: the tokens of text that has only one way on.

The idea is SGLang's compressed finite-state machine; that tokens must be those the tokenizer itself would take,
and that nothing already emitted is rewritten, follows llguidance's docs/fast_forward.md. A run stops short of a
token that could still grow: where some token of the vocabulary starts in the run, reaches beyond it and is legal,
the model has a choice to make.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol

from gpu_worker.grammar.automaton import Automaton
from shared.grammar import DEAD


class Words(Protocol):
    """What runs need to know of a words."""

    @property
    def spelling(self) -> Sequence[bytes]:
        """The bytes of every token; empty for tokens that are no text."""
        ...

    @property
    def sorted_spelling(self) -> Sequence[bytes]:
        """All distinct spellings, sorted."""
        ...

    @property
    def longest(self) -> int:
        """Bytes of the longest token."""
        ...

    def encode(self, text: str) -> Sequence[int] | None:
        """The tokenizer's own tokens of a text within a text; None where they do not spell it."""
        ...


def canonical_run(
    automaton: Automaton, words: Words, state: int, previous: int | None, text: bytes | None = None
) -> tuple[int, ...]:
    """The tokens that must follow in ``state`` after the token ``previous``; none where there is a choice.

    ``text`` (default: the automaton's chain) is what must be said.
    """
    chain = _whole_characters(automaton.chain(state) if text is None else text)
    if not chain:
        return ()
    before = b"" if previous is None else words.spelling[previous]
    tokens = _encoded(words, before, chain, previous)
    if tokens is None:
        return ()
    return _stable(automaton, words, state, tokens)


def _whole_characters(chain: bytes) -> bytes:
    """Without a last character that is cut short."""
    for back in range(1, min(4, len(chain)) + 1):
        lead = chain[-back]
        if lead < 0x80:
            return chain
        if lead >= 0xC0:
            width = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return chain if back == width else chain[:-back]
    return chain


def _encoded(words: Words, before: bytes, chain: bytes, previous: int | None) -> Sequence[int] | None:
    """The tokens of ``chain``, as the tokenizer cuts it after ``previous`` if it leaves that token whole."""
    try:
        if before:
            joint = words.encode((before + chain).decode())
            if joint is not None and joint[0] == previous:
                return joint[1:]
    except UnicodeDecodeError:  # the previous token ends or begins within a character
        pass
    try:
        return words.encode(chain.decode())
    except UnicodeDecodeError:
        return None


def _stable(automaton: Automaton, words: Words, state: int, tokens: Sequence[int]) -> tuple[int, ...]:
    """The leading tokens that no longer token could replace."""
    spelled = [words.spelling[token] for token in tokens]
    rest = b"".join(spelled)
    end = automaton.walk(rest, state)
    for place, piece in enumerate(spelled):
        if len(rest) < words.longest and _grows(automaton, words, rest, end):
            return tuple(tokens[:place])
        rest = rest[len(piece) :]
    return tuple(tokens)


def _grows(automaton: Automaton, words: Words, rest: bytes, end: int) -> bool:
    """Does some token begin with ``rest`` and go on as the automaton allows from ``end``?"""
    spellings = words.sorted_spelling
    for place in range(bisect_left(spellings, rest), len(spellings)):
        word = spellings[place]
        if not word.startswith(rest):
            return False
        if len(word) > len(rest) and automaton.walk(word[len(rest) :], end) != DEAD:
            return True
    return False
