"""What the front door and its compiling children say to each other over pipes: a length, then one message.

The front door sends GrammarLimits once, then one GrammarSpec at a time; the child answers each with a Reply.
"""

from __future__ import annotations

import enum
from typing import BinaryIO, TypeVar

import msgspec

HEADER = 4  # bytes of the length, most significant first

T = TypeVar("T")


class Outcome(enum.StrEnum):
    """How a compile ended."""

    DFA = "dfa"
    GUIDANCE = "guidance"
    TOKENS = "tokens"
    REJECTED = "rejected"
    TIMEOUT = "timeout"
    MEMORY = "memory"


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """A compiled grammar in the form of shared.grammar; ``rejection`` says why where there is none."""

    outcome: Outcome
    data: bytes
    rejection: str | None = None
    is_last: bool = False  # the child ends after it


class Ready(msgspec.Struct, frozen=True, array_like=True):
    """The child has its limits and waits for grammars."""


OUT_OF_MEMORY = 71  # exit status of a child whose compile did not fit
_encoder = msgspec.msgpack.Encoder()


def frame(message: object) -> bytes:
    """One message with its length."""
    data = _encoder.encode(message)
    return len(data).to_bytes(HEADER, "big") + data


def read(source: BinaryIO, kind: type[T]) -> T | None:
    """The next message, waiting for it; None when nobody will send one any more."""
    header = source.read(HEADER)
    if len(header) < HEADER:
        return None
    length = int.from_bytes(header, "big")
    data = source.read(length)
    return msgspec.msgpack.decode(data, type=kind) if len(data) == length else None
