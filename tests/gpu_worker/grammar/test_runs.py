"""Forced runs: what the tokenizer itself would write, and only as far as the model has nothing to choose."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from gpu_worker.grammar.automaton import Automaton
from gpu_worker.grammar.lexicon import Lexicon
from gpu_worker.grammar.mask_pool import MaskPool
from gpu_worker.grammar.runs import canonical_run
from gpu_worker.grammar.vocabulary import load_vocabulary
from gpu_worker.kernels.selection import mask_kernels_for
from shared.config import DEFAULT_MODEL, Settings
from shared.grammar import DEAD, START
from shared.model_files import locate
from shared.tokenizer import Tokenizer
from tests.grammars import REGEXES
from tokenizer_svc.grammar.dfa import compile_dfa
from tokenizer_svc.grammar.regex import parse

PATTERNS = [spec.text for _, spec in REGEXES] + [
    "the quick brown fox jumps over the lazy dog",
    r'\{\n    "name": "[A-Za-z ]{1,16}",\n    "house": "(Oak|Maple)"\n\}',
    "(short|short and sweet|shortest)(, really){0,2}",
    "\u4f60\u597d\uff0c(\u4e16\u754c|\u4e16\u4eba)\uff01\U0001f600\U0001f601",
]


def make_lexicon(model: str, cache: Path) -> Lexicon:
    tokenizer = Tokenizer.load(locate(model, cache), cache)
    vocabulary = load_vocabulary(tokenizer, tokenizer.vocab_size, cache)
    assert vocabulary is not None
    return Lexicon(vocabulary, tokenizer)


@pytest.fixture(scope="module", params=["toy", "smollm2"])
def lexicon(request: pytest.FixtureRequest, toy_model: Path, cache_dir: Path) -> Lexicon:
    if request.param == "toy":
        return make_lexicon(str(toy_model), cache_dir)
    return make_lexicon(DEFAULT_MODEL, Settings().cache_path)


def automaton_of(pattern: str) -> Automaton:
    return Automaton(compile_dfa(parse(pattern)))


def walks(automaton: Automaton, lexicon: Lexicon, seed: int) -> list[tuple[int, int | None]]:
    """States that drawn tokens can lead to, each with the token before it."""
    rng = random.Random(seed)
    tokens = [token for token, word in enumerate(lexicon.spelling) if word]
    found: list[tuple[int, int | None]] = [(START, None)]
    for _ in range(6):
        state, previous = START, None
        for _ in range(12):
            legal = [
                token
                for token in rng.sample(tokens, min(2000, len(tokens)))
                if automaton.walk(lexicon.spelling[token], state) != DEAD
            ]
            if not legal:
                break
            previous = rng.choice(legal)
            state = automaton.walk(lexicon.spelling[previous], state)
            found.append((state, previous))
    return found


def text_of(lexicon: Lexicon, run: tuple[int, ...]) -> bytes:
    return b"".join(lexicon.spelling[token] for token in run)


def encoded(lexicon: Lexicon, text: bytes) -> list[int]:
    """The tokenizer's tokens; none for what begins within a character."""
    try:
        return list(lexicon.encode(text.decode()) or ())
    except UnicodeDecodeError:
        return []


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_run_says_nothing_but_what_must_be_said(lexicon: Lexicon, pattern: str) -> None:
    automaton = automaton_of(pattern)
    for state, previous in walks(automaton, lexicon, seed=1):
        run = canonical_run(automaton, lexicon, state, previous)
        assert automaton.chain(state).startswith(text_of(lexicon, run))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_run_encodes_again_to_itself(lexicon: Lexicon, pattern: str) -> None:
    automaton = automaton_of(pattern)
    for state, previous in walks(automaton, lexicon, seed=2):
        run = canonical_run(automaton, lexicon, state, previous)
        if not run:
            continue
        alone = encoded(lexicon, text_of(lexicon, run))
        before = b"" if previous is None else lexicon.spelling[previous]
        assert list(run) in (alone, encoded(lexicon, before + text_of(lexicon, run))[1:])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_no_longer_token_could_stand_in_a_run(lexicon: Lexicon, pattern: str) -> None:
    automaton = automaton_of(pattern)
    for state, previous in walks(automaton, lexicon, seed=3)[:12]:
        run = canonical_run(automaton, lexicon, state, previous)
        chain = automaton.chain(state)
        end = automaton.walk(chain, state)
        at = 0
        for token in run:
            rest = chain[at:]
            longer = [w for w in lexicon.spelling if len(w) > len(rest) and w.startswith(rest)]
            assert all(automaton.walk(word[len(rest) :], end) == DEAD for word in longer)
            at += len(lexicon.spelling[token])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_mask_admits_every_token_of_a_run(lexicon: Lexicon, pattern: str) -> None:
    automaton = automaton_of(pattern)
    size = lexicon.vocabulary.size
    pool = MaskPool(mask_kernels_for(torch.device("cpu"), lexicon.vocabulary), size, 1, torch.device("cpu"))
    for state, previous in walks(automaton, lexicon, seed=4)[:12]:
        for token in canonical_run(automaton, lexicon, state, previous):
            row = pool.rows[pool.of_state(automaton, state, ())].numpy()
            assert row[token // 32] >> (token % 32) & 1
            state = automaton.walk(lexicon.spelling[token], state)


def test_a_chain_ends_where_the_text_may_end() -> None:
    automaton = automaton_of("abc(def)?")
    assert automaton.chain(START) == b"abc"
    assert automaton.chain(automaton.walk(b"abc")) == b""
    assert automaton.chain(automaton.walk(b"abcd")) == b"ef"
    assert not automaton.is_terminal(automaton.walk(b"abc"))
    assert automaton.is_terminal(automaton.walk(b"abcdef"))


def test_half_characters_are_never_forced(lexicon: Lexicon) -> None:
    automaton = automaton_of("(\U0001f600|\U0001f601)x")
    run = canonical_run(automaton, lexicon, START, None)
    assert run == (), "three of four bytes are determined, but no character is"
