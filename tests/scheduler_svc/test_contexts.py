"""Contexts: what is kept of finished requests, for how long, and what goes first."""

from __future__ import annotations

from random import Random

import pytest

from scheduler_svc.limits import Limits
from scheduler_svc.request import Request
from tests.scheduler_svc.deployment import Deployment
from tests.scheduler_svc.simulated import card, expected, generate


def deployment(num_pages: int, max_running: int = 8) -> Deployment:
    return Deployment(card(num_pages, 4, max_running=max_running, chunk_tokens=64), Limits(lease=4))


def cached(d: Deployment, prompt: list[int], namespace: str = "") -> int:
    """Tokens of a prompt that would come from the cache."""
    request = Request(generate(10**9, prompt, namespace=namespace), 0.0, 0)
    return d.batch.cache.prefix(request).pages * 4


def whole(d: Deployment, id: int) -> list[int]:
    """A request's prompt and output."""
    return list(memoryview(d.requests[id].input_ids).cast("i")) + d.outputs[id]


def intact(d: Deployment, *ids: int) -> list[bool]:
    """Of whose tokens the cache has lost nothing."""
    return [cached(d, whole(d, id)) == (len(whole(d, id)) - 1) // 4 * 4 for id in ids]


def test_a_context_outlives_whatever_is_merely_cached() -> None:
    d = deployment(40)
    d.ask(generate(1, [1] * 40, 8, context="a"))
    for id in range(2, 20):
        d.ask(generate(id, [id % 5, id // 5] * 20, 8))
    assert cached(d, whole(d, 1)) == 44
    assert cached(d, [2, 0] * 20) == 0
    assert d.batch.cache.tree.kept_pages == 11
    assert len(d.batch.cache.contexts) == 1


def test_contexts_go_oldest_first_before_any_row_makes_room() -> None:
    d = deployment(40)
    for id, name in ((1, "a"), (2, "b"), (3, "c")):
        d.ask(generate(id, [id] * 28, 8, context=name))
    d.ask(generate(4, [*whole(d, 1), 3], 1))  # somebody goes on from the oldest
    d.ask(generate(5, [4] * 60, 12))
    assert d.scheduler.stats.preemptions == 0
    assert intact(d, 1, 2, 3) == [True, False, True]
    assert d.batch.cache.contexts.given_up == 1


def test_what_is_released_goes_before_what_is_older() -> None:
    d = deployment(40)
    d.ask(generate(1, [1] * 28, 8))
    d.ask(generate(2, [2] * 28, 8, context="b"))
    d.ask(generate(3, [3] * 28, 8, context="c"))
    d.scheduler.release(["c", "nobody's"])
    assert cached(d, whole(d, 3)) == 32, "it may still be found"
    d.ask(generate(4, [4] * 80, 8))
    assert intact(d, 1, 2, 3) == [True, True, False]


def test_a_prefix_that_others_share_does_not_go_with_the_context() -> None:
    d = deployment(64)
    shots = [0, 1, 2, 3] * 6
    d.ask(generate(1, [*shots, *[1] * 16], 4, context="a"))
    d.ask(generate(2, [*shots, *[2] * 16], 4, context="b"))
    d.scheduler.release(["a"])
    before = d.batch.cache.tree.kept_pages
    d.batch.cache.evict(4)
    assert d.batch.cache.tree.kept_pages == before
    assert intact(d, 1, 2) == [False, True]
    assert cached(d, whole(d, 1)) == 24
    d.scheduler.release(["b"])
    d.ask(generate(3, [*shots, 4, 4, 4, 4, 4], 4, context="d"))  # somebody came back for it
    d.scheduler.release(["d"])
    d.batch.cache.evict(d.batch.cache.tree.cached_pages - 6)
    assert cached(d, [*shots, 0]) == 24


def test_who_is_released_while_running_goes_first_at_the_end() -> None:
    d = deployment(40)
    d.ask(generate(1, [1] * 28, 8))
    d.submit(generate(2, [2] * 28, 8, context="b"))
    d.round()
    d.forward()
    d.read()
    d.scheduler.release(["b"])
    d.run()
    assert len(d.batch.cache.contexts) == 0
    d.ask(generate(3, [3] * 100, 8))
    assert intact(d, 1, 2) == [True, False]


def test_a_program_leaves_nothing_behind_that_outlives_others() -> None:
    """Its contexts hang below each other; they are released together, while its last call runs."""
    d = deployment(64)
    d.ask(generate(1, [1] * 28, 8))
    names: list[str] = []
    said = [2] * 10
    for id in range(2, 6):
        name = f"c{id}"
        names.append(name)
        d.submit(generate(id, said, 8, context=name))
        if id == 5:
            d.round()
            d.scheduler.release(names)
        d.run()
        said = [*whole(d, id), 3, id % 5, 3]
    assert d.batch.cache.tree.kept_pages == 0
    used = d.batch.cache.tree.cached_pages
    d.batch.cache.evict(used - 8)
    assert cached(d, whole(d, 1)) > 28
    assert cached(d, said) == 0


def test_tokens_after_a_stop_string_do_not_hold_up_what_is_released() -> None:
    """The text ends before the tokens do: the next call goes on from the middle of what was computed."""
    d = deployment(64)
    said = [1] * 12
    for id, name in ((1, "a"), (2, "b"), (3, "b"), (4, "c")):
        d.ask(generate(id, said, 13, context=name))
        said = [*said, *d.outputs[id][:4], *[id] * 8]
    nodes = list(d.batch.cache.tree.nodes())
    assert len(nodes) > 5
    d.scheduler.release(["a", "b", "c"])
    assert all(node.spent for node in nodes)


def test_a_longer_sequence_may_take_over_a_name() -> None:
    d = deployment(64)
    d.ask(generate(1, [1] * 12, 5, context="a"))
    d.ask(generate(2, whole(d, 1), 8, context="a"))
    assert len(d.batch.cache.contexts) == 1
    assert d.batch.cache.tree.kept_pages == 6
    d.scheduler.release(["a"])
    assert d.batch.cache.tree.kept_pages == 0


@pytest.mark.parametrize(("notify", "kept"), [(False, 1), (True, 0)])
def test_a_stop_string_makes_a_context_and_an_operator_none(notify: bool, kept: int) -> None:
    """Both end a request from outside."""
    d = deployment(64)
    d.submit(generate(1, [1] * 12, 30, context="a"))
    for _ in range(4):
        d.round()
        d.forward()
        d.read()
    d.abort(1, notify=notify)
    d.run()
    assert len(d.batch.cache.contexts) == kept


def test_a_failed_request_is_no_context() -> None:
    d = deployment(64)
    d.worker.failures[1] = "broken row"
    d.ask(generate(1, [1] * 12, 8, context="a"))
    d.submit(generate(2, [2] * 12, 40, context="b", deadline=0.05))
    for _ in range(8):
        d.round()
        d.forward()
        d.read()
    d.scheduler.expire(1.0)
    d.run()
    assert d.ends[2] == ["timeout"]
    assert len(d.batch.cache.contexts) == 0
    assert d.batch.cache.tree.kept_pages == 0


def test_a_context_that_nobody_uses_expires() -> None:
    d = deployment(64)
    for second in range(0, 1300, 5):
        now = float(second)
        if second in (0, 500):
            d.ask(generate(1 + second, [1] * 12, 5, context="a" if second == 0 else ""))
        if second == 100:
            d.ask(generate(3, [2] * 12, 5, context="b"))
        d.scheduler.expire_contexts(now)
        assert len(d.batch.cache.contexts) == (1 if second < 100 else 2 if second < 700 else 1 if second < 1100 else 0)


def test_contexts_have_a_share_of_the_pool_and_no_more() -> None:
    d = deployment(64)
    for id in range(1, 20):
        d.ask(generate(id, [id % 5, id // 5] * 12, 8, context=f"c{id}"))
        assert d.batch.cache.tree.kept_pages <= 48
    assert len(d.batch.cache.contexts) == 48 // 7
    assert cached(d, whole(d, 19)) == 28


def test_a_new_worker_has_none_and_the_next_call_computes_it_all() -> None:
    d = deployment(64)
    d.ask(generate(1, [1] * 12, 8, context="a"))
    d.submit(generate(2, whole(d, 1), 8, context="b"))
    d.round()
    d.reopen()
    assert len(d.batch.cache.contexts) == 0
    d.run()
    assert d.outputs[2] == expected(d.requests[2])
    assert len(d.batch.cache.contexts) == 1
    d.scheduler.release(["a", "b"])


def test_without_the_cache_nothing_is_kept() -> None:
    d = Deployment(card(40, 4), Limits(radix_cache=False))
    d.ask(generate(1, [1] * 20, 8, context="a"))
    d.scheduler.release(["a"])
    assert len(d.batch.cache.contexts) == 0
    assert d.batch.cache.pool.available == 40


def agents(named: bool, num_pages: int = 200) -> Deployment:
    """Programs of several calls each, one call of everybody after the other, beside a stream of strangers."""
    random = Random(7)
    d = deployment(num_pages, max_running=4)
    said = {program: [0, 1, 2] * 12 + [program % 5, program // 5] * 6 for program in range(8)}
    id = 0
    for turn in range(5):
        for program in random.sample(list(said), len(said)):
            for _ in range(2):
                id += 1
                d.submit(generate(id, [random.randint(0, 4) for _ in range(70)], 6, arrived=d.now))
            id += 1
            name = f"{program}/{turn}" if named else ""
            d.submit(generate(id, said[program], 10, context=name, arrived=d.now))
            d.run()
            if named and turn:
                d.scheduler.release([f"{program}/{turn - 1}"])
            said[program] = [*whole(d, id), *[random.randint(0, 4) for _ in range(5)]]
            d.ends[-program - 1] = [str(id)]
    return d


@pytest.mark.parametrize("num_pages", [60, 110, 200])
def test_programs_beside_strangers_find_more_of_their_past_with_contexts_than_without(num_pages: int) -> None:
    with_, without = agents(True, num_pages), agents(False, num_pages)
    for d in (with_, without):
        assert all(d.outputs[id] == expected(request) for id, request in d.requests.items())
        d.check()
    hit, plain = with_.scheduler.stats.cached_tokens, without.scheduler.stats.cached_tokens
    assert hit >= plain
    assert num_pages != 110 or hit > 1.2 * plain


def side_by_side(named: bool, num_pages: int) -> Deployment:
    """Twelve programs at once, each a chain of calls; what they say together is far more than the pool holds."""
    random = Random(3)
    d = Deployment(card(num_pages, 4, max_running=4, chunk_tokens=32), Limits(lease=4), random)
    said = {program: [program % 5, program // 5, *[2, 3] * 12] for program in range(12)}
    turns = dict.fromkeys(said, 0)
    running: dict[int, int] = {}
    id = 0
    for _ in range(3000):
        for program, input_ids in said.items():
            if program in running.values() or turns[program] == 6:
                continue
            id += 1
            running[id] = program
            group, context = (f"g{program}", f"{program}/{turns[program]}") if named else ("", "")
            d.submit(generate(id, input_ids, 9, group=group, context=context, arrived=d.now))
        d.round()
        d.forward()
        while d.steps:
            d.read()
        for ended in [each for each in running if d.ends[each]]:
            program = running.pop(ended)
            said[program] = [*whole(d, ended), program % 5, 1]
            turns[program] += 1
            if named:
                d.scheduler.release([f"{program}/{turn}" for turn in range(turns[program] - (turns[program] < 6))])
        if not running and min(turns.values()) == 6:
            break
    assert not running, "stuck"
    return d


@pytest.mark.parametrize("num_pages", [34, 80, 120])
def test_programs_side_by_side_finish_in_too_small_a_pool(num_pages: int) -> None:
    with_, without = side_by_side(True, num_pages), side_by_side(False, num_pages)
    for d in (with_, without):
        assert len(d.requests) == 72
        assert all(d.outputs[id] == expected(request) for id, request in d.requests.items())
        assert d.batch.cache.held == 0
    assert with_.scheduler.stats.cached_tokens >= without.scheduler.stats.cached_tokens
    assert len(with_.batch.cache.contexts) == 0
    assert with_.batch.cache.tree.kept_pages == 0
