"""Automata whose edges are trees."""

from __future__ import annotations

import itertools
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.grammar import tables
from tokenizer_svc.grammar.dfa import compile_dfa
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.nodes import EMPTY, Concat, Literal, Network, Node, Repeat, Union

TEXTS = ["".join(letters) for size in range(5) for letters in itertools.product("ab", repeat=size)]

pieces: st.SearchStrategy[Node] = st.sampled_from(
    [EMPTY, Literal("a"), Literal("b"), Literal("ab"), Repeat(Literal("a"), 0, None), Union((Literal("b"), EMPTY))]
)
networks = st.builds(
    Network,
    st.just(3),
    st.lists(st.tuples(st.integers(0, 2), pieces, st.integers(0, 2)), min_size=1, max_size=5).map(tuple),
    st.frozensets(st.integers(0, 2), min_size=1),
)


def language(network: Network) -> set[str]:
    """The texts of ``TEXTS``, by walking in all ways."""
    reached = {(0, "")}
    while True:
        steps = {
            (to, text)
            for state, so_far in reached
            for source, over, to in network.edges
            for text in TEXTS
            if source == state and text.startswith(so_far) and re.fullmatch(pattern(over), text[len(so_far) :])
        }
        if steps <= reached:
            return {text for state, text in reached if state in network.accepting}
        reached |= steps


def pattern(node: Node) -> str:
    match node:
        case Literal(text):
            return text
        case Repeat():
            return "a*"
        case _:
            return "b?"


def matched(node: Node) -> set[str]:
    try:
        automaton = tables(compile_dfa(node))
    except GrammarError:
        return set()
    return {text for text in TEXTS if automaton.matches(text.encode())}


@given(network=networks)
@settings(derandomize=True, deadline=None, max_examples=200)
def test_a_network_is_the_language_of_its_paths(network: Network) -> None:
    assert matched(network) == language(network)


@given(network=networks)
@settings(derandomize=True, deadline=None, max_examples=200)
def test_networks_can_be_repeated_and_followed(network: Network) -> None:
    single = language(network)
    twice = {first + second for first in single for second in single if len(first + second) < 5}
    upto = {""} | single | twice
    assert matched(Repeat(network, 0, 2)) == upto
    assert matched(Concat((network, network))) == twice
