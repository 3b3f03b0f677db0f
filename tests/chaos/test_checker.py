"""The checker finds every way in which a stream can be wrong, and nothing wrong with one that is right."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.checker import check, check_connection, check_order, diagnose
from tests.chaos.history import Ask, Connection, Event, Injected, Outage, Outcome, Stream
from tests.chaos.reading import Wrong, read_events

NATIVE = Ask("0-native", "greedy", "/generate", {}, tokens=None)
CHAT = Ask("1-chat", "chat", "/v1/chat/completions", {}, choices=2)

Choices = dict[int, list[int]]


def native_events(choices: Choices, *, finish: bool = True) -> list[Event]:
    """A stream of /generate, one event per token; token 7 is the text '7,'."""
    events: list[dict[str, Any]] = []
    for index, tokens in choices.items():
        for count in range(1, len(tokens) + 1):
            over = finish and count == len(tokens)
            reason = {"type": "length", "length": count} if over else None
            meta = {"finish_reason": reason, "prompt_tokens": 3, "completion_tokens": count}
            text = "".join(f"{token}," for token in tokens[:count])
            events.append({"text": text, "output_ids": tokens[:count], "meta_info": meta, "index": index})
    return [*timed(events), Event(99.0, "[DONE]")] if finish else timed(events)


def chat_events(choices: Choices) -> list[Event]:
    """A stream of a chat: roles, text, finishes, usage."""
    events: list[dict[str, Any]] = [chunk(index, {"role": "assistant", "content": ""}) for index in choices]
    for index, tokens in choices.items():
        events += [chunk(index, {"content": f"{token},"}) for token in tokens]
        events.append(chunk(index, {}, "length"))
    total = sum(map(len, choices.values()))
    usage = {"prompt_tokens": 3, "completion_tokens": total, "total_tokens": total + 3}
    return [*timed([*events, {"choices": [], "usage": usage}]), Event(99.0, "[DONE]")]


def chunk(index: int, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}], "usage": None}


def timed(bodies: list[dict[str, Any]]) -> list[Event]:
    return [Event(float(at), json.dumps(body)) for at, body in enumerate(bodies)]


def stream_of(events: list[Event], outcome: Outcome = Outcome.ENDED) -> Stream:
    return Stream("0", 0, [Connection(0.0, None, 5000, 100.0, outcome, 200)], events)


def verdict(
    ask: Ask, events: list[Event], reference: list[Event], outcome: Outcome = Outcome.ENDED, faults: Any = ()
) -> set[Wrong]:
    found = check(ask, stream_of(events, outcome), read_events(ask.path, reference), faults)
    return {violation.wrong for violation in found}


def changed(event: Event, **changes: Any) -> Event:
    """The event with some of its body's fields replaced."""
    return msgspec.structs.replace(event, data=json.dumps({**json.loads(event.data), **changes}))


tokens_st = st.lists(st.integers(0, 9), min_size=1, max_size=12)
choices_st = st.lists(tokens_st, min_size=2, max_size=2).map(lambda made: dict(enumerate(made)))


# --- nothing wrong


@given(tokens_st)
def test_a_native_stream_equals_itself(tokens: list[int]) -> None:
    ask = msgspec.structs.replace(NATIVE, tokens=len(tokens))
    assert verdict(ask, native_events({0: tokens}), native_events({0: tokens})) == set()


@given(choices_st)
def test_a_chat_equals_itself(choices: Choices) -> None:
    assert verdict(CHAT, chat_events(choices), chat_events(choices)) == set()


@given(choices_st, st.data())
def test_any_beginning_of_a_stream_may_be_all_that_a_cut_connection_brought(
    choices: Choices, data: st.DataObject
) -> None:
    for ask, events in ((CHAT, chat_events(choices)), (NATIVE, native_events({0: choices[0]}))):
        end = data.draw(st.integers(0, len(events)))
        assert verdict(ask, events[:end], events, Outcome.CUT) == set()


@given(tokens_st, st.data())
def test_events_may_be_cut_otherwise(tokens: list[int], data: st.DataObject) -> None:
    """How many tokens come with an event is a matter of time."""
    events = native_events({0: tokens})
    kept = [event for event in events[:-2] if data.draw(st.booleans())]
    assert verdict(NATIVE, [*kept, *events[-2:]], events) == set()


# --- each kind of loss, anywhere


@given(choices_st, st.data())
def test_a_lost_event_of_a_chat_is_found(choices: Choices, data: st.DataObject) -> None:
    events = chat_events(choices)
    lost = data.draw(st.integers(2, len(events) - 1))  # that a role is told is no part of the answer
    assert verdict(CHAT, events[:lost] + events[lost + 1 :], events) != set()


