"""Compiled grammars as they travel: from tokenizer_svc, which compiles, to the worker, which obeys them.

A grammar is known by the key of its spec, so that a request can be announced, and its prompt computed, before the
grammar is compiled. The compiled form lies under that key for every process to read; a rejection too.
It is vocabulary-free: the worker alone knows how tokens are spelled.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.protocol import Wire

FORMAT = 1  # of the compiled forms below: part of every key, so that releases do not read each other's

EXHAUSTED = "this grammar takes more work than it may to follow: make it simpler"
"""Why a row ended whose grammar reached a limit: the one fault of a running request that is its own."""

DEAD = 0
START = 1


class Dfa(Wire, frozen=True, tag=1):
    """A deterministic automaton over UTF-8 bytes. State 0 is dead, state 1 is the start.

    Every state but 0 can reach an accepting one.
    """

    classes: bytes  # uint8 [256]: the class of each byte
    num_classes: int
    transitions: bytes  # uint16 [S, num_classes], row-major
    accepting: bytes  # uint8 [S]: 0 or 1
    segments: Segments | None = None


class Segments(Wire, frozen=True):
    """The generated parts of a template: what its states have to do with them, and where their values end.

    ``labels`` has an int16 per state: the index of the generated part it is in, -1 in fixed text. When part i has used
    up ``budgets[i]`` tokens (0: no bound), ``following[i]`` is forced as soon as the automaton admits it there. A
    part's value ends at the first place where ``parts[i]`` accepts it and ``marks[i]`` comes next.
    """

    labels: bytes  # int16 [S]
    budgets: tuple[int, ...]
    following: tuple[bytes, ...]  # the fixed text after each part, UTF-8; empty at the end
    marks: tuple[bytes, ...]  # the beginning of that text
    parts: tuple[Dfa, ...]  # each part by itself


class Guidance(Wire, frozen=True, tag=2):
    """A grammar that no automaton holds, in llguidance's serialised form."""

    grammar: str


class Tokens(Wire, frozen=True, tag=4):
    """Not a language of texts: each token is one of these, whatever came before."""

    ids: bytes  # int32


class Rejected(Wire, frozen=True, tag=3):
    """A grammar that cannot be used, and why, in words for the client."""

    message: str


Compiled = Dfa | Guidance | Tokens | Rejected

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Compiled] = msgspec.msgpack.Decoder(Compiled)


def encode(compiled: Compiled) -> bytes:
    """Inverse of :func:`decode`."""
    return _encoder.encode(compiled)


def decode(data: bytes) -> Compiled:
    """Raises msgspec.MsgspecError on anything that :func:`encode` did not make."""
    return _decoder.decode(data)


class Tables(NamedTuple):
    """A Dfa as arrays."""

    classes: NDArray[np.uint8]  # [256]
    transitions: NDArray[np.uint16]  # [S, C]
    accepting: NDArray[np.bool_]  # [S]

    def walk(self, data: bytes, state: int = START) -> int:
        """The state after ``data``; DEAD where the automaton refuses it."""
        classes, transitions = self.classes, self.transitions
        for byte in data:
            state = int(transitions[state, classes[byte]])
            if state == DEAD:
                break
        return state

    def matches(self, data: bytes) -> bool:
        """Whether ``data`` as a whole is in the language."""
        return bool(self.accepting[self.walk(data)])


def tables(dfa: Dfa) -> Tables:
    """Read-only views of the packed columns."""
    transitions = np.frombuffer(dfa.transitions, "<u2").reshape(-1, dfa.num_classes)
    return Tables(np.frombuffer(dfa.classes, np.uint8), transitions, np.frombuffer(dfa.accepting, np.bool_))


class Whitespace(enum.StrEnum):
    """What may stand between the tokens of JSON. Always bounded."""

    COMPACT = "compact"  # nothing
    SPACED = "spaced"  # ", " and ": ", as models write by themselves
    FLEXIBLE = "flexible"  # a line break and some indentation, too
