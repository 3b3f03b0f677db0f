"""The mask pool: rows stay right while states come and go, and what is forgotten makes room."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from gpu_worker.grammar import mask_pool
from gpu_worker.grammar.automaton import Automaton
from gpu_worker.grammar.mask_pool import MaskPool
from gpu_worker.grammar.vocabulary import make_vocabulary
from gpu_worker.kernels.mask_reference import PlainMaskKernels
from shared.grammar import DEAD
from tokenizer_svc.grammar.dfa import compile_dfa
from tokenizer_svc.grammar.regex import parse

CPU = torch.device("cpu")
VOCABULARY = make_vocabulary([b"", *(bytes([byte]) for byte in range(97, 123)), b"ab", b"abc", b"zz"], (0,))


def allowed(pool: MaskPool, row: int) -> set[int]:
    bits = np.unpackbits(pool.rows[row].numpy().view(np.uint8), bitorder="little")
    return set(np.flatnonzero(bits).tolist())


def legal(automaton: Automaton, state: int, ends: tuple[int, ...]) -> set[int]:
    words = enumerate(VOCABULARY.spelling)
    return set(ends) | {token for token, word in words if word and automaton.walk(word, state) != DEAD}


@pytest.mark.parametrize("most", [4, 1 << 16])
def test_rows_are_right_however_many_states_come_and_go(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_pool, "_MOST_STATES", most)
    monkeypatch.setattr(mask_pool, "_ROW_BYTES_IN_ALL", 0)  # as few rows as there may be
    pool = MaskPool(PlainMaskKernels(VOCABULARY, CPU), VOCABULARY.size, 4, CPU)
    automata = [Automaton(compile_dfa(parse(pattern))) for pattern in ("[a-d]{1,9}z*", "(ab|abc|zz){2}", "q[a-z]*")]
    draw = random.Random(1)
    for _ in range(300):
        if draw.random() < 0.05:
            pool.forget(draw.choice(automata))
        automaton, ends = draw.choice(automata), draw.choice([(), (0,)])
        state = draw.randrange(1, automaton.num_states)
        assert allowed(pool, pool.of_state(automaton, state, ends)) == legal(automaton, state, ends)


def test_states_that_allow_the_same_share_a_row() -> None:
    pool = MaskPool(PlainMaskKernels(VOCABULARY, CPU), VOCABULARY.size, 4, CPU)
    automaton = Automaton(compile_dfa(parse("x[a-c]{9}y")))
    rows = {pool.of_state(automaton, automaton.walk(b"x" + b"a" * count), ()) for count in range(3, 6)}
    assert len(rows) == 1
