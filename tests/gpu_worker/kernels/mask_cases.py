"""Random vocabularies and automata for the mask kernels, and what is right for them, found token by token."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st

from gpu_worker.grammar.vocabulary import Vocabulary, make_vocabulary
from gpu_worker.kernels.automata import Automata
from gpu_worker.kernels.masks import FREE, MaskKernels
from shared.grammar import DEAD, Tables

CPU = torch.device("cpu")


class Case(NamedTuple):
    vocabulary: Vocabulary
    automata: list[Tables]
    rng: np.random.Generator


@st.composite
def cases(draw: st.DrawFn, largest: int = 300) -> Case:
    """Vocabularies with repeated and missing spellings, wider than their tokenizer's or not, and some automata."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    known = draw(st.integers(0, largest))
    size = max(1, known + draw(st.integers(0, 70)))
    alphabet = rng.choice(256, draw(st.sampled_from([1, 2, 5, 256])), replace=False)
    longest = draw(st.sampled_from([1, 3, 20]))
    spelling = [bytes(rng.choice(alphabet, rng.integers(0, longest + 1)).tolist()) for _ in range(known)]
    automata = [random_tables(rng, alphabet) for _ in range(draw(st.integers(1, 3)))]
    return Case(make_vocabulary(spelling, [0], size), automata, rng)


def random_tables(rng: np.random.Generator, alphabet: np.ndarray) -> Tables:
    """Any automaton: dead ends, loops, classes that nothing is in, state numbers that need all 16 bits."""
    states = int(rng.choice([2, 3, 9, 40, 40_000]))
    width = int(rng.integers(1, 12))
    classes = rng.integers(0, width, 256).astype(np.uint8)
    transitions = rng.integers(0, states, (states, width)).astype(np.uint16)
    transitions[rng.random((states, width)) < rng.choice([0.0, 0.2, 0.7])] = DEAD
    transitions[DEAD] = DEAD
    looping = rng.integers(1, states)
    transitions[looping, classes[alphabet]] = looping
    return Tables(classes, transitions, rng.random(states) < 0.5)


def some_states(case: Case, tables: Tables, count: int) -> list[int]:
    return case.rng.integers(0, len(tables.transitions), count).tolist()


def bits_of(rows: torch.Tensor, size: int) -> np.ndarray:
    """Mask rows int32 [R, W] as booleans [R, 32 W], the bits beyond ``size`` included."""
    assert rows.shape[1] == -(-size // 32)
    return np.unpackbits(np.ascontiguousarray(rows.numpy()).view(np.uint8), axis=1, bitorder="little").astype(bool)


def check_build(kernels: MaskKernels, case: Case) -> None:
    """Every bit is what walking that token alone says; rows not asked for are as they were."""
    vocabulary = case.vocabulary
    for tables in case.automata:
        pool = torch.full((7, vocabulary.words), 0x5A5A5A5A, dtype=torch.int32)
        targets = case.rng.permutation(7)[:4].tolist()
        states = some_states(case, tables, 4)
        kernels.build(pool, targets, states, tables)
        bits = bits_of(pool, vocabulary.size)
        for target, state in zip(targets, states, strict=True):
            expected = [
                bool(spelled) and state != DEAD and tables.walk(spelled, state) != DEAD
                for spelled in vocabulary.spelling
            ]
            expected += [False] * (bits.shape[1] - vocabulary.size)
            np.testing.assert_array_equal(bits[target], expected)
        untouched = [row for row in range(7) if row not in targets]
        assert (pool[untouched] == 0x5A5A5A5A).all()


def check_apply(kernels: MaskKernels, case: Case) -> None:
    """What a mask allows keeps its logit, bit for bit; the rest is minus infinity; free rows are as they were."""
    size, rng = case.vocabulary.size, case.rng
    pool = torch.from_numpy(rng.integers(-(2**31), 2**31, (5, case.vocabulary.words)).astype(np.int32))
    pool[0], pool[1] = 0, -1
    rows = torch.from_numpy(rng.integers(FREE, 5, int(rng.integers(1, 12))).astype(np.int32))
    logits = torch.from_numpy(rng.standard_normal((len(rows), size)).astype(np.float32))
    logits[0, 0], logits[-1, -1] = float("inf"), float("-inf")
    expected = logits.clone()
    bits = bits_of(pool, size)
    for n, row in enumerate(rows.tolist()):
        if row != FREE:
            expected[n, ~torch.from_numpy(bits[row, :size])] = float("-inf")
    kernels.apply(logits, pool, rows)
    assert torch.equal(logits, expected)


def check_advance(kernels: MaskKernels, case: Case) -> None:
    """Each row's state is what its own automaton says, and dead stays dead."""
    automata = Automata(CPU)
    indices = [automata.add(tables) for tables in case.automata]
    rng, spelling = case.rng, case.vocabulary.spelling
    count = int(rng.integers(1, 70))
    which = rng.choice([FREE, *indices], count)
    tokens = rng.integers(0, case.vocabulary.size, count)
    states = [some_states(case, case.automata[automaton], 1)[0] if automaton >= 0 else 77 for automaton in which]
    expected = [
        state if automaton == FREE else case.automata[automaton].walk(spelling[token], state) if state else DEAD
        for state, token, automaton in zip(states, tokens, which, strict=True)
    ]
    before = torch.tensor(states, dtype=torch.int32)
    after = kernels.advance(before, torch.from_numpy(tokens), automata.arrays, torch.from_numpy(which.astype(np.int32)))
    assert after.dtype == torch.int32
    assert after.tolist() == expected
    assert before.tolist() == states
