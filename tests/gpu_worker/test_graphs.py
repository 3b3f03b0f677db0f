"""Buckets: which there are, which one a step gets, and what budgets leave out."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from gpu_worker.device_rows import DeviceRows
from gpu_worker.device_sampler import DeviceSampler
from gpu_worker.graphs import Budget, EagerRecorder, Graphs, StepSize, bucket_sizes, capture_graphs
from gpu_worker.kernels.sampling_reference import PlainSamplingKernels
from gpu_worker.startup import Loaded, load
from gpu_worker.step_columns import Sizes, columns_on_device, columns_on_host
from shared.config import Settings

CPU = torch.device("cpu")
PLENTY = Budget(seconds=1000, bytes=1)


@pytest.fixture(scope="module")
def loaded(toy_model: Path, cache_dir: Path) -> Loaded:
    settings = Settings(
        model=str(toy_model), dtype="float32", kv_memory="1MiB", page_size=4, threads=1, max_running=8,
        context_length=64, cache_dir=cache_dir,
    )  # fmt: skip
    return load(settings, lambda _: None)


@pytest.fixture
def rows(loaded: Loaded) -> DeviceRows:
    card = loaded.card
    sampler = DeviceSampler(PlainSamplingKernels(), card.vocab_size, card.max_running, card.context_length, CPU)
    return DeviceRows(
        loaded.model, sampler, None, max_rows=8, page_table_width=16, page_size=4, spare_page=card.num_pages, device=CPU
    )


def captured(rows: DeviceRows, loaded: Loaded, budget: Budget) -> Graphs:
    return capture_graphs(rows, 8, loaded.card.vocab_size, EagerRecorder(), budget, lambda _: None)


@pytest.mark.parametrize("most", [1, 3, 32, 100, 128, 200, 256, 300])
def test_buckets_grow_and_reach_the_most(most: int) -> None:
    sizes = bucket_sizes(most)
    assert sizes == sorted(set(sizes))
    assert (sizes[0], sizes[-1]) == (1, most)
    assert all(after - before <= max(before, 64) for before, after in pairwise(sizes))


def test_a_step_gets_the_smallest_bucket_that_holds_it(rows: DeviceRows, loaded: Loaded) -> None:
    graphs = captured(rows, loaded, PLENTY)
    assert graphs.sizes == [1, 2, 4, 8]
    for tokens, expected in ((1, 1), (3, 4), (8, 8)):
        bucket = graphs.bucket(StepSize(tokens, 1, 1, 1, 0))
        assert bucket is not None
        assert bucket.tokens == expected
    assert graphs.bucket(StepSize(9, 1, 1, 1, 0)) is None
    assert graphs.bucket(StepSize(8, 1, 1, 8, 10_000)) is None, "more new pages than it has room for"


def test_what_the_budget_leaves_out_is_launched_in_pieces(rows: DeviceRows, loaded: Loaded) -> None:
    assert captured(rows, loaded, Budget(seconds=0, bytes=1)).sizes == []
    assert Graphs().bucket(StepSize(1, 1, 1, 1, 0)) is None


def test_padding_touches_nothing_but_what_is_spare(rows: DeviceRows, loaded: Loaded) -> None:
    pool = loaded.model._pool
    for keys, values in zip(pool.keys, pool.values, strict=True):
        keys.zero_()
        values.zero_()
    captured(rows, loaded, PLENTY)
    spare = loaded.card.num_pages
    assert spare == pool.num_pages - 1
    for keys, values in zip(pool.keys, pool.values, strict=True):
        assert not keys[:spare].any()
        assert not values[:spare].any()
        assert values[spare].any(), "it was written somewhere"
    assert not rows.sampler.lengths.any()
    assert (rows.page_tables == spare).all()


def test_columns_are_the_same_memory_on_both_sides() -> None:
    sizes = Sizes(tokens=3, rows=2, logits=1, draws=2, cells=5)
    buffer = torch.zeros(sizes.nbytes, dtype=torch.uint8)
    host, device = columns_on_host(buffer.numpy(), sizes), columns_on_device(buffer, sizes)
    for number, column in enumerate(host):
        column[:] = number
    for number, (here, there) in enumerate(zip(host, device, strict=True)):
        assert (there == number).all()
        assert len(here) == len(there)
        assert str(there.dtype) == f"torch.{here.dtype}"
    assert sum(column.nbytes for column in host) == sizes.nbytes
