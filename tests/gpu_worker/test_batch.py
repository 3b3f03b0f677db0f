"""The persistent batch: plans change rows, rows become flat arrays."""

from __future__ import annotations

import numpy as np
import pytest

from gpu_worker.batch import Batch, Chunk, Outcome, PlanError
from shared import columns
from shared.protocol import Admit, Finish, Plan, Sampling


def admit(
    request_id: int, tokens: list[int], cached: int = 0, pages: tuple[int, ...] = (), **sampling: object
) -> Admit:
    return Admit(
        id=request_id,
        input_ids=columns.int32(tokens),
        prompt_len=len(tokens),
        cached_len=cached,
        sampling=Sampling(**{"max_tokens": 100, **sampling}),  # type: ignore[arg-type]
        pages=columns.int32(pages),
    )


def plan(
    seq: int = 1,
    admits: tuple[Admit, ...] = (),
    grants: tuple[tuple[int, int, tuple[int, ...]], ...] = (),
    chunks: tuple[tuple[int, int, int], ...] = (),
    releases: tuple[int, ...] = (),
) -> Plan:
    return Plan(
        epoch=1,
        seq=seq,
        releases=columns.uint64(releases),
        admits=admits,
        grant_ids=columns.uint64(grant[0] for grant in grants),
        grant_limits=columns.int32(grant[1] for grant in grants),
        grant_page_counts=columns.int32(len(grant[2]) for grant in grants),
        grant_pages=columns.int32(page for grant in grants for page in grant[2]),
        chunk_ids=columns.uint64(chunk[0] for chunk in chunks),
        chunk_starts=columns.int32(chunk[1] for chunk in chunks),
        chunk_lengths=columns.int32(chunk[2] for chunk in chunks),
    )


EXTRA = 64  # forced tokens that one step may compute


def grow(batch: Batch, row: int, *tokens: int, forced: bool = False) -> Outcome:
    """Append tokens and ask what is new."""
    batch.extend(row, tokens, forced=forced)
    return batch.outcome(row)


def prefilled(
    batch: Batch, request_id: int, tokens: list[int], pages: tuple[int, ...], limit: int, **sampling: object
) -> int:
    """Admit a row, compute its whole prompt in one chunk, draw token 7; returns its row index."""
    chunks = batch.apply(
        plan(
            admits=(admit(request_id, tokens, **sampling),),
            grants=((request_id, limit, pages),),
            chunks=((request_id, 0, len(tokens)),),
        )
    )
    inputs = batch.gather(chunks, EXTRA)
    batch.computed_now(inputs)
    row = int(inputs.sampling_rows[-1])
    grow(batch, row, 7)
    return row


def test_a_chunk_becomes_flat_arrays_with_slots_from_the_page_table() -> None:
    batch = Batch(max_rows=4, context_length=64, page_size=4)
    chunks = batch.apply(
        plan(
            admits=(admit(9, list(range(50, 60)), cached=4, pages=(8,)),),
            grants=((9, 10, (3, 5)),),
            chunks=((9, 4, 6),),
        )
    )
    inputs = batch.gather(chunks, EXTRA)
    assert inputs.input_ids.tolist() == [54, 55, 56, 57, 58, 59]
    assert inputs.positions.tolist() == [4, 5, 6, 7, 8, 9]
    assert inputs.slots.tolist() == [12, 13, 14, 15, 20, 21]
    assert inputs.page_tables.tolist() == [[8, 3, 5]]
    assert inputs.kv_lens.tolist() == [10]
    assert inputs.num_decodes == 0
    assert inputs.logit_indices.tolist() == [5]


def test_a_prompt_that_goes_on_samples_only_at_its_end() -> None:
    batch = Batch(max_rows=4, context_length=64, page_size=4)
    chunks = batch.apply(plan(admits=(admit(9, list(range(8))),), grants=((9, 9, (0, 1, 2)),), chunks=((9, 0, 5),)))
    inputs = batch.gather(chunks, EXTRA)
    batch.computed_now(inputs)
    assert inputs.sampling_rows.tolist() == []
    assert not batch.runnable
    inputs = batch.gather(batch.apply(plan(seq=2, chunks=((9, 5, 3),))), EXTRA)
    assert inputs.sampling_rows.tolist() == inputs.rows.tolist()


