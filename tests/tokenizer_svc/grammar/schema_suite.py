"""The JSON-Schema-Test-Suite, and what our grammars make of it.

    python -m tests.tokenizer_svc.grammar.schema_suite

writes suite_accepted.txt anew: one line per schema of the suite that we accept, with the way it takes and the numbers
of the valid instances that are refused. See test_schema_suite.py.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from shared.grammar import Dfa, Whitespace
from tests.tokenizer_svc.grammar.schema_oracle import acceptor, spellings
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.schema import compile_schema

DATA = Path(__file__).parents[4] / "shared" / "json-schema-test-suite" / "tests"
DRAFTS = ("draft2020-12", "draft7")
RECORD = Path(__file__).parent / "suite_accepted.txt"
_HEAD = """\
# What we accept of the JSON-Schema-Test-Suite: file#number of the schema in it, the form of its grammar, and numbers
# of the valid instances that it refuses. Written by: python -m tests.tokenizer_svc.grammar.schema_suite
"""


class Case(NamedTuple):
    """A schema of the suite with its instances."""

    name: str  # file#number
    schema: Any
    instances: list[dict[str, Any]]


class Outcome(NamedTuple):
    """What a grammar makes of a case."""

    form: str  # "automaton" or "guidance"
    refused: tuple[int, ...]  # valid instances that it admits in no spelling
    admitted: tuple[int, ...]  # invalid instances that it admits in some spelling


def cases() -> Iterator[Case]:
    for draft in DRAFTS:
        for path in sorted((DATA / draft).rglob("*.json")):
            for number, group in enumerate(json.loads(path.read_text())):
                yield Case(f"{path.relative_to(DATA)}#{number}", group["schema"], group["tests"])


def outcome(case: Case, whitespace: Whitespace = Whitespace.SPACED) -> Outcome | None:
    """None where the schema is refused."""
    try:
        grammar = compile_schema(json.dumps(case.schema), whitespace)
    except GrammarError:
        return None
    accepts = acceptor(grammar)
    refused: list[int] = []
    admitted: list[int] = []
    for number, instance in enumerate(case.instances):
        found = any(map(accepts, dict.fromkeys(spellings(instance["data"]))))
        if found != instance["valid"]:
            (admitted if found else refused).append(number)
    return Outcome("automaton" if isinstance(grammar, Dfa) else "guidance", tuple(refused), tuple(admitted))


def recorded() -> dict[str, Outcome]:
    """What the record says, by the name of the case."""
    found: dict[str, Outcome] = {}
    for line in RECORD.read_text().splitlines():
        if line and not line.startswith("#"):
            name, form, *numbers = line.split()
            found[name] = Outcome(form, tuple(map(int, numbers)), ())
    return found


def write() -> Counter[str]:
    """Writes the record; returns counts of what is in it."""
    lines: list[str] = []
    counts: Counter[str] = Counter()
    for case in cases():
        found = outcome(case)
        counts["schemas"] += 1
        if found is None:
            continue
        valid = sum(instance["valid"] for instance in case.instances)
        counts.update({found.form: 1, "valid, of accepted schemas": valid, "valid, refused": len(found.refused)})
        counts["invalid, admitted"] += len(found.admitted)
        lines.append(" ".join((case.name, found.form, *map(str, found.refused))))
    RECORD.write_text(_HEAD + "\n".join(lines) + "\n")
    return counts


if __name__ == "__main__":
    for what, count in sorted(write().items()):
        sys.stdout.write(f"{count:6} {what}\n")
