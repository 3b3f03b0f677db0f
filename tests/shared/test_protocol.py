"""The wire: what goes in comes out, and bytes that are no message are refused, never misread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import columns
from shared.protocol import (
    VERSION,
    Abort,
    Admit,
    Generate,
    ModelCard,
    Plan,
    ProtocolError,
    Sampling,
    Step,
    decode,
    encode,
    new_request_id,
)

INT32 = st.integers(-(2**31), 2**31 - 1)
UINT64 = st.integers(0, 2**64 - 1)


def test_a_request_survives_the_trip() -> None:
    request = Generate(
        id=new_request_id(),
        input_ids=columns.int32([1, 2, 3]),
        sampling=Sampling(max_tokens=5, logit_bias=((7, -1.5),), stop_token_ids=(2,), seed=2**64 - 1),
        namespace="tenant",
        priority=-3,
        reply_to="t0",
        detokenizer="d0",
        arrived=1.5,
    )
    assert decode(encode(request)) == request


def test_nested_admits_survive_the_trip() -> None:
    admit = Admit(id=1, input_ids=b"", prompt_len=0, cached_len=0, sampling=Sampling(max_tokens=1), pages=b"")
    plan = Plan(epoch=1, seq=2, admits=(admit, admit))
    assert decode(encode(plan)) == plan


def test_messages_are_small() -> None:
    ids = [new_request_id() for _ in range(64)]
    step = Step(
        epoch=1, seq=1, plan=1, ids=columns.uint64(ids), firsts=columns.int32(ids_ := range(64)),
        counts=columns.int32([1] * 64), tokens=columns.int32(ids_), finishes=bytes(64),
    )  # fmt: skip
    assert len(encode(step)) < 64 * 22 + 64


@given(st.lists(INT32))
def test_int32_columns_round_trip(values: list[int]) -> None:
    assert columns.as_int32(columns.int32(values)).tolist() == values


@given(st.lists(UINT64))
def test_uint64_columns_round_trip(values: list[int]) -> None:
    assert columns.as_uint64(columns.uint64(values)).tolist() == values


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_with_one_error(payload: bytes) -> None:
    try:
        message = decode(payload)
    except ProtocolError:
        return
    assert decode(encode(message)) == message


def test_another_version_is_named() -> None:
    payload = bytes((VERSION + 1,)) + encode(Abort(id=1))[1:]
    with pytest.raises(ProtocolError, match=f"version {VERSION + 1}"):
        decode(payload)


def test_request_ids_fit_signed_and_unsigned_columns() -> None:
    ids = {new_request_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(2**62 <= request_id < 2**63 for request_id in ids)


def test_a_card_knows_its_capacity() -> None:
    card = ModelCard("m", "llama", "float32", "cpu", 10, 100, 16, 7, 8, 256)
    assert card.kv_tokens == 112