def test_decode_rows_come_first_and_run_until_their_lease_ends() -> None:
    batch = Batch(max_rows=4, context_length=64, page_size=4)
    row = prefilled(batch, 9, [1, 2, 3], pages=(6, 2), limit=5)
    chunks = batch.apply(plan(seq=2, admits=(admit(10, [4, 5]),), grants=((10, 2, (7,)),), chunks=((10, 0, 2),)))
    inputs = batch.gather(chunks, EXTRA)
    assert inputs.num_decodes == 1
    assert inputs.input_ids.tolist() == [7, 4, 5]
    assert inputs.slots.tolist() == [6 * 4 + 3, 7 * 4, 7 * 4 + 1]
    assert inputs.starts.tolist() == [0, 1, 3]
    assert inputs.logit_indices.tolist() == [0, 2]
    batch.computed_now(inputs)
    grow(batch, row, 8)
    assert batch.runnable  # slot 4 is granted
    inputs = batch.gather([], EXTRA)
    batch.computed_now(inputs)
    grow(batch, row, 9)
    assert not batch.runnable  # slot 5 is not
    batch.apply(plan(seq=3, grants=((9, 6, ()),)))
    assert batch.runnable


def test_rows_finish_by_stop_token_and_by_length() -> None:
    batch = Batch(max_rows=4, context_length=64, page_size=4)
    stopping = prefilled(batch, 1, [1], (0,), 4, stop_token_ids=(99,))
    assert grow(batch, stopping, 99).finish is Finish.STOP
    assert 1 not in batch
    bounded = prefilled(batch, 2, [1], (0,), 4, max_tokens=2)
    outcome = grow(batch, bounded, 5)
    assert (outcome.first, outcome.finish) == (1, Finish.LENGTH)
    assert len(batch) == 0


def test_min_tokens_keeps_a_stop_token_from_ending_the_row() -> None:
    batch = Batch(max_rows=1, context_length=64, page_size=4)
    row = prefilled(batch, 1, [1], (0, 1), 8, stop_token_ids=(99,), min_tokens=2)
    assert grow(batch, row, 99).finish is Finish.NONE
    assert grow(batch, row, 99).finish is Finish.STOP


def test_the_context_length_ends_a_row() -> None:
    batch = Batch(max_rows=1, context_length=4, page_size=4)
    row = prefilled(batch, 1, [1, 2], (0,), 4)
    assert grow(batch, row, 5).finish is Finish.LENGTH


def test_a_readmitted_row_goes_on_at_its_token_index() -> None:
    batch = Batch(max_rows=2, context_length=64, page_size=4)
    again = Admit(
        id=3,
        input_ids=columns.int32([1, 2, 3, 4]),
        prompt_len=2,
        cached_len=0,
        sampling=Sampling(max_tokens=9),
        pages=b"",
    )
    inputs = batch.gather(batch.apply(plan(admits=(again,), grants=((3, 4, (0,)),), chunks=((3, 0, 4),))), EXTRA)
    batch.computed_now(inputs)
    assert grow(batch, int(inputs.sampling_rows[0]), 5).first == 2


def test_grants_and_releases_of_ended_rows_are_harmless() -> None:
    batch = Batch(max_rows=2, context_length=64, page_size=4)
    prefilled(batch, 1, [1], (0,), 2)
    batch.apply(plan(seq=2, releases=(1, 77), grants=((77, 8, (5, 6)), (1, 8, (3,)))))
    assert len(batch) == 0
    assert not batch.runnable


