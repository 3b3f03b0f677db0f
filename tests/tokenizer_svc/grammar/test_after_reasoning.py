"""Grammars that begin after reasoning: exactly free text, the closing mark, and a text of the grammar."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher

from shared.grammar import Dfa, Guidance, tables
from tokenizer_svc.grammar.compile import compile_spec
from tokenizer_svc.grammar.lark import byte_vocabulary
from tokenizer_svc.grammar.limits import LIMITS
from tokenizer_svc.grammar.seeking import seeking
from tokenizer_svc.grammar.spec import GrammarSpec, Kind, Reasoned

PATTERN = r"<?(a|b)+t?"
THOUGHT = r"(?s:((?!</think>).)*)</think>\n{0,2}"
LANGUAGES = {
    Reasoned("</think>"): f"{THOUGHT}{PATTERN}",
    Reasoned("</think>", "<think>"): f"(<think>{THOUGHT})?{PATTERN}",
}
PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<", "</th", "a", "b", "t", "\n", "€", "k>"]), max_size=10
).map("".join)


@pytest.mark.parametrize("reasoned", list(LANGUAGES))
@given(text=PIECES, valid=st.booleans())
@settings(derandomize=True, deadline=None, max_examples=300)
def test_exactly_what_it_says(reasoned: Reasoned, text: str, valid: bool) -> None:
    expected = re.compile(LANGUAGES[reasoned])
    if valid:  # random texts seldom are
        text = f"{reasoned.opener}{text.replace('</think>', '')}</think>\nab"
    grammar = compile_spec(GrammarSpec(Kind.REGEX, PATTERN, after=reasoned), LIMITS)
    assert isinstance(grammar, Dfa)
    assert tables(grammar).matches(text.encode()) == (expected.fullmatch(text) is not None)
    lark = compile_spec(GrammarSpec(Kind.LARK, f"start: /{PATTERN}/", after=reasoned), LIMITS)
    assert isinstance(lark, Guidance), lark
    matcher = LLMatcher(byte_vocabulary(), lark.grammar, log_level=0)
    taken = all(matcher.consume_token(byte) for byte in text.encode()) and matcher.is_accepting()
    assert taken == (expected.fullmatch(text) is not None)


def test_every_state_leads_to_an_end() -> None:
    for reasoned in LANGUAGES:
        grammar = compile_spec(GrammarSpec(Kind.CHOICE, '["yes", "no"]', after=reasoned), LIMITS)
        assert isinstance(grammar, Dfa)
        _, transitions, accepting = tables(grammar)
        reaching = accepting.copy()
        for _ in range(len(accepting)):
            reaching |= (reaching[transitions] & (transitions != 0)).any(axis=1)
        assert reaching[1:].all()
        assert not reaching[0]


@given(
    words=st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=5),
    text=st.text("abc", max_size=12),
)
@settings(derandomize=True, deadline=None)
def test_words_are_found_wherever_they_end(words: list[str], text: str) -> None:
    transitions, found = seeking([word.encode() for word in words])
    state = 0
    for end, byte in enumerate(text.encode(), start=1):
        state = int(transitions[state, byte])
        assert found[state] == any(text[:end].endswith(word) for word in words)


@given(
    words=st.lists(st.text("abé", min_size=1, max_size=4), min_size=1, max_size=5),
    text=st.text("abcé", max_size=12),
)
@settings(derandomize=True, deadline=None)
def test_bad_words_are_nowhere_in_a_text(words: list[str], text: str) -> None:
    grammar = compile_spec(GrammarSpec(Kind.BAD_WORDS, msgspec.json.encode(words).decode()), LIMITS)
    assert isinstance(grammar, Dfa)
    assert tables(grammar).matches(text.encode()) == (not any(word in text for word in words))