@given(choices_st, st.data())
def test_a_doubled_event_of_a_chat_is_found(choices: Choices, data: st.DataObject) -> None:
    events = chat_events(choices)
    twice = data.draw(st.integers(2, len(events) - 1))
    assert verdict(CHAT, events[: twice + 1] + events[twice:], events) != set()


@given(tokens_st, st.data())
def test_a_doubled_native_event_is_found(tokens: list[int], data: st.DataObject) -> None:
    events = native_events({0: tokens})
    twice = data.draw(st.integers(0, len(events) - 1))
    assert verdict(NATIVE, events[: twice + 1] + events[twice:], events) != set()


@given(tokens_st, st.data())
def test_a_lost_doubled_or_changed_token_is_found(tokens: list[int], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(tokens) - 1))
    how = data.draw(st.sampled_from(["lost", "doubled", "changed", "added"]))
    match how:
        case "lost":
            wrong = tokens[:at] + tokens[at + 1 :]
        case "doubled":
            wrong = tokens[: at + 1] + tokens[at:]
        case "changed":
            wrong = [*tokens[:at], tokens[at] + 10, *tokens[at + 1 :]]
        case _:
            wrong = [*tokens, 3]
    right = native_events({0: tokens})
    assert verdict(NATIVE, native_events({0: wrong}) or [Event(1.0, "[DONE]")], right) != set()
    other = {0: wrong, 1: [1]}
    assert verdict(CHAT, chat_events(other), chat_events({0: tokens, 1: [1]})) != set()


@given(tokens_st, st.data())
def test_a_changed_token_before_a_cut_is_found(tokens: list[int], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(tokens) - 1))
    wrong = [*tokens[:at], tokens[at] + 10, *tokens[at + 1 :]]
    events = native_events({0: wrong}, finish=False)
    assert verdict(NATIVE, events, native_events({0: tokens}), Outcome.DIED, [_front_door_killed()]) != set()


@given(tokens_st, st.data())
def test_a_stream_that_ends_early_is_found(tokens: list[int], data: st.DataObject) -> None:
    for ask, events in ((NATIVE, native_events({0: tokens})), (CHAT, chat_events({0: tokens, 1: tokens}))):
        end = data.draw(st.integers(0, len(events) - 1))
        assert Wrong.SHORT in verdict(ask, events[:end], events)


# --- what each is called


def test_gaps_duplicates_and_changes_have_their_names() -> None:
    assert diagnose([1, 2, 3, 6, 7], [1, 2, 3, 4, 5, 6, 7]) == (Wrong.GAP, 3)
    assert diagnose([1, 2, 3, 2, 3, 4], [1, 2, 3, 4, 5, 6]) == (Wrong.DUPLICATE, 3)
    assert diagnose("abXd", "abcd") == (Wrong.CHANGED, 2)
    assert diagnose("ab", "abcd") == (Wrong.SHORT, 2)
    assert diagnose("abcd", "ab") == (Wrong.CHANGED, 2)


def test_a_native_stream_that_takes_back_text() -> None:
    events = native_events({0: [1, 2, 3]})
    assert Wrong.CHANGED in verdict(NATIVE, [events[0], changed(events[1], text="x"), *events[2:]], events)


def test_a_native_count_that_is_not_that_of_the_tokens() -> None:
    events = native_events({0: [1, 2, 3]})
    meta = {**json.loads(events[1].data)["meta_info"], "completion_tokens": 3}
    assert verdict(NATIVE, [events[0], changed(events[1], meta_info=meta), *events[2:]], events) == {Wrong.USAGE}


def test_usage_that_is_not_that_of_the_reference() -> None:
    events = chat_events({0: [1, 2], 1: [3]})
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert verdict(CHAT, [*events[:-2], changed(events[-2], usage=usage), events[-1]], events) == {Wrong.USAGE}


def test_both_usages_wrong_in_the_same_way_are_found_by_the_number_asked_for() -> None:
    ask = msgspec.structs.replace(CHAT, tokens=2)
    events = chat_events({0: [1, 2], 1: [3]})
    assert verdict(ask, events, events) == {Wrong.USAGE}


def test_another_finish() -> None:
    events = chat_events({0: [1], 1: [2]})
    other = [Event(e.at, e.data.replace('"finish_reason": "length"', '"finish_reason": "abort"')) for e in events]
    assert verdict(CHAT, other, events) == {Wrong.FINISH}


