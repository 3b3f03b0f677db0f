"""Clients take turns, each in the order it asked."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer_svc.grammar.turns import Turns


def test_one_clients_many_do_not_stand_before_anothers_one() -> None:
    turns: Turns[int] = Turns(at_once=2)
    for job in range(64):
        turns.add("busy", job)
    assert turns.take() == ("busy", 0)
    assert turns.take() == ("busy", 1)
    turns.add("other", 100)
    turns.done("busy")
    assert turns.take() == ("other", 100)
    assert turns.take() == ("busy", 2)


def test_no_client_has_more_than_its_share_under_way() -> None:
    turns: Turns[int] = Turns(at_once=2)
    for job in range(3):
        turns.add("a", job)
    assert [turns.take() for _ in range(3)] == [("a", 0), ("a", 1), None]
    turns.done("a")
    assert turns.take() == ("a", 2)


def test_what_nobody_wants_any_more_is_not_taken() -> None:
    turns: Turns[int] = Turns(at_once=2)
    turns.add("a", 1)
    turns.add("a", 2)
    assert turns.drop("a", 1)
    assert not turns.drop("a", 1)
    assert turns.take() == ("a", 2)
    assert not turns.drop("a", 2), "it is under way"
    assert len(turns) == 0


CLIENTS = st.sampled_from("abc")
STEPS = st.lists(st.tuples(st.sampled_from(["add", "take", "done", "drop"]), CLIENTS), max_size=80)


@given(steps=STEPS, at_once=st.integers(1, 3))
@settings(derandomize=True, deadline=None)
def test_jobs_are_taken_in_order_and_who_has_none_under_way_waits_for_one_of_each_other_at_most(
    steps: list[tuple[str, str]], at_once: int
) -> None:
    turns: Turns[int] = Turns(at_once)
    waiting: dict[str, list[int]] = {client: [] for client in "abc"}
    overtaken: Counter[tuple[str, str]] = Counter()  # how often the second was served while the first could have been
    under_way: Counter[str] = Counter()
    for job, (step, client) in enumerate(steps):
        if step == "add":
            turns.add(client, job)
            waiting[client].append(job)
        elif step == "drop" and waiting[client]:
            assert turns.drop(client, waiting[client].pop())
        elif step == "done" and under_way[client]:
            turns.done(client)
            under_way[client] -= 1
        elif step == "take":
            free = {each for each in "abc" if waiting[each] and under_way[each] < at_once}
            taken = turns.take()
            assert (taken is None) == (not free)
            if taken is None:
                continue
            served, got = taken
            assert served in free
            assert got == waiting[served].pop(0)
            for other in "abc":
                if other in free - {served} and not under_way[other]:
                    overtaken[other, served] += 1
                else:
                    overtaken.update({(other, each): -overtaken[other, each] for each in "abc"})
            under_way[served] += 1
            assert max(overtaken.values(), default=0) <= 1
    assert len(turns) == sum(map(len, waiting.values()))
