"""Ranges and multiples as languages of digits, against arithmetic."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.grammar import Whitespace
from tests.tokenizer_svc.grammar.schema_oracle import acceptor
from tokenizer_svc.grammar.dfa import compile_dfa
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.schema import schema_node

_NUMERAL = re.compile(r"-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,15})?")
_UNBOUNDED = re.compile(r"-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,15})?([eE][+-]?[0-9]{1,2})?")
_settings = settings(derandomize=True, deadline=None, max_examples=60)

decimals = st.decimals(min_value=-2000, max_value=2000, places=3) | st.integers(-(10**6), 10**6).map(Decimal)
shifts = st.sampled_from(["0", "1", "-1", "0.001", "-0.001", "0.5", "-0.125", "9", "10", "-1000", "0.000001"])


def numeral(value: Decimal) -> str:
    return f"{value:f}"


def accepts(schema: dict[str, Any]) -> Any:
    return acceptor(compile_dfa(schema_node(schema, Whitespace.SPACED)))


@given(low=decimals, width=decimals.map(abs), shift=shifts, fraction=st.integers(0, 1000), exclusive=st.booleans())
@_settings
def test_a_number_is_admitted_where_it_is_within_bounds(
    low: Decimal, width: Decimal, shift: str, fraction: int, exclusive: bool
) -> None:
    high = low + width
    lower, upper = ("exclusiveMinimum", "exclusiveMaximum") if exclusive else ("minimum", "maximum")
    schema = {"type": "number", lower: low, upper: high}
    if exclusive and width == 0:
        with pytest.raises(GrammarError, match="no value"):
            schema_node(schema, Whitespace.SPACED)
        return
    accept = accepts(schema)
    between = low + width * fraction / 1000
    for near in (low, high, between, Decimal(0)):
        value = near + Decimal(shift)
        inside = low < value < high if exclusive else low <= value <= high
        assert accept(numeral(value)) == (inside and not (value == 0 and value.is_signed())), (low, high, value)


@given(low=st.integers(-3000, 3000), width=st.integers(0, 3000), value=st.integers(-7000, 7000))
@_settings
def test_a_whole_number_is_admitted_where_it_is_within_bounds(low: int, width: int, value: int) -> None:
    accept = accepts({"type": "integer", "minimum": low, "maximum": low + width})
    for candidate in (value, low, low + width, low - 1, low + width + 1):
        assert accept(str(candidate)) == (low <= candidate <= low + width)
    assert not accept(f"{low}.0")
    assert not accept(f"0{low}")


@given(bound=decimals, value=decimals)
@_settings
def test_one_bound_is_enough(bound: Decimal, value: Decimal) -> None:
    least, most = accepts({"type": "number", "minimum": bound}), accepts({"type": "number", "exclusiveMaximum": bound})
    assert least(numeral(value)) == (value >= bound)
    assert most(numeral(value)) == (value < bound)
    assert accepts({"type": "integer", "minimum": bound})(str(int(value))) == (int(value) >= bound)


@pytest.mark.parametrize("step", ["1", "2", "3", "7", "10", "25", "100", "0.5", "0.25", "0.1", "0.01", "1.5", "0.75"])
def test_multiples_are_admitted_and_nothing_else(step: str) -> None:
    accept = accepts({"type": "number", "multipleOf": Decimal(step), "minimum": -40, "maximum": 400})
    places = max(0, -int(Decimal(step).as_tuple().exponent))
    for units in range(-45 * 100, 405 * 100, 25 if places < 2 else 1):
        value = Decimal(units) / 100
        text = numeral(value.normalize()) if value else "0"
        assert accept(text) == (-40 <= value <= 400 and value % Decimal(step) == 0), text


def test_whole_multiples_need_no_bounds() -> None:
    accept = accepts({"type": "integer", "multipleOf": 7})
    assert accept("0")
    assert accept("-7")
    assert accept(str(7 * 10**17))
    assert not accept(str(7 * 10**17 + 1))
    assert not accept("7.0")


def test_several_steps_ask_for_their_least_common_multiple() -> None:
    accept = accepts({"allOf": [{"multipleOf": 4}, {"multipleOf": 6}], "type": "integer", "minimum": 0, "maximum": 99})
    assert [value for value in range(100) if accept(str(value))] == list(range(0, 100, 12))


@given(text=st.from_regex(_UNBOUNDED, fullmatch=True) | st.text(alphabet="-+.eE0123456789", max_size=8))
@_settings
def test_numbers_without_bounds_are_those_of_json_with_bounded_digits(text: str) -> None:
    assert accepts({"type": "number"})(text) == bool(_UNBOUNDED.fullmatch(text))
    whole = re.fullmatch(r"0|-?[1-9][0-9]{0,18}", text)
    assert accepts({"type": "integer"})(text) == bool(whole)
    if _UNBOUNDED.fullmatch(text):
        json.loads(text)


@given(low=decimals, text=st.from_regex(_NUMERAL, fullmatch=True))
@_settings
def test_what_is_above_a_bound_stays_above_it_as_a_double(low: Decimal, text: str) -> None:
    near = numeral(low) + "0" * 9 + "1" if "." in numeral(low) else numeral(low) + ".00000000000001"
    for candidate in (text, near):
        if accepts({"type": "number", "exclusiveMinimum": low})(candidate):
            assert json.loads(candidate) > float(low)


def test_bounds_that_leave_no_number_are_refused() -> None:
    for schema in (
        {"type": "integer", "minimum": 0.2, "maximum": 0.8},
        {"type": "number", "minimum": 1, "exclusiveMaximum": 1},
        {"type": "integer", "minimum": 3, "maximum": 1},
        {"type": "integer", "multipleOf": 10, "minimum": 1, "maximum": 9},
    ):
        with pytest.raises(GrammarError, match="no value at all"):
            schema_node(schema, Whitespace.SPACED)


def test_bounds_beyond_our_digits_are_refused_only_where_they_matter() -> None:
    assert accepts({"type": "number", "maximum": 1.7e308, "minimum": -1.7e308})("123.5")
    assert accepts({"type": "integer", "maximum": 2**63 - 1})("5")
    assert accepts({"type": "number", "minimum": Decimal("-1e999999999"), "maximum": Decimal("1e999999999")})("5")
    assert accepts({"type": "number", "exclusiveMinimum": 0, "maximum": Decimal("1" + "0" * 40 + "e-40")})("0.5")
    assert not accepts({"type": "number", "maximum": Decimal("0." + "9" * 40), "minimum": 0})("1")
    with pytest.raises(GrammarError, match="minimum at #/minimum is not supported"):
        schema_node({"type": "number", "minimum": 1e30}, Whitespace.SPACED)
    with pytest.raises(GrammarError, match="multipleOf at #/multipleOf is not supported"):
        schema_node({"type": "integer", "multipleOf": 123457}, Whitespace.SPACED)