@pytest.mark.parametrize(
    "bad",
    [
        plan(chunks=((5, 0, 1),)),
        plan(admits=(admit(5, [1, 2, 3]),), grants=((5, 3, (0,)),), chunks=((5, 1, 2),)),
        plan(admits=(admit(5, [1, 2, 3]),), grants=((5, 2, (0,)),), chunks=((5, 0, 3),)),
        plan(admits=(admit(5, [1, 2, 3]),), grants=((5, 5, (0,)),)),
        plan(admits=(admit(5, [1]), admit(5, [1]))),
        plan(admits=(admit(5, [1]), admit(6, [1]), admit(7, [1]))),
    ],
    ids=["no row", "gap", "beyond the grant", "grant without pages", "admitted twice", "too many rows"],
)
def test_a_plan_that_contradicts_the_batch_is_refused(bad: Plan) -> None:
    with pytest.raises(PlanError):
        Batch(max_rows=2, context_length=64, page_size=4).apply(bad)


def test_rows_are_reused_without_leaking_state() -> None:
    batch = Batch(max_rows=1, context_length=64, page_size=4)
    for request_id in range(1, 20):
        row = prefilled(batch, request_id, [request_id, 2], (request_id,), 3)
        assert batch.tokens[row, :3].tolist() == [request_id, 2, 7]
        assert np.array_equal(batch.page_tables[row, :1], [request_id])
        batch.release(request_id)
    assert len(batch) == 0


def test_chunks_are_named() -> None:
    batch = Batch(max_rows=1, context_length=64, page_size=4)
    [chunk] = batch.apply(plan(admits=(admit(1, [1, 2, 3]),), grants=((1, 3, (0,)),), chunks=((1, 0, 2),)))
    assert chunk == Chunk(row=0, start=0, length=2)


def test_forced_tokens_are_computed_together_and_sample_at_their_end() -> None:
    batch = Batch(max_rows=4, context_length=64, page_size=4)
    other = prefilled(batch, 8, [1], pages=(9,), limit=4)
    row = prefilled(batch, 9, [1, 2, 3], pages=(6, 2), limit=8)
    grow(batch, other, 30)
    outcome = grow(batch, row, 40, 41, 42, forced=True)
    assert (outcome.first, outcome.tokens, outcome.forced, outcome.pending) == (1, [40, 41, 42], [1, 1, 1], 4)
    inputs = batch.gather([], EXTRA)
    assert inputs.num_decodes == 1
    assert inputs.rows.tolist() == [other, row]
    assert inputs.input_ids.tolist() == [30, 7, 40, 41, 42]
    assert inputs.positions.tolist() == [2, 3, 4, 5, 6]
    assert inputs.slots.tolist() == [9 * 4 + 2, 6 * 4 + 3, 8, 9, 10]
    assert inputs.sampling_rows.tolist() == [other, row]
    assert inputs.logit_indices.tolist() == [0, 4]


@pytest.mark.parametrize(("limit", "extra", "computed"), [(5, EXTRA, 2), (8, 1, 2), (8, 0, 1), (3, EXTRA, 0)])
def test_forced_tokens_wait_for_slots_and_for_their_share_of_a_step(limit: int, extra: int, computed: int) -> None:
    batch = Batch(max_rows=4, context_length=64, page_size=4)
    row = prefilled(batch, 9, [1, 2, 3], pages=(6, 2), limit=limit)
    grow(batch, row, 40, 41, 42, forced=True)
    assert batch.runnable == (computed > 0)
    if not computed:
        return
    inputs = batch.gather([], extra)
    assert inputs.input_ids.tolist() == [7, 40][:computed]
    assert inputs.sampling_rows.tolist() == []
    batch.computed_now(inputs)
    assert batch.behind(inputs) == [row]
    outcome = batch.outcome(row)
    assert (outcome.first, outcome.tokens, outcome.pending) == (4, [], 4 - computed)


def test_forced_tokens_end_at_a_stop_token_and_at_the_length() -> None:
    batch = Batch(max_rows=4, context_length=64, page_size=4)
    stopping = prefilled(batch, 1, [1], (0,), 4, stop_token_ids=(99,))
    assert batch.extend(stopping, (5, 99, 6), forced=True) == 2
    assert batch.outcome(stopping)[2:] == ([5, 99], [1, 1], 3, Finish.STOP)
    bounded = prefilled(batch, 2, [1], (0,), 4, max_tokens=3)
    assert batch.extend(bounded, (5, 6, 7), forced=True) == 2
    assert batch.outcome(bounded).finish is Finish.LENGTH
