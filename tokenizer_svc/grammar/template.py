"""Templates: fixed and generated parts in one answer, as one automaton whose states know the part they are in.

A generated part that nothing else bounds ends where the fixed text after it begins. Knows nothing of requests.
The idea of one call for fixed and generated text is guidance's (github.com/guidance-ai/guidance).
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec
import numpy as np

from shared.grammar import DEAD, Dfa, Segments, Tables, Whitespace, tables
from tokenizer_svc.grammar.dfa import compile_dfa, compile_labelled
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.nodes import (
    Concat,
    Graph,
    Label,
    Literal,
    Node,
    Ranges,
    complement,
    normalised,
    union,
)
from tokenizer_svc.grammar.regex import parse
from tokenizer_svc.grammar.regex_anchors import ANYTHING


class Form(enum.StrEnum):
    """What a generated part may be."""

    FREE = "free"  # any text without ``stop``
    REGEX = "regex"
    CHOICE = "choice"  # ``text`` is a JSON list of texts
    JSON_SCHEMA = "json_schema"


class Fixed(msgspec.Struct, frozen=True, tag="fixed"):
    """Text that stands as it is."""

    text: str


class Generated(msgspec.Struct, frozen=True, tag="generated"):
    """A part that the model writes."""

    form: Form
    text: str = ""  # what ``form`` says it is
    stop: str = ""  # of a free part: how the fixed text after it begins; empty at the end of a template
    max_tokens: int = 0  # 0: no bound
    whitespace: Whitespace = Whitespace.SPACED  # of a JSON schema


class TemplateSpec(msgspec.Struct, frozen=True):
    """A template before it is compiled: no two parts of one kind in a row, at least one generated."""

    parts: tuple[Fixed | Generated, ...]


class _Part(NamedTuple):
    """A generated part and the fixed text after it."""

    generated: Generated
    following: str

    @property
    def mark(self) -> str:
        """How the text begins at which the part's value ends."""
        return self.generated.stop or self.following[:1]


def compile_template(text: str, limits: GrammarLimits) -> Dfa:
    """The automaton of a TemplateSpec in JSON. Raises GrammarError, naming the generated part by its place."""
    spec = msgspec.json.decode(text, type=TemplateSpec)
    parts = _parts(spec)
    bodies = [_checked(part.generated, index, limits) for index, part in enumerate(parts)]
    labelled = [Label(body, index) for index, body in enumerate(bodies)]
    places = iter(labelled)
    whole = [Literal(part.text) if isinstance(part, Fixed) else next(places) for part in spec.parts]
    dfa, labels = compile_labelled(Concat(tuple(whole)), limits)
    alone = tuple(compile_dfa(body, limits) for body in bodies)
    for index, (part, automaton) in enumerate(zip(parts, alone, strict=True)):
        _check_end(part, tables(automaton), index)
    segments = Segments(
        labels=labels.astype("<i2").tobytes(),
        budgets=tuple(part.generated.max_tokens for part in parts),
        following=tuple(part.following.encode() for part in parts),
        marks=tuple(part.mark.encode() for part in parts),
        parts=alone,
    )
    return msgspec.structs.replace(dfa, segments=segments)


def _parts(spec: TemplateSpec) -> list[_Part]:
    after = [*spec.parts[1:], Fixed("")]
    return [
        _Part(part, next_.text if isinstance(next_, Fixed) else "")
        for part, next_ in zip(spec.parts, after, strict=True)
        if isinstance(part, Generated)
    ]


def _check_end(part: _Part, alone: Tables, index: int) -> None:
    """Raises GrammarError where a value could end, and could go on with what the text after it begins with."""
    mark = part.mark
    if not mark:
        return
    if part.generated.form is Form.FREE:
        if _fallbacks(mark)[-1]:
            raise GrammarError(f"generated part {index}: its stop {mark!r} ends as it begins: use a shorter one")
        return
    data = mark.encode()
    for state in np.flatnonzero(alone.accepting).tolist():
        if alone.walk(data, state) != DEAD:
            raise GrammarError(
                f"generated part {index} may end, or go on with {mark!r}, with which the fixed text after it begins: "
                "nobody could tell where the value ends"
            )


def _checked(part: Generated, index: int, limits: GrammarLimits) -> Node:
    try:
        return _node(part, limits)
    except GrammarError as error:
        raise GrammarError(f"generated part {index}: {error}") from error


def _node(part: Generated, limits: GrammarLimits) -> Node:
    match part.form:
        case Form.FREE:
            return without(part.stop) if part.stop else ANYTHING
        case Form.REGEX:
            return parse(part.text, limits)
        case Form.CHOICE:
            texts = msgspec.json.decode(part.text, type=list[str])
            if len(texts) > limits.enum_values:
                raise GrammarError(f"has {len(texts)} texts, at most {limits.enum_values} are allowed")
            return union([Literal(choice) for choice in texts])
        case Form.JSON_SCHEMA:
            return _schema(part, limits)


def _schema(part: Generated, limits: GrammarLimits) -> Node:
    from tokenizer_svc.grammar.schema import NotRegular, schema_node  # with llguidance, which most children never need

    try:
        return schema_node(msgspec.json.decode(part.text), part.whitespace, limits)
    except NotRegular as error:
        raise GrammarError(f"no automaton holds this schema, and a template needs one: {error}") from error


def without(stop: str) -> Graph:
    """Every text in which ``stop`` does not occur (Knuth, Morris and Pratt's automaton without its last state)."""
    fallback = _fallbacks(stop)
    letters = sorted(set(stop))
    others = complement(normalised([(ord(letter), ord(letter)) for letter in letters]))
    edges: list[tuple[int, Ranges, int]] = []
    for state in range(len(stop)):
        edges.append((state, others, 0))
        for letter in letters:
            following = _next(stop, fallback, state, letter)
            if following < len(stop):
                edges.append((state, ((ord(letter), ord(letter)),), following))
    return Graph(len(stop), tuple(edges), frozenset(range(len(stop))))


def _fallbacks(stop: str) -> list[int]:
    """For each number of matched characters, the next smaller number that the same text also matches."""
    fallback = [0, 0]
    for place in range(1, len(stop)):
        shorter = fallback[place]
        while shorter and stop[shorter] != stop[place]:
            shorter = fallback[shorter]
        fallback.append(shorter + 1 if stop[shorter] == stop[place] else 0)
    return fallback


def _next(stop: str, fallback: list[int], state: int, letter: str) -> int:
    while state and stop[state] != letter:
        state = fallback[state]
    return state + 1 if stop[state] == letter else 0
