"""Memory for weights: aligned, kept apart, and as large as it takes."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.huge_pages import Arena, huge_empty


@given(st.lists(st.integers(0, 5000), max_size=20))
def test_what_is_kept_stays_as_it_is(sizes: list[int]) -> None:
    arena = Arena()
    originals = [torch.randint(0, 256, (size,), dtype=torch.uint8) for size in sizes]
    kept = [arena.keep(data) for data in originals]
    for data, copy in zip(originals, kept, strict=True):
        assert torch.equal(data, copy)
        assert copy.data_ptr() % 64 == 0


def test_more_than_a_block() -> None:
    arena = Arena()
    small, large = torch.ones(10, dtype=torch.uint8), torch.full((40 * 2**20,), 7, dtype=torch.uint8)
    kept = [arena.keep(small), arena.keep(large), arena.keep(small)]
    assert torch.equal(kept[1], large)
    assert torch.equal(kept[0], kept[2])


def test_huge_memory_is_zero_and_aligned() -> None:
    memory = huge_empty(3 * 2**20 + 5)
    assert len(memory) == 3 * 2**20 + 5
    assert memory.data_ptr() % 2**21 == 0
    assert not memory.any()
