"""CPU time of the scheduler's core: rounds while decoding, rounds with a long queue, radix matches.

    python -m benchmarks.scheduler [--rows 64] [--lease 16] [--waiting 2000] [--cached-tokens 1000000]

Measures the pure core only, in process CPU time: on_step, plan, and the decoding and encoding of their
messages. The hop through Redis is the streams' business.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scheduler_svc.limits import Limits
from scheduler_svc.pages import page_array
from scheduler_svc.radix_tree import RadixTree
from scheduler_svc.scheduler import Scheduler
from shared import columns
from shared.protocol import Generate, ModelCard, Plan, Sampling, Step, decode, encode


class Figure(NamedTuple):
    """One line of the table, in microseconds."""

    name: str
    samples: list[float]

    def __str__(self) -> str:
        ordered = sorted(self.samples)
        p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        return f"{self.name:<58} {statistics.mean(ordered):9.1f} {ordered[len(ordered) // 2]:9.1f} {p99:9.1f}"


def card(rows: int, num_pages: int = 20_000, page_size: int = 16) -> ModelCard:
    return ModelCard(
        model="bench",
        architecture="none",
        dtype="float32",
        device="cpu",
        vocab_size=50_000,
        context_length=8192,
        page_size=page_size,
        num_pages=num_pages,
        max_running=rows,
        chunk_tokens=256,
    )


def request(id: int, prompt: np.ndarray, max_tokens: int, *, hints: bool = False) -> Generate:
    """With ``hints`` it belongs to a group of 16 and becomes a context."""
    tokens, sampling = prompt.astype("<i4").tobytes(), Sampling(max_tokens=max_tokens)
    group, context = (f"g{id // 16}", f"c{id}") if hints else ("", "")
    return Generate(id, tokens, sampling, "", 0, "t0", "d0", float(id), group=group, context=context)


class Worker:
    """Answers plans with steps in which every decoding row gets one token while its lease lasts."""

    def __init__(self) -> None:
        self.seq = 0
        self.applied = 0
        self.lengths: dict[int, int] = {}  # tokens generated
        self.prompts: dict[int, int] = {}
        self.limits: dict[int, int] = {}
        self.ready: list[int] = []

    def apply(self, plan: Plan) -> None:
        self.applied = plan.seq
        for admit in plan.admits:
            self.prompts[admit.id] = len(admit.input_ids) // 4
            self.lengths[admit.id] = 0
        for id, limit in zip(
            columns.as_uint64(plan.grant_ids).tolist(), columns.as_int32(plan.grant_limits).tolist(), strict=True
        ):
            self.limits[id] = limit
        ends = zip(
            columns.as_uint64(plan.chunk_ids).tolist(),
            columns.as_int32(plan.chunk_starts).tolist(),
            columns.as_int32(plan.chunk_lengths).tolist(),
            strict=True,
        )
        self.ready += [id for id, start, length in ends if start + length == self.prompts[id]]

    def step(self) -> Step:
        self.seq += 1
        ids = [id for id in self.ready if self.prompts[id] + self.lengths[id] - 1 < self.limits[id]]
        firsts = [self.lengths[id] for id in ids]
        for id in ids:
            self.lengths[id] += 1
        return Step(
            epoch=1,
            seq=self.seq,
            plan=self.applied,
            ids=columns.uint64(ids),
            firsts=columns.int32(firsts),
            counts=columns.int32([1] * len(ids)),
            tokens=columns.int32([7] * len(ids)),
            finishes=bytes(len(ids)),
        )


def rounds(rows: int, lease: int, waiting: int, count: int) -> Figure:
    """Rounds of a scheduler with ``rows`` decoding rows and ``waiting`` requests in the queue."""
    random = np.random.default_rng(0)
    system = random.integers(0, 50_000, 512)
    scheduler = Scheduler(Limits(lease=lease, max_queue=1_000_000))
    scheduler.reopen(1, card(rows, num_pages=max(20_000, (32 + 4 + count // 8) * rows)))
    worker = Worker()
    for id in range(1, rows + waiting + 1):
        own = random.integers(0, 50_000, 64)
        scheduler.submit(request(id, np.concatenate([system, own]), 4000), 0.0)
    samples: list[float] = []

    def one_round(payload: bytes) -> list[bytes]:
        step = decode(payload)
        assert isinstance(step, Step)
        scheduler.on_step(step, 1.0)
        plans: list[bytes] = []
        while (plan := scheduler.plan(1.0)) is not None:
            plans.append(encode(plan))
        scheduler.outbox.drain()
        return plans

    while len(worker.ready) < rows:
        for plan in one_round(encode(worker.step())):
            worker.apply(decode(plan))  # pyright: ignore[reportArgumentType]
    gc.collect()
    gc.freeze()
    for _ in range(count):
        payload = encode(worker.step())
        began = time.process_time_ns()
        plans = one_round(payload)
        samples.append((time.process_time_ns() - began) / 1000)
        for plan in plans:
            worker.apply(decode(plan))  # pyright: ignore[reportArgumentType]
    assert scheduler.running == rows
    return Figure(f"round: {rows} rows decoding, lease {lease}, {waiting} waiting", samples)


def churn(rows: int, waiting: int, count: int, *, hints: bool = False) -> Figure:
    """Rounds in which four rows end and four of ``waiting`` requests are admitted in their stead.

    With ``hints`` requests are in groups, and become contexts, of which four are released a round.
    """
    random = np.random.default_rng(0)
    system = random.integers(0, 50_000, 512)
    scheduler = Scheduler(Limits(max_queue=1_000_000))
    scheduler.reopen(1, card(rows, num_pages=max(20_000, (32 + 4 + count // 8) * rows)))
    worker = Worker()
    for id in range(1, waiting + 1):
        scheduler.submit(request(id, np.concatenate([system, random.integers(0, 50_000, 48)]), 4000, hints=hints), 0.0)
    samples: list[float] = []
    refill = waiting
    ended: deque[str] = deque()
    for turn in range(count + 200):
        step = worker.step()
        ids = columns.as_uint64(step.ids).tolist()
        if len(ids) >= rows - 8:
            done = set(ids[:4])
            step = Step(
                **{name: getattr(step, name) for name in Step.__struct_fields__ if name != "finishes"},
                finishes=bytes(id in done for id in ids),
            )
            worker.ready = [id for id in worker.ready if id not in done]
            for _ in done:
                refill += 1
                own = random.integers(0, 50_000, 48)
                scheduler.submit(request(refill, np.concatenate([system, own]), 4000, hints=hints), 0.0)
            ended.extend(f"c{id}" for id in done)
        payload = encode(step)
        began = time.process_time_ns()
        read = decode(payload)
        assert isinstance(read, Step)
        scheduler.on_step(read, 1.0)
        if hints and len(ended) > 64:
            scheduler.release([ended.popleft() for _ in range(4)])
        plans: list[bytes] = []
        while (plan := scheduler.plan(1.0)) is not None:
            plans.append(encode(plan))
        scheduler.outbox.drain()
        if turn >= 200:
            samples.append((time.process_time_ns() - began) / 1000)
        for payload in plans:
            worker.apply(decode(payload))  # pyright: ignore[reportArgumentType]
    named = ", hints" if hints else ""
    return Figure(f"round: {rows} rows, 4 end and 4 start each, {waiting} waiting{named}", samples)


def matches(cached_tokens: int, page_size: int) -> list[Figure]:
    """Looking up, inserting and evicting in a tree that holds ``cached_tokens``."""
    random = np.random.default_rng(0)
    tree = RadixTree(page_size)
    systems = [random.integers(0, 50_000, 1536) for _ in range(20)]
    prompts: list[bytes] = []
    page = 0

    def add(tokens: bytes) -> None:
        nonlocal page
        size = page_size * 4
        match = tree.match_prefix("", tokens, len(tokens) // size)
        tree.pin(match.node)
        count = len(tokens) // size - len(match.pages)
        inserted = tree.insert(match.node, tokens[len(match.pages) * size :], page_array(range(page, page + count)))
        page += count
        tree.unpin(inserted.node)

    while tree.cached_pages * page_size < cached_tokens:
        prompt = np.concatenate([systems[len(prompts) % 20], random.integers(0, 50_000, 512)]).astype("<i4").tobytes()
        prompts.append(prompt)
        add(prompt)
    new = [
        np.concatenate([systems[i % 20], random.integers(0, 50_000, 512)]).astype("<i4").tobytes() for i in range(500)
    ]
    label = f"{cached_tokens:,} cached tokens, page {page_size}"
    return [
        measured(f"peek at 2,048 tokens, {label}", lambda i: tree.peek("", prompts[i * 7 % len(prompts)], 9999), 500),
        measured(f"match + pin + unpin, {label}", lambda i: matched(tree, prompts[i * 7 % len(prompts)]), 500),
        measured(f"insert 512 new tokens, {label}", lambda i: add(new[i]), 500),
        measured(f"evict 32 pages, {label}", lambda _: tree.evict(32), 500),
    ]


def matched(tree: RadixTree, tokens: bytes) -> None:
    node = tree.match_prefix("", tokens, 9999).node
    tree.pin(node)
    tree.unpin(node)


def measured(name: str, work: Callable[[int], object], count: int) -> Figure:
    samples: list[float] = []
    for i in range(count):
        began = time.process_time_ns()
        work(i)
        samples.append((time.process_time_ns() - began) / 1000)
    return Figure(name, samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--lease", type=int, default=16)
    parser.add_argument("--waiting", type=int, default=2000)
    parser.add_argument("--cached-tokens", type=int, default=1_000_000)
    options = parser.parse_args()
    print(f"{'CPU microseconds':<58} {'mean':>9} {'p50':>9} {'p99':>9}")
    print(rounds(options.rows, options.lease, 0, 2000))
    print(rounds(options.rows, 1, 0, 1000))
    print(rounds(options.rows, options.lease, options.waiting, 2000))
    print(churn(options.rows, options.waiting, 1000))
    print(churn(options.rows, options.waiting, 1000, hints=True))
    for page_size in (16, 1):
        for figure in matches(options.cached_tokens, page_size):
            print(figure)


if __name__ == "__main__":
    main()
