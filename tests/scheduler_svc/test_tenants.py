"""Accounts of tenants: who was served least, and what is remembered of whom."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from scheduler_svc.growing_heap import GrowingHeap
from scheduler_svc.policy import Policy, Queue
from scheduler_svc.tenants import Tenant, Tenants
from tests.scheduler_svc.test_policy import Tree, popped, request


def nothing() -> None:
    """Counters are up to date."""


@given(st.lists(st.tuples(st.sampled_from("agdf"), st.integers(0, 9), st.integers(0, 5)), max_size=60))
def test_a_growing_heap_knows_the_least_of_keys_that_grow(moves: list[tuple[str, int, int]]) -> None:
    keys: dict[int, int] = {}
    gone: set[int] = set()
    heap: GrowingHeap[int] = GrowingHeap(lambda item: (keys[item],), lambda item: item not in gone)
    for move, item, amount in moves:
        match move:
            case "a":
                keys.setdefault(item, amount)
                gone.discard(item)
                heap.add(item)
            case "g" if item in keys:
                keys[item] += amount
            case "d" if item in keys:
                gone.add(item)
            case _:
                pass
        present = keys.keys() - gone
        first = heap.first
        assert (first is None) == (not present)
        if first is not None:
            assert first in present
            assert keys[first] == min(keys[each] for each in present)


def test_a_growing_heap_forgets_items_that_never_come_to_the_top() -> None:
    gone: set[int] = set()
    heap: GrowingHeap[int] = GrowingHeap(lambda item: (item,), lambda item: item not in gone)
    heap.add(0)
    for item in range(1, 10_000):
        heap.add(item)
        gone.add(item)
    assert len(heap) < 200
    assert heap.first == 0


def test_the_least_served_tenant_goes_first_within_a_priority() -> None:
    greedy, modest = Tenant("greedy", served=500), Tenant("modest", served=100)
    queue = Queue(Policy.LPM, Tree())
    for id in (1, 2):
        queue.push(request(id, arrived=0.0, tenant=greedy), 0)
    queue.push(request(3, arrived=9.0, tenant=modest), 0)
    queue.push(request(4, arrived=9.5, tenant=greedy, priority=1), 0)
    assert popped(queue) == [4, 3, 1, 2]
    for id in (1, 2):
        queue.push(request(id, tenant=greedy), 0)
    for id in (3, 4):
        queue.push(request(id, tenant=modest), 0)
    assert (first := queue.pop(0)) is not None
    modest.served += 1000
    assert [first.id, *popped(queue)] == [3, 1, 2, 4]


def test_who_comes_anew_is_lifted_to_the_least_of_those_that_wait() -> None:
    tenants = Tenants()
    a = tenants.joins("a", nothing)
    a.served = 700
    b = tenants.joins("b", nothing)
    assert b.served == 700
    b.served = 900
    assert tenants.joins("c", nothing).served == 700
    tenants.leaves(b)
    assert tenants.joins("b", nothing).served == 900, "debts are not forgotten while others wait"


def test_where_nobody_waits_the_last_one_started_is_the_measure() -> None:
    tenants = Tenants()
    a = tenants.joins("a", nothing)
    tenants.starts(a)

    def settle() -> None:
        a.served += 50

    assert tenants.joins("b", settle).served == 50


def test_a_tenant_that_asks_for_nothing_saves_up_no_credit_and_leaves_no_trace() -> None:
    tenants = Tenants()
    always = tenants.joins("always", nothing)
    for turn in range(20_000):
        each = tenants.joins(f"once {turn}", nothing)
        assert each.served >= always.served
        tenants.starts(each)
        each.served += 10
        tenants.stops(each)
        tenants.leaves(each)
        if turn % 3 == 0:
            always.served += 1
    assert len(tenants) <= 4200
    assert len(tenants._waiting) < 200
    tenants.leaves(always)
    assert len(tenants) == 0


def test_the_queue_holds_nothing_of_tenants_that_are_gone() -> None:
    random = Random(5)
    queue = Queue(Policy.LPM, Tree())
    stays = request(0, priority=1)
    queue.push(stays, 0)
    for id in range(1, 5000):
        one = request(id, tenant=Tenant(str(id)), priority=random.choice([-1, 0]))
        queue.push(one, 0)
        queue.remove(one)
        queue.refresh(0)
    assert len(queue._order) < 200
    assert len(queue._turns) < 200
    assert not queue._lanes.keys() - {(False, 1, stays.tenant)}
