"""The decoder against bytes from anywhere: one typed error, or a message whose columns fit together."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import columns
from shared.protocol import (
    TABLES,
    VERSION,
    Flush,
    Generate,
    ProtocolError,
    Restated,
    Sampling,
    Scores,
    Scoring,
    Step,
    Texts,
    decode,
    encode,
)
from tests.messages import KINDS, messages
from tokenizer_svc.resumable import entries

IDS = [1, 2, 2**62]


def read(payload: bytes) -> Any | None:
    """The message, None where it is refused; whatever else is raised is a fault."""
    try:
        return decode(payload)
    except ProtocolError:
        return None


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(data=st.data())
def test_a_message_is_refused_or_fits_together(kind: type[Any], data: st.DataObject) -> None:
    sent = data.draw(messages(kind, IDS))
    try:
        payload = encode(sent)
    except (OverflowError, UnicodeEncodeError):  # beyond what the encoding has
        return
    found = read(payload)
    if found is None:
        return
    assert type(found) is kind
    for table in TABLES.get(kind, ()):
        sizes = {
            name: len(getattr(found, name)) // (width or 1)
            for name, width in table.rows.items()
            if getattr(found, name) or name not in table.optional
        }
        assert len(set(sizes.values())) == 1, sizes


@settings(max_examples=150)
@given(data=st.data())
def test_changed_bytes_are_refused_or_harmless(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    try:
        payload = bytearray(encode(data.draw(messages(kind, IDS))))
    except (OverflowError, UnicodeEncodeError):
        return
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(payload)))
    read(bytes(payload))
    read(bytes(payload[:cut]))


@settings(max_examples=400)
@given(payload=st.binary(max_size=300))
def test_any_bytes_behind_the_version(payload: bytes) -> None:
    read(bytes((VERSION,)) + payload)


def test_nested_bytes_do_not_overflow_the_stack() -> None:
    for opener in (b"\x91", b"\x81\xa1x"):
        assert read(bytes((VERSION,)) + opener * 100_000) is None
        surplus = b"\x94\x02\x01\xc2" + opener * 100_000  # an Abort with one field more, which is skipped
        assert read(bytes((VERSION,)) + surplus) is None


def test_text_that_is_no_utf_8_is_refused() -> None:
    with pytest.raises(ProtocolError, match="utf-8"):
        decode(encode(Flush(nonce=0, reply_to="ab")).replace(b"ab", b"\x80b"))


ONE = columns.int32([1])
STEP = {"epoch": 1, "seq": 1, "plan": 1, "ids": columns.uint64([1]), "firsts": columns.int32([0]), "counts": ONE}
GENERATE = {
    "id": 1, "input_ids": ONE, "sampling": Sampling(1), "namespace": "", "priority": 0, "reply_to": "t",
    "detokenizer": "d", "arrived": 1.0,
}  # fmt: skip
CONTRADICTIONS: list[tuple[type[Any], dict[str, Any], str]] = [
    (Step, STEP | {"tokens": ONE, "finishes": b""}, "finishes has 0 values for 1 rows"),
    (Step, STEP | {"tokens": b"", "finishes": b"\0"}, "tokens has 0 bytes for 1 values"),
    (Step, STEP | {"tokens": ONE, "finishes": b"\x09"}, "finishes has a code above 3"),
    (Step, STEP | {"tokens": ONE, "finishes": b"\0", "forced": b"\0\0"}, "forced has 2 bytes for 1 values"),
    (Step, STEP | {"tokens": ONE, "finishes": b"\0", "pending": ONE * 2}, "pending has 2 values for 1 rows"),
    (Step, STEP | {"tokens": columns.int32([-1]), "finishes": b"\0"}, "tokens is no column of whole numbers from 0"),
    (Step, STEP | {"counts": columns.int32([-1]), "finishes": b"\0"}, "counts is no column"),
    (Step, STEP | {"ids": b"1234567", "tokens": ONE, "finishes": b"\0"}, "ids has 7 bytes, no multiple of 8"),
    (Step, STEP | {"tokens": ONE, "finishes": b"\0", "errors": ((-1, ""),)}, "errors|Expected `int` >= 0"),
    (Generate, GENERATE | {"input_ids": b"123"}, "input_ids is no column"),
    (Generate, GENERATE | {"id": -1}, "Expected `int` >= 0"),
    (Generate, GENERATE | {"priority": 2**31}, "Expected `int` <="),
    (Generate, GENERATE | {"sampling": Sampling(-1)}, "Expected `int` >= 0"),
    (Generate, GENERATE | {"sampling": Sampling(1, scoring=Scoring(0))}, "Expected `int` >= 1"),
    (Step, STEP | {"tokens": ONE, "finishes": b"\0", "scores": (Scores(1, 0, b"123", ONE),)}, "chosen has 3 bytes"),
    (Step, STEP | {"tokens": ONE, "finishes": b"\0", "scores": (Scores(1, 0, ONE, b""),)}, "ranks has 0 values for 1"),
    (Generate, GENERATE | {"sampling": Sampling(1, temperature=math.nan)}, "Expected `float` >="),
    (Generate, GENERATE | {"sampling": Sampling(1, logit_bias=((1, math.inf),))}, "Expected `float` <="),
    (Restated, {"id": 1, "tokens": ONE, "finish": 9}, "Expected `int` <= 3"),
    (
        Texts,
        {
            "ids": columns.uint64([1]), "firsts": ONE, "counts": ONE, "tokens": ONE, "texts": (), "finishes": b"\0",
            "matched": (None,), "offsets": ONE,
        },
        "texts has 0 values for 1 rows",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "values", "reason"), CONTRADICTIONS)
def test_contradictions_are_named(kind: type[Any], values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        decode(encode(kind(**values)))


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x91" * 100_000, b"\x92\xa2\xff\xfe\x01", b"\x81\xa1x" * 50_000])
def test_what_else_is_read_from_the_server_is_refused_alike(data: bytes) -> None:
    for read_entry in (entries.decode, entries.decode_owner):
        with pytest.raises(entries.Unreadable):
            read_entry(data)
