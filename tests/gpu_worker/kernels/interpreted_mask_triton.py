"""The Triton kernels in Triton's interpreter: run by test_mask_triton.py in a process of its own, which sets
TRITON_INTERPRET before anything imports triton.
"""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings

from gpu_worker.grammar.vocabulary import make_vocabulary
from gpu_worker.kernels.mask_kernels_triton import TritonMaskKernels
from gpu_worker.kernels.mask_reference import PlainMaskKernels
from tests.gpu_worker.kernels.mask_cases import CPU, Case, cases, check_advance, check_apply, check_build, random_tables

checked = settings(max_examples=10, derandomize=True, deadline=None, database=None)


@checked
@given(case=cases())
def test_built_rows_allow_what_each_token_alone_may(case: Case) -> None:
    check_build(TritonMaskKernels(case.vocabulary, CPU), case)


@checked
@given(case=cases())
def test_applied_rows_leave_what_is_allowed(case: Case) -> None:
    check_apply(TritonMaskKernels(case.vocabulary, CPU), case)


@checked
@given(case=cases())
def test_states_advance_by_their_own_automata(case: Case) -> None:
    check_advance(TritonMaskKernels(case.vocabulary, CPU), case)


def test_several_programs_per_row() -> None:
    rng = np.random.default_rng(5)
    alphabet = np.arange(97, 101)
    spelling = [bytes(rng.choice(alphabet, rng.integers(0, 9)).tolist()) for _ in range(2_500)]
    vocabulary = make_vocabulary(spelling, [], 2_505)
    kernels, plain = TritonMaskKernels(vocabulary, CPU), PlainMaskKernels(vocabulary, CPU)
    tables = random_tables(rng, alphabet)
    states = rng.integers(0, len(tables.transitions), 3).tolist()
    pools = [torch.full((4, vocabulary.words), -1, dtype=torch.int32) for _ in range(2)]
    for each, pool in zip((kernels, plain), pools, strict=True):
        each.build(pool, [3, 0, 2], states, tables)
    assert torch.equal(*pools)
    rows = torch.tensor([0, -1, 3, 2], dtype=torch.int32)
    logits = [torch.ones(4, vocabulary.size) for _ in range(2)]
    for each, values in zip((kernels, plain), logits, strict=True):
        each.apply(values, pools[0], rows)
    assert torch.equal(*logits)


def test_automata_used_before_stay_and_old_ones_go() -> None:
    rng = np.random.default_rng(6)
    vocabulary = make_vocabulary([b"a", b"b", b"ab"], [])
    kernels, plain = TritonMaskKernels(vocabulary, CPU), PlainMaskKernels(vocabulary, CPU)
    automata = [random_tables(rng, np.arange(97, 99)) for _ in range(70)]
    for tables in [*automata, automata[0], automata[69]]:
        pools = torch.zeros(2, 1, 1, dtype=torch.int32)
        kernels.build(pools[0], [0], [1], tables)
        plain.build(pools[1], [0], [1], tables)
        assert torch.equal(pools[0], pools[1])
