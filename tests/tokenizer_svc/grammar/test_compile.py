"""Specs become automata, llguidance's grammars, or reasons."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher

from shared.grammar import Compiled, Dfa, Guidance, Rejected, Whitespace, decode, encode, tables
from tokenizer_svc.grammar.compile import compile_spec
from tokenizer_svc.grammar.lark import byte_vocabulary
from tokenizer_svc.grammar.limits import LIMITS
from tokenizer_svc.grammar.spec import GrammarSpec, Kind


def compiled(kind: Kind, text: str) -> Compiled:
    result = compile_spec(GrammarSpec(kind, text), LIMITS)
    assert decode(encode(result)) == result
    return result


def rejection(kind: Kind, text: str) -> str:
    result = compiled(kind, text)
    assert isinstance(result, Rejected), result
    return result.message


def accepts(grammar: Compiled, text: str) -> bool:
    if isinstance(grammar, Dfa):
        return tables(grammar).matches(text.encode())
    assert isinstance(grammar, Guidance), grammar
    matcher = LLMatcher(byte_vocabulary(), grammar.grammar, log_level=0)
    return all(matcher.consume_token(byte) for byte in text.encode()) and matcher.is_accepting()


def test_regex() -> None:
    grammar = compiled(Kind.REGEX, r"[a-c]+\d{2}")
    assert isinstance(grammar, Dfa)
    assert accepts(grammar, "abc12")
    assert not accepts(grammar, "abc1")


@pytest.mark.parametrize(("pattern", "position"), [("(ab", 0), ("ab[", 2), ("a(?=b)", 1), ("x{5000}", None)])
def test_a_bad_pattern_is_rejected_at_its_position(pattern: str, position: int | None) -> None:
    found = re.search(r"\(at character (\d+)\)$", rejection(Kind.REGEX, pattern))
    assert found is not None
    assert position is None or int(found[1]) == position


@given(texts=st.sets(st.text(min_size=1, max_size=6), min_size=1, max_size=12), others=st.lists(st.text(max_size=6)))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_a_choice_is_exactly_its_texts(texts: set[str], others: list[str]) -> None:
    grammar = compiled(Kind.CHOICE, json.dumps(sorted(texts)))
    assert all(accepts(grammar, text) for text in texts)
    for other in [*others, *(text + "x" for text in texts), *(text[:-1] for text in texts)]:
        assert accepts(grammar, other) == (other in texts)


def test_a_choice_has_bounds() -> None:
    most = LIMITS.enum_values
    assert isinstance(compiled(Kind.CHOICE, json.dumps([str(n) for n in range(most)])), Dfa)
    assert f"at most {most}" in rejection(Kind.CHOICE, json.dumps([str(n) for n in range(most + 1)]))


GBNF = r"""
# calls, and calls of calls
root   ::= call ("," ws call)*
call   ::= name "(" (root | number)? ")"
name   ::= [a-z] [a-z0-9_]{0,9}
number ::= "-"? [0-9]+ ("." [0-9]+)?
ws     ::= [ \t]?
"""
LARK = r"""
start: call ("," WS call)*
call: NAME "(" (start | NUMBER)? ")"
NAME: /[a-z][a-z0-9_]{0,9}/
NUMBER: /-?[0-9]+(\.[0-9]+)?/
WS: /[ \t]?/
"""


@pytest.mark.parametrize("text", [GBNF, LARK, "%llguidance {}\n" + LARK])
def test_recursive_grammars_in_lark_and_gbnf(text: str) -> None:
    grammar = compiled(Kind.LARK, text)
    assert isinstance(grammar, Guidance)
    for yes in ("f()", "f(g(h(-1.5)))", "a(),\tb(c(),d())"):
        assert accepts(grammar, yes), yes
    for no in ("", "f(", "f(1,2)", "f(g(h(-1.5))", "0()"):
        assert not accepts(grammar, no), no


@pytest.mark.parametrize(
    ("gbnf", "text"),
    [
        (r'root ::= "\u0041\u00e9\U0001F600"', "Aé😀"),
        (r"root ::= [\u0041-\u0043]+", "CAB"),
        (r'root ::= "\[\]" [\]x]', "[]]"),
        (r'root ::= "\u0022\u005c"', '"\\'),
        (r'root ::= "\x41\n\t\\"', "A\n\t\\"),
        (r'root ::= "\\u0041"', r"\u0041"),
    ],
)
def test_escapes_of_gbnf(gbnf: str, text: str) -> None:
    assert accepts(compiled(Kind.LARK, gbnf), text)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("start: missing", "unknown name"),
        ("start: /(/", "unclosed group"),
        ("rule: /a/", "no start"),
        ('start: x\nx: x "a"', "no text matches"),
        ("root ::= missing", "'missing' not found"),
        ("root ::= 'a'", "line 1"),
        (r'root ::= "\ud800"', "no character"),
        ("root ::= " + "(" * 10_000, "nested too deeply"),
        ("start: " + "(" * 10_000, "nested"),
        ('start: "a" <|im_end|>', "names tokens"),
        ("start: <[5-7]>", "names tokens"),
        ('start: a\na[temperature=0.5]: "x"', "'temperature'"),
        ('start: a "x"\na[stop="x"]: /.*/', "'stop'"),
        ('start: %json {"$ref": "http://example.com/schema"}', "example.com"),
        ('start: "a\0"', "NUL"),
        ("start: @other", "other"),
    ],
)
def test_a_bad_grammar_is_rejected_with_the_reason(text: str, part: str) -> None:
    message = rejection(Kind.LARK, text)
    assert part in message
    assert "\n" not in message
    assert len(message) < 700


@pytest.mark.parametrize(
    ("whitespace", "texts"),
    [
        (Whitespace.COMPACT, ('{"a":1,"b":[true]}',)),
        (Whitespace.SPACED, ('{"a": 1, "b": [true]}',)),
        (Whitespace.FLEXIBLE, ('{"a":1,"b":[true]}', '{"a": 1, "b": [true]}')),
    ],
)
def test_whitespace_of_json(whitespace: Whitespace, texts: tuple[str, ...]) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "array", "items": {"type": "boolean"}}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    for spec in (
        GrammarSpec(Kind.JSON_SCHEMA, json.dumps(schema), whitespace),
        GrammarSpec(Kind.JSON_OBJECT, "", whitespace),
    ):
        grammar = compile_spec(spec, LIMITS)
        accepted = [text for text in ('{"a":1,"b":[true]}', '{"a": 1, "b": [true]}') if accepts(grammar, text)]
        assert accepted == list(texts)
        assert not accepts(grammar, "[]")


JSON_KINDS = (Kind.CHOICE, Kind.TOOLS, Kind.EITHER, Kind.TEMPLATE, Kind.BAD_WORDS, Kind.TOKENS)


def test_every_kind_is_rejected_or_compiled_but_never_raises() -> None:
    for kind in Kind:
        for text in ("", "{", "\0", "(", "[]", '["a"'):
            try:
                compile_spec(GrammarSpec(kind, text), LIMITS)
            except msgspec.DecodeError:
                assert kind in JSON_KINDS, "their texts are made at the door"
