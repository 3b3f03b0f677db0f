"""Who goes first."""

from __future__ import annotations

from scheduler_svc.groups import Group, Groups
from scheduler_svc.limits import Limits
from scheduler_svc.policy import AGING_TOKENS, GROUP_TOKENS, Policy, Queue
from scheduler_svc.request import Request
from scheduler_svc.tenants import Tenant
from tests.scheduler_svc.deployment import Deployment
from tests.scheduler_svc.simulated import card, generate


class Tree:
    """How much of each request is cached; how often somebody asked."""

    def __init__(self) -> None:
        self.cached: dict[int, int] = {}
        self.looked_up = 0

    def __call__(self, request: Request) -> int:
        self.looked_up += 1
        return self.cached.get(request.id, 0)


ONE = Tenant()


def request(
    id: int, *, arrived: float = 0.0, priority: int = 0, tenant: Tenant = ONE, group: Group | None = None
) -> Request:
    return Request(generate(id, [1], arrived=arrived, priority=priority), 0.0, id, tenant, group)


def popped(queue: Queue, version: int = 0) -> list[int]:
    ids: list[int] = []
    while (found := queue.pop(version)) is not None:
        ids.append(found.id)
    return ids


def test_longest_cached_prefix_first_then_age() -> None:
    tree = Tree()
    tree.cached = {2: 100, 3: 50}
    queue = Queue(Policy.LPM, tree)
    for id in range(1, 6):
        queue.push(request(id, arrived=id / 1000), 0)
    assert popped(queue) == [2, 3, 1, 4, 5]


def test_first_come_first_served_ignores_the_cache() -> None:
    tree = Tree()
    tree.cached = {3: 1000}
    queue = Queue(Policy.FCFS, tree)
    for id in (3, 1, 2):
        queue.push(request(id, arrived=float(id)), 0)
    assert popped(queue) == [1, 2, 3]
    assert tree.looked_up == 0


def test_a_higher_priority_goes_before_any_cached_prefix() -> None:
    tree = Tree()
    tree.cached = {1: 10_000}
    queue = Queue(Policy.LPM, tree)
    queue.push(request(1), 0)
    queue.push(request(2, priority=1, arrived=5.0), 0)
    assert popped(queue) == [2, 1]


def test_waiting_outweighs_the_longest_prefix_in_the_end() -> None:
    tree = Tree()
    queue = Queue(Policy.LPM, tree)
    queue.push(request(1), 0)
    prefix = 2000
    patience = prefix / AGING_TOKENS
    for id, arrived in ((2, patience - 1), (3, patience + 1)):
        tree.cached[id] = prefix
        queue.push(request(id, arrived=arrived), 0)
    assert popped(queue) == [2, 1, 3]


def test_a_prefix_that_was_evicted_or_cached_meanwhile_changes_the_order() -> None:
    tree = Tree()
    tree.cached = {1: 500}
    queue = Queue(Policy.LPM, tree)
    for id in (1, 2, 3):
        queue.push(request(id, arrived=id / 1000), 0)
    tree.cached = {3: 500}
    queue.refresh(1)
    assert popped(queue, 1) == [3, 1, 2]


def test_a_round_looks_up_only_a_few_of_thousands() -> None:
    tree = Tree()
    queue = Queue(Policy.LPM, tree)
    for id in range(5000):
        queue.push(request(id, arrived=float(id)), 0)
    tree.looked_up = 0
    for version in range(1, 101):
        queue.refresh(version)
        found = queue.pop(version)
        assert found is not None
        queue.push(found, version)
    assert tree.looked_up < 100 * 20
    assert len(queue) == 5000


def test_everybody_is_looked_up_in_turn() -> None:
    tree = Tree()
    queue = Queue(Policy.LPM, tree)
    for id in range(200):
        queue.push(request(id, arrived=0.0), 0)
    tree.cached = {199: 50}
    for _ in range(40):
        queue.refresh(1)
    found = queue.pop(1)
    assert found is not None
    assert found.id == 199


def test_who_left_the_queue_does_not_come_out() -> None:
    queue = Queue(Policy.LPM, Tree())
    requests = [request(id, arrived=float(id)) for id in range(10)]
    for each in requests:
        queue.push(each, 0)
    for each in requests[::2]:
        queue.remove(each)
    queue.remove(requests[0])
    assert len(queue) == 5
    assert popped(queue) == [1, 3, 5, 7, 9]


