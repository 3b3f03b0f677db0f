"""Schemas that we accept, against the JSON-Schema-Test-Suite: nothing invalid is ever admitted, and we get no worse.

The record beside this is a ratchet: a schema that was accepted stays accepted, and no more of its valid instances are
refused. To record what has become better: python -m tests.tokenizer_svc.grammar.schema_suite
"""

from __future__ import annotations

import pytest

from shared.grammar import Whitespace
from tests.tokenizer_svc.grammar.schema_suite import DATA, Outcome, cases, outcome, recorded

_UPDATE = "If this is meant: python -m tests.tokenizer_svc.grammar.schema_suite writes the record anew"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the JSON-Schema-Test-Suite is not at {DATA}")


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """Of the schemas that are accepted, by name."""
    return {case.name: found for case in cases() if (found := outcome(case))}


def test_nothing_invalid_is_admitted(outcomes: dict[str, Outcome]) -> None:
    assert not {name: found.admitted for name, found in outcomes.items() if found.admitted}


@pytest.mark.parametrize("whitespace", [Whitespace.COMPACT, Whitespace.FLEXIBLE])
def test_nothing_invalid_is_admitted_whatever_the_white_space(whitespace: Whitespace) -> None:
    assert not {case.name: found for case in cases() if (found := outcome(case, whitespace)) and found.admitted}


def test_no_schema_is_refused_that_was_accepted(outcomes: dict[str, Outcome]) -> None:
    record = recorded()
    assert len(record) > 400
    assert not record.keys() - outcomes.keys(), _UPDATE


def test_no_valid_instance_is_refused_that_was_admitted(outcomes: dict[str, Outcome]) -> None:
    pairs = [(name, before, outcomes[name]) for name, before in recorded().items() if name in outcomes]
    assert not [name for name, before, now in pairs if set(now.refused) - set(before.refused)], _UPDATE
