"""Finished grammars in memory: bounded, but for those that somebody obeys."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer_svc.grammar.cache import Cache, Entry


def test_the_least_recently_used_goes_first() -> None:
    cache = Cache(max_bytes=3000)
    for key in "abc":
        cache.put(key, Entry(bytes(400)))
    assert cache.get("a", 0) is not None
    assert cache.put("d", Entry(bytes(400))) == ["b"]
    assert [key for key in "abcd" if cache.get(key, 0) is None] == ["b"]


def test_rejections_are_forgotten_after_a_while() -> None:
    cache = Cache(max_bytes=3000)
    cache.put("a", Entry(b"no", "no", expires=60))
    entry = cache.get("a", 59.9)
    assert entry is not None
    assert entry.rejection == "no"
    assert cache.get("a", 60) is None


def test_what_is_held_stays_whatever_comes() -> None:
    cache = Cache(max_bytes=3000)
    cache.put("early", Entry(bytes(400)))
    assert cache.hold("early")
    assert cache.hold("late"), "not known yet"
    assert not cache.hold("early"), "somebody holds it already"
    cache.put("late", Entry(bytes(400)))
    for number in range(50):
        cache.put(str(number), Entry(bytes(400)))
    assert set(cache.held()) == {"early", "late"}
    assert cache.get("early", 0) is not None
    cache.release("early")
    assert set(cache.held()) == {"early", "late"}
    assert cache.release("early") == ["47"]
    assert cache.release("late") == ["48"]
    assert not cache.held()
    assert cache.get("late", 0) is not None, "most recently used now"
    for number in range(50):
        cache.put(str(number), Entry(bytes(400)))
    assert cache.get("early", 0) is cache.get("late", 0) is None


def test_a_rejection_is_not_held() -> None:
    cache = Cache(max_bytes=3000)
    cache.hold("a")
    cache.put("a", Entry(b"no", "no", expires=60))
    assert not cache.held()
    cache.release("a")
    assert cache.get("a", 60) is None


def test_what_is_larger_than_the_cache_is_not_kept() -> None:
    cache = Cache(max_bytes=3000)
    cache.put("a", Entry(bytes(5000)))
    assert cache.get("a", 0) is None
    cache.put("b", Entry(bytes(100)))
    assert cache.get("b", 0) is not None


KEYS = st.sampled_from("abcdef")
STEPS = st.lists(st.tuples(st.sampled_from(["put", "get", "hold", "release"]), KEYS, st.integers(0, 2000)), max_size=60)


@given(steps=STEPS)
@settings(derandomize=True, deadline=None)
def test_bytes_are_bounded_and_holders_are_served(steps: list[tuple[str, str, int]]) -> None:
    cache = Cache(max_bytes=4000)
    holds = dict.fromkeys("abcdef", 0)
    known: dict[str, bytes] = {}
    for step, key, size in steps:
        if step == "put":
            known[key] = bytes(size)
            before = {other for other in "abcdef" if cache.get(other, 0)} | {key}
            gone = cache.put(key, Entry(known[key]))
            assert before - set(gone) == {other for other in "abcdef" if cache.get(other, 0)}
        elif step == "hold":
            there = cache.get(key, 0) is not None
            assert cache.hold(key) == (holds[key] == 0)
            holds[key] += 1
            assert (key in cache.held()) == there
        elif step == "release" and holds[key]:
            cache.release(key)
            holds[key] -= 1
        elif step == "get" and (entry := cache.get(key, 0)):
            assert entry.data is known[key]
        assert all(holds[held] for held in cache.held())
        free = [entry for other in "abcdef" if other not in cache.held() and (entry := cache.get(other, 0))]
        assert sum(len(entry.data) for entry in free) <= 4000
