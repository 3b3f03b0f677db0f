"""An automaton and llguidance's grammar of the same schema are the same language."""

from __future__ import annotations

import json
import random

import pytest

from shared.grammar import Dfa, Guidance, Whitespace
from tests.grammars import SCHEMAS
from tests.random_schemas import random_schemas
from tests.tokenizer_svc.grammar.schema_oracle import acceptor, walks
from tokenizer_svc.grammar.schema import compile_schema, schema_guidance
from tokenizer_svc.grammar.spec import GrammarSpec

_CHANGES = ' "\\{}[]:,.-+019eEaxtnu\né'


def changed(text: str, rng: random.Random) -> str:
    """With one character more, less, or another."""
    place = rng.randrange(len(text) + 1)
    return text[:place] + rng.choice(("", rng.choice(_CHANGES))) + text[place + rng.randrange(2) :]


def check_forms(spec: GrammarSpec, count: int) -> None:
    automaton = compile_schema(spec.text, spec.whitespace)
    if not isinstance(automaton, Dfa):
        return
    guidance = Guidance(schema_guidance(json.loads(spec.text), spec.whitespace))
    by_automaton, by_guidance = acceptor(automaton), acceptor(guidance)
    rng = random.Random(0)
    for text in walks(automaton, seed=1, count=count):
        assert by_guidance(text), text
        for _ in range(5):
            other = changed(text, rng)
            assert by_automaton(other) == by_guidance(other), other
    for text in walks(guidance, seed=2, count=count):
        assert by_automaton(text), text


@pytest.mark.parametrize(
    "spec", [pytest.param(spec, id=name) for name, spec in SCHEMAS if spec.whitespace is not Whitespace.FLEXIBLE]
)
def test_both_forms_admit_the_same(spec: GrammarSpec) -> None:
    check_forms(spec, 4)


def test_both_forms_of_random_schemas_admit_the_same() -> None:
    for _, spec in random_schemas(60, seed=11):
        if spec.whitespace is not Whitespace.FLEXIBLE:  # rules do not know how deep they are, and may indent further
            check_forms(spec, 3)
