"""Templates: what they accept, where values end, and what is refused because nobody could tell."""

from __future__ import annotations

import re
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.grammar import Dfa, tables
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import LIMITS
from tokenizer_svc.grammar.template import Fixed, Form, Generated, TemplateSpec, compile_template
from tokenizer_svc.values import Values


def compiled(*parts: Fixed | Generated) -> Dfa:
    return compile_template(msgspec.json.encode(TemplateSpec(parts)).decode(), LIMITS)


def free(stop: str = "", max_tokens: int = 9) -> Generated:
    return Generated(Form.FREE, stop=stop, max_tokens=max_tokens)


def values_of(dfa: Dfa, text: str, names: list[str], start: int = 0, cuts: tuple[int, ...] = ()) -> Values:
    assert dfa.segments is not None
    values = Values(dfa.segments, names, start)
    edges = [0, *sorted(cuts), len(text)]
    for begin, end in pairwise(edges):
        values.push(text[begin:end])
    return values


SEED = (Fixed('{ "name": "'), free('"'), Fixed('", "age": '), Generated(Form.REGEX, "[0-9]{1,3}"), Fixed(" }"))


@pytest.mark.parametrize("name", ["Ann", "", "a 'quoted' one", "\U0001f600 é"])
@pytest.mark.parametrize("age", ["7", "123"])
def test_the_language_is_the_parts_one_after_the_other(name: str, age: str) -> None:
    dfa = compiled(*SEED)
    text = f'{{ "name": "{name}", "age": {age} }}'
    assert tables(dfa).matches(text.encode())
    for wrong in (text[:-1], text + " ", text.replace('"name"', '"nom"'), text.replace(age, "x")):
        assert not tables(dfa).matches(wrong.encode())
    values = values_of(dfa, text, ["name", "age"], start=len('{ "name": "'))
    assert values.finish() == {"name": name, "age": age}


words = st.text(alphabet='ab"é, :\U0001f600', max_size=8)


@settings(deadline=None, max_examples=200, derandomize=True)
@given(
    fixed=st.lists(words.filter(bool), min_size=1, max_size=4),
    raw=st.lists(words, min_size=4, max_size=4),
    cuts=st.lists(st.integers(0, 60), max_size=5),
    last_is_open=st.booleans(),
)
def test_values_come_back_however_the_text_arrives(
    fixed: list[str], raw: list[str], cuts: list[int], last_is_open: bool
) -> None:
    parts: list[Fixed | Generated] = []
    text, expected = "", {}
    for index, after in enumerate(fixed):
        value = raw[index].replace(after[0], "")
        parts += [free(after[0]), Fixed(after)]
        expected[f"v{index}"] = value
        text += value + after
    if last_is_open:
        parts.append(free())
        expected["last"] = raw[-1]
        text += raw[-1]
    dfa = compiled(*parts)
    assert tables(dfa).matches(text.encode())
    values = values_of(dfa, text, list(expected), cuts=tuple(min(cut, len(text)) for cut in cuts))
    assert values.finish() == expected
    closed = {name: value for name, value in expected.items() if name != "last"}
    assert values.complete == closed


def test_a_value_cut_short_is_what_there_is_of_it() -> None:
    dfa = compiled(*SEED)
    start = len('{ "name": "')
    assert values_of(dfa, '{ "name": "An', ["name", "age"], start).finish() == {"name": "An"}
    assert values_of(dfa, '{ "na', ["name", "age"], start).finish() == {}
    partial = values_of(dfa, '{ "name": "Ann", "age": 4', ["name", "age"], start)
    assert partial.complete == {"name": "Ann"}
    assert partial.finish() == {"name": "Ann", "age": "4"}


def test_a_value_may_hold_the_beginning_of_its_stop() -> None:
    dfa = compiled(free('",'), Fixed('", b'))
    assert values_of(dfa, 'say "hi", b', ["x"]).finish() == {"x": 'say "hi'}
    assert not tables(dfa).matches(b'a", a", b')


def test_states_know_their_part() -> None:
    dfa = compiled(*SEED)
    assert dfa.segments is not None
    labels = memoryview(dfa.segments.labels).cast("h")
    automaton = tables(dfa)
    for text, label in (("", -1), ('{ "name": "', 0), ('{ "name": "An', 0), ('{ "name": "An"', -1)):
        assert labels[automaton.walk(text.encode())] == label
    assert labels[automaton.walk(b'{ "name": "An", "age": ')] == 1
    assert dfa.segments.budgets == (9, 0)
    assert dfa.segments.following == (b'", "age": ', b" }")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((Generated(Form.REGEX, "[0-9]+"), Fixed("5 years")), "generated part 0 may end, or go on with '5'"),
        ((Generated(Form.REGEX, "a|ab"), Fixed("bc")), "may end, or go on with 'b'"),
        ((Fixed("x"), Generated(Form.REGEX, "a(")), "generated part 0: "),
        ((free("abab"), Fixed("abab")), "ends as it begins"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(parts: tuple[Fixed | Generated, ...], message: str) -> None:
    with pytest.raises(GrammarError, match=re.escape(message)):
        compiled(*parts)


def test_choices_and_schemas_are_parts_too() -> None:
    schema = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'
    dfa = compiled(
        Generated(Form.CHOICE, '["red", "green"]'), Fixed(": "), Generated(Form.JSON_SCHEMA, schema), Fixed(";")
    )
    assert values_of(dfa, 'red: {"n": 12};', ["a", "b"]).finish() == {"a": "red", "b": '{"n": 12}'}
    with pytest.raises(GrammarError, match="no automaton holds this schema"):
        compiled(Generated(Form.JSON_SCHEMA, '{"type": "object"}'), Fixed(";"))
