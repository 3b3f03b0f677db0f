"""Masks of a set of tokens."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.grammar.mask_pool import MaskPool
from gpu_worker.grammar.token_set import TokensGrammar
from gpu_worker.grammar.vocabulary import make_vocabulary
from gpu_worker.kernels.mask_reference import PlainMaskKernels
from shared.protocol import Jump

SIZE = 75  # fills no whole number of words
VOCABULARY = make_vocabulary([b"%d" % id for id in range(SIZE)], (0,))


@given(ids=st.lists(st.integers(0, SIZE + 5), min_size=1), slot=st.integers(0, 3))
def test_exactly_these_may_come_next(ids: list[int], slot: int) -> None:
    cpu = torch.device("cpu")
    pool = MaskPool(PlainMaskKernels(VOCABULARY, cpu), SIZE, 4, cpu)
    matcher = TokensGrammar(np.array(ids, np.int32), SIZE).matcher(Jump.CANONICAL, slot)
    logits = torch.zeros(1, SIZE)
    pool.apply(logits, [matcher.mask(pool, ends=(0,))])
    there = {id for id in ids if id < SIZE}
    assert set(logits[0].isfinite().nonzero().flatten().tolist()) == there
    assert {id for id in range(SIZE) if matcher.advance(id)} == there
    assert not matcher.forced(None, pool)
