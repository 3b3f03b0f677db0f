"""Lines of the batch format, read and written."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootstream.batch.lines import (
    BadLine,
    Response,
    Result,
    Trouble,
    body_of,
    read_request,
    read_result,
    tokens_of,
    write_result,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def line(**changes: Any) -> bytes:
    fields = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "x"}}
    return json.dumps(fields | changes).encode()


def test_a_request_keeps_its_body_as_it_stands() -> None:
    request = read_request(
        b'{"custom_id": "a", "method": "POST", "url": "/x", "body": {"seed": 18446744073709551615, "t": 1.0}}'
    )
    assert (request.custom_id, request.url) == ("a", "/x")
    assert bytes(request.body) == b'{"seed": 18446744073709551615, "t": 1.0}'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"{", "not JSON"),
        (b"[1]", "object"),
        (b"\xff\xfe", "UTF-8|not JSON"),
        (b"[" * 100_000, "JSON|object|deep"),
        (line(custom_id=3), "custom_id"),
        (line(custom_id=""), "custom_id"),
        (b'{"method": "POST", "url": "/x", "body": {}}', "custom_id"),
        (line(method="GET"), "method"),
        (line(url="https://api.openai.com/v1/completions"), "path"),
        (line(body="x"), "object"),
        (line(body={"stream": True}), "body.stream"),
        (line(body={"background": True}), "body.background"),
    ],
)
def test_bad_lines_say_why(text: bytes, why: str) -> None:
    with pytest.raises(BadLine, match=why):
        read_request(text)


@given(st.text(min_size=1), JSON, st.integers(200, 599))
def test_results_are_read_back(custom_id: str, body: Any, status: int) -> None:
    answer = body_of(json.dumps(body, indent=1).encode())
    written = write_result(Result(custom_id, Response(status, "r", answer)))
    assert written.count(b"\n") == 1
    assert written.endswith(b"\n")
    read = read_result(written)
    assert (read.custom_id, read.is_good) == (custom_id, status < 300)
    assert read.response is not None
    assert msgspec.json.decode(read.response.body) == body


def test_a_result_has_the_four_fields_of_the_format() -> None:
    shown = json.loads(write_result(Result("a", error=Trouble("timeout", "too long"))))
    assert list(shown) == ["id", "custom_id", "response", "error"]
    assert (shown["response"], shown["error"]) == (None, {"code": "timeout", "message": "too long"})
    assert shown["id"].startswith("batch_req_")


def test_what_is_no_json_becomes_a_string() -> None:
    assert msgspec.json.decode(body_of(b"<html>\n\xff")) == "<html>\n\ufffd"


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"usage": {"prompt_tokens": 2, "completion_tokens": 3}}, (2, 3)),
        ({"usage": {"input_tokens": 2, "output_tokens": 3}}, (2, 3)),
        ({"usage": {"prompt_tokens": 2}}, (2, 0)),
        ([{"meta_info": {"prompt_tokens": 2, "completion_tokens": 3}}] * 2, (4, 6)),
        ({"data": []}, (0, 0)),
        ("text", (0, 0)),
    ],
)
def test_tokens_of_every_shape(body: Any, tokens: tuple[int, int]) -> None:
    assert tokens_of(msgspec.Raw(msgspec.json.encode(body))) == tokens
