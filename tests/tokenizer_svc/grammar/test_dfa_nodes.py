"""Every kind of node of a tree against what it says it means, and the labels of template segments."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.grammar import Tables, tables
from tests.tokenizer_svc.grammar.form import check_form
from tokenizer_svc.grammar.dfa import compile_dfa, compile_labelled
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.nodes import (
    EMPTY,
    Chars,
    Concat,
    Graph,
    Label,
    Literal,
    Network,
    Node,
    Repeat,
    Union,
    concat,
    optional,
    union,
)
from tokenizer_svc.grammar.regex import parse


def compiled(node: Node) -> Tables:
    return tables(compile_dfa(node))


def language(automaton: Tables, letters: str, longest: int) -> set[str]:
    """All texts over ``letters`` up to a length that the automaton accepts."""
    every = itertools.chain.from_iterable(itertools.product(letters, repeat=n) for n in range(longest + 1))
    return {text for text in map("".join, every) if automaton.matches(text.encode())}


# --- nodes ---------------------------------------------------------------------------------------

LETTERS = st.sampled_from("ab")
LEAVES = st.one_of(
    st.text("ab", max_size=2).map(Literal),
    st.sampled_from([Chars(((97, 97),)), Chars(((97, 98),)), Chars(())]),
    st.builds(
        lambda edges, accepting: Graph(
            3, tuple((a, ((ord(c), ord(c)),), b) for a, c, b in edges), frozenset(accepting)
        ),
        st.lists(st.tuples(st.integers(0, 2), LETTERS, st.integers(0, 2)), max_size=5),
        st.sets(st.integers(0, 2), max_size=2),
    ),
)
NODES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: Concat(tuple(parts))),
        st.lists(inner, max_size=3).map(lambda options: Union(tuple(options))),
        st.tuples(inner, st.integers(0, 3), st.integers(0, 3) | st.none()).map(
            lambda args: Repeat(args[0], args[1], None if args[2] is None else args[1] + args[2])
        ),
        st.lists(st.tuples(st.integers(0, 2), inner, st.integers(0, 2)), max_size=4).flatmap(
            lambda edges: st.sets(st.integers(0, 2), max_size=2).map(
                lambda accepting: Network(3, tuple(edges), frozenset(accepting))
            )
        ),
        inner.map(lambda body: Label(body, 0)),
    ),
    max_leaves=8,
)
LONGEST = 4


def denoted(node: Node) -> frozenset[str]:
    """The texts of a tree over a and b, up to a length: straight from what each kind of node means."""
    match node:
        case Literal(text):
            found = {text}
        case Chars(ranges):
            found = {chr(p) for low, high in ranges for p in range(low, high + 1)}
        case Concat(parts):
            found = {""}
            for part in parts:
                found = joined(found, denoted(part))
        case Union(options):
            found = set[str]().union(*map(denoted, options))
        case Repeat(body, least, most):
            once, power, found = denoted(body), {""}, set[str]()
            for times in range(least + LONGEST + 1 if most is None else most + 1):
                found |= power if times >= least else set()
                power = joined(power, once)
        case Label(body, _):
            found = set(denoted(body))
        case Graph(_, edges, accepting):
            spelt = [(a, Chars(ranges), b) for a, ranges, b in edges]
            found = walked(spelt, accepting)
        case Network(_, edges, accepting):
            found = walked(edges, accepting)
    return frozenset(text for text in found if len(text) <= LONGEST)


def joined(first: set[str], second: frozenset[str]) -> set[str]:
    return {a + b for a in first for b in second if len(a + b) <= LONGEST}


def walked(edges: Iterable[tuple[int, Node, int]], accepting: frozenset[int]) -> set[str]:
    """Texts along the edges of a graph, by adding to each state's texts until nothing is new."""
    spans = [(source, denoted(over), to) for source, over, to in edges]
    reached: dict[int, set[str]] = {0: {""}}
    size = 0
    while size < (size := sum(map(len, reached.values()))):
        for source, texts, to in spans:
            reached.setdefault(to, set()).update(joined(reached.get(source, set()), texts))
    return set[str]().union(*(reached.get(state, set()) for state in accepting))


