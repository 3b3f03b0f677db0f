"""Events out of bytes that are cut anywhere, requests from a seed, stalls that deaths do not explain."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.history import Connection, Event, Outage, Outcome, Stream
from tests.chaos.reading import Reading, Seen
from tests.chaos.sse import Sse, SseReader
from tests.chaos.stalls import Span, longest_stall, starts
from tests.chaos.workload import asks, needs_stop, with_stop


@given(st.lists(st.integers(0, 60)))
def test_events_do_not_depend_on_how_their_bytes_are_cut(cuts: list[int]) -> None:
    whole = 'data: {"text":"ä"}\n\nid: a:1\ndata: two\n\n: still here\n\ndata: [DONE]\n\ndata: hal'.encode()
    places = [0, *sorted({min(cut, len(whole)) for cut in cuts}), len(whole)]
    reader = SseReader()
    found = [event for a, b in itertools.pairwise(places) for event in reader.push(whole[a:b])]
    assert found == [Sse('{"text":"ä"}'), Sse("two", "a:1"), Sse("[DONE]")]
    assert reader.rest == b"data: hal"


def test_requests_are_the_same_from_the_same_seed_and_of_every_kind() -> None:
    assert asks(3, 40) == asks(3, 40)
    assert asks(3, 40) != asks(4, 40)
    assert len({ask.kind for ask in asks(3, 40)}) == 10
    assert not any(ask.resumable or "resumable" in ask.body for ask in asks(3, 40))
    resumable = asks(3, 40, resumable=True)
    assert {ask.kind for ask in resumable if ask.resumable} == {ask.kind for ask in resumable}
    assert {ask.kind for ask in resumable if not ask.resumable} == {ask.kind for ask in resumable}


def test_a_stop_string_is_met_late() -> None:
    text = "".join(chr(97 + n % 26) * (1 + n % 3) for n in range(60))
    for ask in filter(needs_stop, asks(1, 20)):
        stopped = with_stop(ask, Reading({0: Seen(text)}))
        [stop, *_] = stopped.body.get("stop") or stopped.body["sampling_params"]["stop"]
        assert text.find(stop) >= len(text) // 2


def test_a_stall_counts_only_beyond_absences() -> None:
    stream = Stream("0", 0, [Connection(0.0, None, 1, 30.0, Outcome.ENDED, 200)], [Event(at, "") for at in (1, 2, 12)])
    assert longest_stall(stream, []).seconds == pytest.approx(18)
    assert longest_stall(stream, [Span(13, 30)])[:2] == (pytest.approx(10), Span(2, 12))
    assert longest_stall(stream, [Span(3, 11.5), Span(12.2, 30)]).seconds == pytest.approx(1.5)


def test_starts_join_and_one_without_an_end_lasts_till_now() -> None:
    outages = [Outage("a", 5, 7), Outage("b", 0, 2, started=1), Outage("c", 6, 9), Outage("d", 20)]
    assert starts(outages, 30) == [(1, 2), (5, 9), (20, 30)]
