"""Questions to a JSON Schema: what it compiles to, which texts it admits, why it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from shared.grammar import Dfa, Guidance, Whitespace
from tests.tokenizer_svc.grammar.schema_oracle import acceptor
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import LIMITS, GrammarLimits
from tokenizer_svc.grammar.schema import compile_schema


def compiled(schema: Any, whitespace: Whitespace = Whitespace.COMPACT) -> Dfa | Guidance:
    return compile_schema(json.dumps(schema), whitespace)


def accepting(schema: Any, whitespace: Whitespace = Whitespace.COMPACT) -> Callable[[str], bool]:
    return acceptor(compiled(schema, whitespace))


def admitted(schema: Any, *texts: str) -> list[str]:
    accept = accepting(schema)
    return [text for text in texts if accept(text)]


def refusal(schema: Any, limits: GrammarLimits = LIMITS) -> str:
    text = schema if isinstance(schema, str) else json.dumps(schema)
    with pytest.raises(GrammarError) as caught:
        compile_schema(text, Whitespace.SPACED, limits)
    return str(caught.value)