@settings(derandomize=True, deadline=None, max_examples=400)
@given(NODES)
def test_every_kind_of_node_means_what_it_says(node: Node) -> None:
    expected = denoted(node)
    try:
        assert language(compiled(node), "ab", LONGEST) == expected
    except GrammarError:
        assert not expected
        return
    automaton, labels = labelled(node)
    assert language(automaton, "ab", LONGEST) == expected
    check_form(automaton, labels)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.lists(st.text("abé☃", max_size=5), max_size=30))
def test_a_list_of_texts_is_exactly_these(choices: list[str]) -> None:
    if not choices:
        with pytest.raises(GrammarError, match="no text at all"):
            compile_dfa(Union(()))
        return
    automaton = compiled(union([Literal(text) for text in choices]))
    around = {text[:n] for text in choices for n in range(6)} | {text + "a" for text in choices}
    assert {text for text in around | set(choices) if automaton.matches(text.encode())} == set(choices)
    check_form(automaton)


def test_common_endings_of_a_list_are_shared_before_the_bounds() -> None:
    values = [f'"{a}{b}{c} is the value"' for a in "abcdefghij" for b in "0123456789" for c in "0123456789"]
    limits = GrammarLimits(nfa_states=100)
    assert len(tables(compile_dfa(union([Literal(value) for value in values]), limits)).accepting) < 30


# --- labels --------------------------------------------------------------------------------------


def labelled(node: Node) -> tuple[Tables, NDArray[np.int16]]:
    dfa, labels = compile_labelled(node)
    automaton = tables(dfa)
    assert labels.shape == automaton.accepting.shape
    assert labels.dtype == np.int16
    return automaton, labels


def test_labels_follow_the_segments_of_a_template() -> None:
    name = Label(parse('[^"]{1,5}'), 0)
    age = Label(parse("[0-9]*"), 1)
    automaton, labels = labelled(Concat((Literal('{"name": "'), name, Literal('", "age": '), age, Literal("}"))))
    text = '{"name": "Jo☃", "age": 42}'
    places = [labels[automaton.walk(text[:n].encode())] for n in range(len(text) + 1)]
    fixed, free = text.index("Jo"), text.index("42")
    assert places[:fixed] == [-1] * fixed
    assert places[fixed : fixed + 4] == [0, 0, 0, 0]  # the quote may follow, but so may another character
    assert places[fixed + 4 : free] == [-1] * (free - fixed - 4)
    assert places[free : free + 3] == [1, 1, 1]
    assert places[free + 3] == -1
    assert labels[automaton.walk('{"name": "☃'.encode()[:-1])] == 0, "inside of a code point, too"
    assert labels[automaton.walk(b'{"name": "12345')] == -1, "only the quote can follow"
    check_form(automaton, labels)


def test_states_of_different_segments_are_not_merged() -> None:
    same = parse("x[0-9]")
    automaton, labels = labelled(
        Union((Concat((Literal("a"), Label(same, 0))), Concat((Literal("b"), Label(same, 1)))))
    )
    assert [labels[automaton.walk(text)] for text in (b"", b"a", b"ax", b"b", b"bx", b"bx1")] == [-1, 0, 0, 1, 1, -1]
    check_form(automaton, labels)
    assert (
        len(compiled(Union((Concat((Literal("a"), Label(same, 0))), Concat((Literal("b"), Label(same, 1)))))).accepting)
        == 5
    )


def test_adjacent_segments_belong_to_the_first_that_may_go_on() -> None:
    automaton, labels = labelled(concat(Label(parse("a{0,2}"), 0), Label(parse("[ab]*"), 1)))
    assert [labels[automaton.walk(text)] for text in (b"", b"a", b"aa", b"b", b"ab")] == [0, 0, 1, 1, 1]


def test_a_label_without_a_body_labels_nothing() -> None:
    _, labels = labelled(concat(Literal("a"), Label(EMPTY, 0), Literal("b")))
    assert (labels == -1).all()


def test_an_optional_part_is_there_or_not() -> None:
    assert language(compiled(concat(optional(Literal("a")), Literal("b"))), "ab", 3) == {"b", "ab"}