def test_siblings_go_beside_the_one_that_has_started() -> None:
    queue, group = Queue(Policy.LPM, Tree()), Group("", "fork")
    for id in range(1, 9):
        queue.push(request(id, arrived=id / 1000, group=group if id in (2, 5, 8) else None), 0)
    assert (first := queue.pop(0)) is not None
    assert first.id == 1, "nobody goes sooner for a group that has not started"
    assert (second := queue.pop(0)) is not None
    assert second.group is group
    queue.starts(group)
    queue.starts(group)
    queue.push(request(9, arrived=0.9, group=group), 0)
    assert popped(queue) == [5, 8, 9, 3, 4, 6, 7]


def test_others_wait_a_bounded_time_for_a_group() -> None:
    queue, group = Queue(Policy.LPM, Tree()), Group("", "map", started=True)
    patience = GROUP_TOKENS / AGING_TOKENS
    queue.push(request(1), 0)
    queue.push(request(2, arrived=patience - 1, group=group), 0)
    queue.push(request(3, arrived=patience + 1, group=group), 0)
    assert popped(queue) == [2, 1, 3]


def test_a_group_changes_nothing_between_tenants_and_priorities() -> None:
    queue, group = Queue(Policy.LPM, Tree()), Group("", "map", started=True)
    greedy, modest = Tenant("greedy", served=10, live=1), Tenant("modest", served=5, live=2)
    queue.push(request(1, tenant=greedy, group=group), 0)
    queue.push(request(2, tenant=modest, arrived=7.0), 0)
    queue.push(request(3, tenant=modest, priority=1, arrived=9.0), 0)
    assert popped(queue) == [3, 2, 1]


def test_first_come_first_served_ignores_groups() -> None:
    queue, group = Queue(Policy.FCFS, Tree()), Group("", "map")
    for id in (1, 2, 3):
        queue.push(request(id, arrived=float(id), group=group if id == 3 else None), 0)
    queue.starts(group)
    assert popped(queue) == [1, 2, 3]


def test_who_left_the_queue_is_not_sought_when_its_group_starts() -> None:
    queue, group = Queue(Policy.LPM, Tree()), Group("", "map")
    members = [request(id, arrived=float(id), group=group) for id in range(1, 4)]
    for each in members:
        queue.push(each, 0)
    queue.remove(members[1])
    queue.starts(group)
    assert popped(queue) == [1, 3]


def test_a_group_is_forgotten_with_its_last_request() -> None:
    groups = Groups()
    assert groups.joins("t", "") is None
    ours, same, others = groups.joins("t", "a"), groups.joins("t", "a"), groups.joins("u", "a")
    assert ours is same
    assert ours is not others
    for group in (ours, same, others, None):
        groups.leaves(group)
    assert len(groups) == 0


def forks(hint: bool) -> Deployment:
    """Six forks of six branches each, which arrive in turn, five a second; memory is short."""
    d = Deployment(card(72, 4, max_running=2, chunk_tokens=64), Limits(lease=4))
    stems = [[fork % 5, fork // 5, *[fork % 3] * 46] for fork in range(6)]
    id = 0
    for branch in range(6):
        for fork in range(6):
            id += 1
            group = str(fork) if hint else ""
            d.submit(generate(id, [*stems[fork], branch % 5, branch // 5, 3, 3], 6, group=group, arrived=id / 5))
    d.run()
    d.check()
    return d


def test_a_shared_prefix_is_not_evicted_between_siblings() -> None:
    with_, without = forks(hint=True), forks(hint=False)
    best = 6 * 5 * 48
    assert with_.scheduler.stats.cached_tokens == best
    assert without.scheduler.stats.cached_tokens < best / 10
    assert len(with_.scheduler._groups) == 0


def test_the_order_of_admission_follows_the_policy() -> None:
    for policy, order in ((Policy.LPM, [4, 2, 3]), (Policy.FCFS, [2, 3, 4])):
        d = Deployment(card(200, 4, max_running=1, chunk_tokens=64), Limits(policy=policy))
        d.ask(generate(1, [1] * 60, 1))
        for id, prompt in ((2, [2] * 60), (3, [3] * 60), (4, [1] * 60)):
            d.submit(generate(id, prompt, 2, arrived=id / 1000))
        d.run()
        started = list(dict.fromkeys(id for id, _, _ in d.worker.computed if id != 1))
        assert started == order
