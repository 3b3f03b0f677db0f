"""Cached tokens are exactly what a plain oracle of the cache allows."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler_svc.limits import Limits
from shared import columns
from shared.protocol import Generate
from tests.scheduler_svc.deployment import Deployment
from tests.scheduler_svc.simulated import card, expected, generate


class CacheOracle:
    """Whole pages by the prefix that ends with them, and when they were last used; ``num_pages`` at most."""

    def __init__(self, page_size: int, num_pages: int, lease: int) -> None:
        self.page_size = page_size
        self.num_pages = num_pages
        self.lease = lease
        self.pages: dict[tuple[str, tuple[int, ...]], int] = {}
        self.clock = 0

    def serve(self, request: Generate) -> int:
        """Run one request from beginning to end; returns its cached tokens."""
        size = self.page_size
        prompt = tuple(columns.as_int32(request.input_ids).tolist())
        computed = (prompt + tuple(expected(request)))[:-1]
        path = [(request.namespace, computed[: (i + 1) * size]) for i in range(len(computed) // size)]
        cached = 0
        while cached < (len(prompt) - 1) // size and path[cached] in self.pages:
            cached += 1
        self.clock += 1
        for key in path[:cached]:
            self.pages[key] = self.clock
        own = -(-min(len(prompt) + self.lease, len(computed)) // size) - cached  # pages held besides the cached ones
        self.make_room(own)
        for key in path[cached : len(prompt) // size]:  # in the cache as soon as they are planned
            self.pages[key] = self.clock
            own -= 1
        for held in range(len(prompt) // size + own, -(-len(computed) // size)):
            own = held + 1 - len(prompt) // size
            self.make_room(own)
        for key in path:
            self.pages[key] = self.clock
        return cached * size

    def make_room(self, own: int) -> None:
        """Evict the least recently used pages, the deeper ones first, until ``own`` more fit in."""
        while len(self.pages) + own > self.num_pages:
            del self.pages[min(self.pages, key=lambda key: (self.pages[key], -len(key[1])))]


def conversations(random: Random, turns: int, longest: int) -> list[Generate]:
    """Interleaved conversations that share system prompts; each turn says all that was said before."""
    systems = [[random.randint(0, 4) for _ in range(random.randint(0, 40))] for _ in range(3)]
    histories: list[list[int]] = []
    found: list[Generate] = []
    for turn in range(turns):
        if not histories or random.random() < 0.3:
            histories.append(list(random.choice(systems)))
        history = random.choice(histories)
        history += [random.randint(0, 4) for _ in range(random.randint(1, 12))]
        if len(history) > longest:
            history[:] = history[: random.randint(1, 20)]
        stop = random.choice([None, 0])
        request = generate(turn + 1, history, random.randint(1, 20), stop=stop, namespace=random.choice(["", "", "b"]))
        history += expected(request)
        found.append(request)
    return found


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32), page_size=st.sampled_from([1, 4, 16]), chunk_tokens=st.sampled_from([7, 64]))
def test_with_memory_for_all_every_turn_finds_what_was_ever_computed(seed, page_size, chunk_tokens) -> None:
    d = Deployment(card(20_000 // page_size, page_size, chunk_tokens=chunk_tokens), Limits())
    oracle = CacheOracle(page_size, 20_000 // page_size, 16)
    for request in conversations(Random(seed), 25, 150):
        d.ask(request)
        assert d.cached[request.id] == oracle.serve(request)
    assert d.batch.cache.evicted == 0
    assert d.scheduler.stats.cached_tokens == sum(d.cached.values())


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), page_size=st.sampled_from([1, 4, 16]), lease=st.sampled_from([1, 5]))
def test_with_little_memory_the_least_recently_used_pages_go_first(seed, page_size, lease) -> None:
    num_pages = 160 // page_size
    d = Deployment(card(num_pages, page_size, chunk_tokens=16), Limits(lease=lease))
    oracle = CacheOracle(page_size, num_pages, lease)
    for request in conversations(Random(seed), 30, 120):
        # without a stop token: what a lease took beforehand and was not used would have cost a page
        request = generate(
            request.id,
            columns.as_int32(request.input_ids).tolist(),
            request.sampling.max_tokens,
            namespace=request.namespace,
        )
        d.ask(request)
        assert d.cached[request.id] == oracle.serve(request)


@pytest.mark.parametrize("page_size", [1, 16])
def test_sixteen_simultaneous_requests_compute_their_common_prefix_once(page_size: int) -> None:
    random = Random(1)
    prefix = [random.randint(0, 4) for _ in range(1500)]
    d = Deployment(card(8000 // page_size, page_size, max_running=16, chunk_tokens=256), Limits())
    for i in range(16):
        d.submit(generate(i + 1, prefix + [i % 5, i // 5] + [3] * 20, 4))
    d.run()
    shared = 1500 // page_size * page_size
    assert min(d.cached.values()) == 0
    # those that agree on the last tokens, too, share a few more
    assert all(shared <= cached < 1522 for cached in sorted(d.cached.values())[1:])
    computed: dict[int, int] = {}
    for id, start, length in d.worker.computed:
        computed[id] = computed.get(id, 0) + length
        assert start + length <= 1522
    assert sum(computed.values()) == 16 * 1522 - sum(d.cached.values())


def test_identical_prompts_compute_only_their_last_page_again() -> None:
    d = Deployment(card(200, 4, chunk_tokens=64), Limits())
    for id in range(1, 6):
        d.submit(generate(id, [1, 2, 3, 4] * 10, 3))
    d.run()
    assert sorted(d.cached.values()) == [0, 36, 36, 36, 36]
    assert d.batch.cache.tree.cached_pages == 10


def test_an_aborted_prefill_leaves_what_was_computed_and_lets_the_waiting_go_on() -> None:
    random = Random(3)
    prompt = [random.randint(0, 4) for _ in range(200)]
    d = Deployment(card(200, 4, chunk_tokens=20), Limits())
    d.submit(generate(1, prompt, 4))
    d.submit(generate(2, [*prompt, 1], 4))
    d.round()
    d.forward()
    d.read()
    d.abort(1)
    d.run()
    assert d.cached[2] == sum(length for id, _, length in d.worker.computed if id == 1)
    assert 0 < d.cached[2] < 100
    assert d.outputs[2] == expected(d.requests[2])


def test_the_cache_off_reuses_nothing_and_keeps_nothing() -> None:
    d = Deployment(card(64, 4), Limits(radix_cache=False))
    for id in range(1, 5):
        d.ask(generate(id, [1] * 30, 4))
    assert set(d.cached.values()) == {0}
    assert d.batch.cache.pool.available == 64


def test_a_failed_row_leaves_nothing_of_its_own_in_the_cache() -> None:
    d = Deployment(card(64, 4), Limits())
    d.ask(generate(1, [1] * 13, 1))
    d.worker.failures[2] = "no finite logits"
    d.ask(generate(2, [1] * 12 + [2] * 20, 4))
    assert d.ends[2] == ["worker_error"]
    d.ask(generate(3, [1] * 12 + [2] * 20, 4))
    assert d.cached == {1: 0, 2: 12, 3: 12}
    assert d.ends[3] == ["length"]
