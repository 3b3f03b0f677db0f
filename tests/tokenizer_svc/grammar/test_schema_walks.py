"""What the grammar of a schema produces, at random: always JSON, always valid, white space always bounded."""

from __future__ import annotations

import json
import re

import pytest

from shared.grammar import Dfa, Whitespace
from tests.grammars import SCHEMAS
from tests.random_schemas import random_schemas
from tests.tokenizer_svc.grammar.schema_oracle import validator, walks
from tokenizer_svc.grammar.schema import compile_schema
from tokenizer_svc.grammar.spec import GrammarSpec

_OUTSIDE = re.compile(r'"(?:[^"\\]|\\.)*"')
_SPACES = {
    Whitespace.COMPACT: re.compile(r"[^\s]*"),
    Whitespace.SPACED: re.compile(r"(?:[^\s]|(?<=[,:]) )*"),
    Whitespace.FLEXIBLE: re.compile(r"(?:[^\s]| (?! )|\n(?: {0,40}|\t{0,10})(?!\s))*"),
}


def check_walks(spec: GrammarSpec, count: int) -> int:
    """How many texts there were."""
    grammar = compile_schema(spec.text, spec.whitespace)
    check = validator(json.loads(spec.text))
    seen = 0
    for text in walks(grammar, seed=len(spec.text), count=count):
        value = json.loads(text)
        errors = [error.message for error in check.iter_errors(value)]
        assert not errors, (text, errors)
        bare = _OUTSIDE.sub('""', text)
        assert _SPACES[spec.whitespace].fullmatch(bare), bare
        seen += 1
    return seen


@pytest.mark.parametrize("spec", [pytest.param(spec, id=name) for name, spec in SCHEMAS])
def test_whatever_is_produced_is_valid(spec: GrammarSpec) -> None:
    assert check_walks(spec, 12) >= 6


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_produced_for_random_schemas_is_valid(seed: int) -> None:
    for _, spec in random_schemas(25, seed):
        assert check_walks(spec, 6) >= 2, spec.text


def test_most_realistic_schemas_are_automata() -> None:
    kinds = [isinstance(compile_schema(spec.text, spec.whitespace), Dfa) for _, spec in SCHEMAS]
    assert len(kinds) >= 60
    assert sum(kinds) >= 0.8 * len(kinds)
