"""Nesting of JSON texts, against what Python's decoder makes of them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer_svc.depth import depth, exceeds

VALUES = st.recursive(
    st.none() | st.integers() | st.text('[]{}"\\,:aä\n', max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('[]{}"\\', max_size=3), inner, max_size=4),
    max_leaves=30,
)


def nesting(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(nesting, value), default=0) if isinstance(value, list) else 0


@given(VALUES, st.booleans())
def test_as_deep_as_the_value(value: Any, ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii).encode()
    assert depth(text) == nesting(value)
    assert not nesting(value) or exceeds(text, nesting(value) - 1)
    assert not exceeds(text, nesting(value))


@given(st.text('[]{}"\\a', max_size=30))
def test_broken_texts_have_a_depth_too(text: str) -> None:
    assert 0 <= depth(text.encode()) <= len(text)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 2**21,
        b"[]" * 2**20,
        b'"' * 2**21,
        b'"' + b'\\"' * 2**20,
        b'"' + b"\\" * (2**21 + 1),
        b'{"a":' * 2**18,
        b'["\\"",' * 2**18,
        b'"",' * 2**20 + b"[" * 200,
    ],
)
def test_no_text_takes_long(text: bytes) -> None:
    """Linear: what looks at anything twice would take hours for these."""
    began = time.process_time()
    exceeds(text, 128)
    assert time.process_time() - began < 5