def test_a_choice_that_finishes_twice() -> None:
    events = chat_events({0: [1], 1: [2]})
    again = Event(5.0, json.dumps(chunk(0, {}, "length")))
    assert Wrong.FINISH in verdict(CHAT, [*events[:-2], again, *events[-2:]], events)


def test_a_choice_that_nobody_asked_for() -> None:
    events = chat_events({0: [1], 1: [2], 2: [3]})
    assert Wrong.ORDER in verdict(CHAT, events, events)


def test_an_error_in_the_stream_is_the_only_violation_told() -> None:
    events = chat_events({0: [1], 1: [2]})
    error = Event(9.0, json.dumps({"error": {"message": "tokens 3 to 4 were lost", "code": "worker_error"}}))
    assert verdict(CHAT, [*events[:3], error], events) == {Wrong.ERROR}


def test_an_event_after_the_end() -> None:
    events = chat_events({0: [1], 1: [2]})
    assert Wrong.ORDER in verdict(CHAT, [*events, events[-1]], events)


def test_text_that_disobeys_its_grammar() -> None:
    events = native_events({0: [1, 2]})
    assert verdict(msgspec.structs.replace(NATIVE, pattern=r"(\d,)+"), events, events) == set()
    assert verdict(msgspec.structs.replace(NATIVE, pattern=r"\d,"), events, events) == {Wrong.GRAMMAR}
    assert verdict(msgspec.structs.replace(NATIVE, schema={"type": "object"}), events, events) == {Wrong.GRAMMAR}


# --- connections


def _front_door_killed(at: float = 50.0) -> Injected:
    return Injected(0, "kill -9", ("tokenizer-0",), at, [Outage("tokenizer-0", at, at + 2)], {5000}, front_doors=1)


@pytest.mark.parametrize(
    ("outcome", "port", "status", "excused"),
    [
        (Outcome.DIED, 5000, 200, True),
        (Outcome.DIED, 5001, 200, False),  # the other front door's
        (Outcome.UNREACHABLE, None, None, True),  # lay in the backlog of the killed one
        (Outcome.HUNG, 5000, 200, False),
        (Outcome.REFUSED, None, 503, True),
        (Outcome.REFUSED, None, 500, False),
    ],
)
def test_who_may_lose_a_connection(outcome: Outcome, port: int | None, status: int | None, *, excused: bool) -> None:
    connection = Connection(40.0, None, port, 51.0, outcome, status)
    assert (check_connection(connection, [_front_door_killed()]) == []) is excused
    assert check_connection(connection, []) != []


def test_a_death_explains_nothing_before_it_and_nothing_long_after() -> None:
    for began, ended in ((10.0, 49.0), (60.0, 61.0)):
        connection = Connection(began, None, None, ended, Outcome.UNREACHABLE, None)
        assert check_connection(connection, [_front_door_killed()]) != []


# --- events that can be resumed


@given(st.integers(2, 12), st.data())
def test_numbered_events_count_up(count: int, data: st.DataObject) -> None:
    ids = [f"answer:{number}" for number in range(count)]
    assert check_order(ids) == []
    at = data.draw(st.integers(0, count - 1))
    assert {v.wrong for v in check_order([*ids[: at + 1], *ids[at:]])} == {Wrong.DUPLICATE}
    if 0 < at < count - 1:
        assert {v.wrong for v in check_order([*ids[:at], *ids[at + 1 :]])} == {Wrong.GAP}


def test_a_stream_that_resumes_as_another_answer() -> None:
    assert check_order(["a:0", "b:1"]) != []


@pytest.mark.parametrize(
    ("emptied_at", "excused"),
    [
        (53.0, True),  # nobody had taken the answers over yet
        (49.0, True),  # the log had not been written again yet
        (70.0, False),
        (20.0, False),
    ],
)
def test_an_answer_may_be_unknown_only_if_its_front_door_and_redis_went_together(
    emptied_at: float, *, excused: bool
) -> None:
    events = native_events({0: [1, 2]})
    outage = Outage("redis", emptied_at, emptied_at + 0.5)
    faults = [_front_door_killed(), Injected(1, "empty redis", ("redis",), emptied_at, [outage])]
    stream = Stream(NATIVE.name, 1, events=events[:1])
    stream.connections.append(Connection(10.0, None, 5000, 50.0, Outcome.DIED, 200))
    stream.connections.append(Connection(72.0, "", 5002, 72.1, Outcome.REFUSED, 404))
    found = check(NATIVE, stream, read_events(NATIVE.path, events), faults)
    assert (found == []) is excused
