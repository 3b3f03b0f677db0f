"""Leases and chunks: how much at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduler_svc import leases
from scheduler_svc.prefill import ChunkBudget

NUMBERS = st.integers(1, 100)


@given(granted=NUMBERS, lease=NUMBERS, max_positions=NUMBERS)
def test_a_lease_runs_low_when_less_than_half_is_left(granted: int, lease: int, max_positions: int) -> None:
    low = leases.runs_low_at(granted, lease, max_positions)
    for computed in range(granted + 1):
        half_gone = 2 * (granted - computed) < lease
        assert (computed >= low) == (half_gone and granted < max_positions) or computed > max_positions


def test_a_lease_of_one_runs_low_when_it_is_used_up() -> None:
    assert leases.runs_low_at(granted=10, lease=1, max_positions=99) == 10


@given(lease=NUMBERS, slots=st.integers(0, 500), rows=st.integers(0, 50))
def test_an_affordable_lease_is_there_for_every_row(lease: int, slots: int, rows: int) -> None:
    found = leases.affordable(lease, slots, rows)
    assert 1 <= found <= lease
    assert found * rows <= slots or found == 1


@given(
    inputs=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 60)), min_size=1, max_size=6),
    tokens=NUMBERS,
    page_size=st.sampled_from([1, 4, 16]),
)
def test_chunks_fill_the_budget_and_end_with_pages(inputs, tokens: int, page_size: int) -> None:
    budget = ChunkBudget(tokens, page_size)
    spent = 0
    for position, (start, more) in enumerate(inputs):
        chunk = budget.chunk(start, start + more)
        length = chunk.length
        assert 0 <= length <= min(more, tokens - spent)
        if 0 < length < more and (start + length) % page_size:
            assert position == 0, "only where the whole budget is smaller than a page"
            assert start // page_size == (start + tokens) // page_size
        if length == 0:
            assert tokens - spent < more
            assert position > 0
            break
        budget.spend(chunk)
        spent += length


def test_a_long_input_is_cut_at_a_page() -> None:
    budget = ChunkBudget(100, 16)
    chunk = budget.chunk(0, 1000)
    assert chunk.length == 96
    budget.spend(chunk)
    assert budget.chunk(0, 1000).length == 0
    assert budget.chunk(0, 4).length == 4


@given(
    inputs=st.lists(st.tuples(st.integers(0, 900), st.integers(1, 1500), st.integers(1, 2500)), max_size=6),
    tokens=st.integers(1, 2000),
    page_size=st.sampled_from([1, 4, 16]),
)
def test_what_is_scored_in_a_step_is_bounded(inputs, tokens: int, page_size: int) -> None:
    """Whatever prompts want; the scores of a chunk are those of the tokens that follow its own and are known."""
    budget = ChunkBudget(tokens, page_size)
    left, scored = tokens, 0
    for start, more, unscored in inputs:
        total = start + more
        chunk = budget.chunk(start, total, max(unscored, start + 1))
        assert 0 <= chunk.length <= min(more, left)
        positions = [at + 1 for at in range(start, start + chunk.length) if at + 1 < total]
        assert chunk.scored == (sum(at >= unscored for at in positions) if chunk.length else 0)
        assert chunk.length or left < tokens or chunk.is_crowded or left < page_size
        left -= chunk.length
        scored += chunk.scored
        if chunk.length:
            budget.spend(chunk)
    assert scored <= 512
