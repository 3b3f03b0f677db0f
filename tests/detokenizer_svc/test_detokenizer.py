"""The detokenizer as a fold: what a log of Tracks and Steps amounts to, however it is batched."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detokenizer_svc.detokenizer import Detokenizer, Output
from shared import columns
from shared.protocol import Failure, Finish, Opened, Step, Track, Untrack
from tests.detokenizer_svc.log import Row, Text, rows, step, track

EOS = 0


class Bytes:
    """Tokens are bytes: token 65 is A, token 195 half a character."""

    def __init__(self, context: Sequence[int], skip_special: bool) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._skip_special = skip_special

    def push(self, token_id: int) -> str:
        special = token_id == EOS
        return self._decoder.decode(b"" if special and self._skip_special else bytes([token_id]))

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


@pytest.fixture
def detokenizer() -> Detokenizer:
    return Detokenizer(Bytes)


def fed(detokenizer: Detokenizer, *entries: Track | Untrack | Opened | Step, start: int = 1) -> Output:
    for number, entry in enumerate(entries, start):
        match entry:
            case Track():
                detokenizer.track(entry, f"{number}-0")
            case Untrack():
                detokenizer.untrack(entry.id)
            case Opened():
                detokenizer.on_opened(entry, f"{number}-0")
            case Step():
                detokenizer.on_step(entry, f"{number}-0")
    return detokenizer.take()


def sent(output: Output, replica: str = "t") -> list[Text]:
    return rows(output.texts[replica]) if replica in output.texts else []


def opened(epoch: int) -> Opened:
    return Opened(epoch=epoch, incarnation=1)


def test_one_message_per_front_door_and_batch(detokenizer: Detokenizer) -> None:
    output = fed(
        detokenizer,
        track(1, "a"),
        track(2, "b"),
        track(3, "a"),
        step(Row(1, 0, b"x"), Row(2, 0, b"y"), Row(3, 0, b"z"), Row(4, 0, b"?")),
        step(Row(1, 1, b"xx")),
    )
    assert [(row.id, row.first, row.text) for row in sent(output, "a")] == [(1, 0, "x"), (3, 0, "z"), (1, 1, "xx")]
    assert [(row.id, row.text) for row in sent(output, "b")] == [(2, "y")]
    assert output.tokens == 5


def test_half_a_character_comes_with_its_other_half(detokenizer: Detokenizer) -> None:
    first, second = "é".encode()
    output = fed(detokenizer, track(1), step(Row(1, 0, [first])), step(Row(1, 1, [second])))
    assert [row.text for row in sent(output)] == ["", "é"]


def test_length_releases_what_was_held(detokenizer: Detokenizer) -> None:
    output = fed(detokenizer, track(1, stop=("##",)), step(Row(1, 0, b"a#\xc3", Finish.LENGTH)))
    assert sent(output) == [Text(1, 0, tuple(b"a#\xc3"), "a#\ufffd", Finish.LENGTH, None)]
    assert len(detokenizer) == 0


def test_a_stop_string_ends_the_request_and_tells_the_scheduler(detokenizer: Detokenizer) -> None:
    output = fed(
        detokenizer,
        track(1, stop=("END",)),
        step(Row(1, 0, b"okE")),
        step(Row(1, 3, b"NDmore")),
        step(Row(1, 9, b"and more")),
    )
    assert sent(output) == [
        Text(1, 0, tuple(b"okE"), "ok", Finish.NONE, None),
        Text(1, 3, tuple(b"ND"), "", Finish.STOP, "END"),
    ]
    assert output.aborts == [1]
    assert output.stop_matches == 1
    assert len(detokenizer) == 0


def test_a_stop_string_can_be_kept(detokenizer: Detokenizer) -> None:
    output = fed(detokenizer, track(1, stop=("END",), include_stop=True), step(Row(1, 0, b"okENDno")))
    assert [(row.text, row.matched) for row in sent(output)] == [("okEND", "END")]


def test_no_abort_for_a_row_that_has_ended_already(detokenizer: Detokenizer) -> None:
    output = fed(detokenizer, track(1, stop=("END",)), step(Row(1, 0, b"END!", Finish.LENGTH)))
    assert sent(output) == [Text(1, 0, tuple(b"END"), "", Finish.STOP, "END")]
    assert output.aborts == []


def test_a_stop_token_is_counted_but_not_shown(detokenizer: Detokenizer) -> None:
    stop = ord("!")
    output = fed(detokenizer, track(1, stop_token_ids=(stop,), stop=("#!",)), step(Row(1, 0, b"!a#!", Finish.STOP)))
    assert sent(output) == [Text(1, 0, tuple(b"!a#!"), "!a#", Finish.STOP, stop)]


def test_a_stop_without_stop_token_shows_its_last_token(detokenizer: Detokenizer) -> None:
    output = fed(detokenizer, track(1, stop_token_ids=(EOS,)), step(Row(1, 0, b"{}", Finish.STOP)))
    assert [(row.text, row.matched) for row in sent(output)] == [("{}", None)]


def test_steps_of_another_epoch_than_the_last_opened_do_not_count(detokenizer: Detokenizer) -> None:
    output = fed(
        detokenizer,
        track(1),
        opened(5),
        step(Row(1, 0, b"a"), epoch=5),
        opened(7),
        step(Row(1, 1, b"stale"), epoch=5),
        step(Row(1, 1, b"b"), epoch=7),
        step(Row(1, 2, b"too new"), epoch=9),
    )
    assert [row.text for row in sent(output)] == ["a", "b"]


def test_a_log_trimmed_past_its_fence_can_be_read(detokenizer: Detokenizer) -> None:
    output = fed(detokenizer, track(1), step(Row(1, 0, b"a"), epoch=7), step(Row(1, 1, b"stale"), epoch=5))
    assert [row.text for row in sent(output)] == ["a"]


def test_tokens_seen_before_are_dropped(detokenizer: Detokenizer) -> None:
    output = fed(
        detokenizer,
        track(1),
        step(Row(1, 0, b"abc")),
        step(Row(1, 0, b"abc")),
        step(Row(1, 1, b"bcd")),
        step(Row(1, 2, b"cd", Finish.LENGTH)),
    )
    assert [(row.first, row.text, row.finish) for row in sent(output)] == [
        (0, "abc", Finish.NONE),
        (3, "d", Finish.NONE),
        (4, "", Finish.LENGTH),
    ]


def test_missing_tokens_fail_the_request(detokenizer: Detokenizer) -> None:
    output = fed(detokenizer, track(1, "a"), step(Row(1, 0, b"ab")), step(Row(1, 4, b"ef")))
    [(replica, failed)] = output.failed
    assert (replica, failed.id, failed.failure) == ("a", 1, Failure.UNAVAILABLE)
    assert "tokens 2 to 3" in failed.message
    assert output.aborts == [1]
    assert len(detokenizer) == 0


def test_a_second_track_changes_only_who_gets_the_text(detokenizer: Detokenizer) -> None:
    output = fed(detokenizer, track(1, "a"), step(Row(1, 0, b"a")), track(1, "b"), step(Row(1, 1, b"b")), track(2, "b"))
    assert [row.first for row in sent(output, "a")] == [0]
    assert [row.first for row in sent(output, "b")] == [1]
    assert detokenizer.oldest_track == "1-0"


def test_errors_and_untrack_end_tracking(detokenizer: Detokenizer) -> None:
    output = fed(
        detokenizer,
        track(1),
        track(2),
        track(3),
        step(Row(3, 0, b"x"), errors=((1, "device error"),)),
        Untrack(id=2),
        Untrack(id=99),
        step(Row(1, 0, b"a"), Row(2, 0, b"b")),
    )
    assert [row.id for row in sent(output)] == [3]
    assert detokenizer.tracked() == [3]


def test_watermark_is_what_the_oldest_request_needs(detokenizer: Detokenizer) -> None:
    assert detokenizer.watermark == "0-0"
    fed(detokenizer, step(Row(9, 0, b"x")), track(1), step(Row(1, 0, b"a")), track(2), step(Row(2, 0, b"b")))
    assert (detokenizer.watermark, detokenizer.oldest_track) == ("1-0", "2-0")
    fed(detokenizer, step(Row(1, 1, b"a", Finish.LENGTH)), start=6)
    assert (detokenizer.watermark, detokenizer.oldest_track) == ("3-0", "4-0")
    fed(detokenizer, Untrack(id=2), start=7)
    assert (detokenizer.watermark, detokenizer.oldest_track) == ("6-0", None)


def test_special_tokens_are_shown_on_request(detokenizer: Detokenizer) -> None:
    output = fed(detokenizer, track(1), track(2, skip_special_tokens=False), step(Row(1, 0, b"\0a"), Row(2, 0, b"\0a")))
    assert [row.text for row in sent(output)] == ["a", "\0a"]


# --- any log ------------------------------------------------------------------------------------


class Entry(NamedTuple):
    detok: bool
    message: Track | Step | Opened


contents = st.binary(min_size=1, max_size=12).map(lambda data: bytes(b % 4 + 65 for b in data))


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[Track], list[Step | Opened], list[bytes]]:
    """Requests whose tokens arrive in random pieces, some of them twice, interleaved over steps."""
    outputs = draw(st.lists(contents, min_size=1, max_size=4))
    tracks = [
        track(i + 1, draw(st.sampled_from("ab")), stop=tuple(draw(st.lists(contents.map(bytes.decode), max_size=2))))
        for i in range(len(outputs))
    ]
    taken = [0] * len(outputs)
    steps: list[Step | Opened] = [opened(1)]
    while any(done < len(output) for done, output in zip(taken, outputs, strict=True)):
        cells: list[Row] = []
        for index, output in enumerate(outputs):
            if taken[index] == len(output) or draw(st.booleans()):
                continue
            first = draw(st.integers(max(0, taken[index] - 2), taken[index]))
            end = draw(st.integers(taken[index] + 1, len(output)))
            finish = Finish.LENGTH if end == len(output) else Finish.NONE
            cells.append(Row(index + 1, first, output[first:end], finish))
            taken[index] = end
        steps.append(step(*cells))
        if draw(st.booleans()):
            steps.append(step(Row(1, 0, b"from the past"), epoch=0))
    return tracks, steps, outputs


def folded(
    tracks: list[Track], steps: list[Step | Opened], batches: list[int]
) -> tuple[list[tuple[str, Text]], set[int]]:
    detokenizer = Detokenizer(Bytes)
    for number, entry in enumerate(tracks):
        detokenizer.track(entry, f"{number}-0")
    found: list[tuple[str, Text]] = []
    aborts: set[int] = set()
    borders = [0, *sorted(min(batch, len(steps)) for batch in batches), len(steps)]
    for low, high in pairwise(borders):
        output = fed(detokenizer, *steps[low:high], start=100 + low)
        assert output.failed == []
        aborts |= set(output.aborts)
        found += [(replica, row) for replica, texts in output.texts.items() for row in rows(texts)]
    assert len(detokenizer) == 0
    return found, aborts


@given(logs(), st.lists(st.integers(0, 30), max_size=4), st.lists(st.integers(0, 30), max_size=4))
def test_rows_are_the_same_in_any_batches_and_cover_every_token_once(
    log: tuple[list[Track], list[Step | Opened], list[bytes]], some: list[int], other: list[int]
) -> None:
    tracks, steps, outputs = log
    found, aborts = folded(tracks, steps, some)
    again, _ = folded(tracks, steps, other)
    assert sorted(found, key=repr) == sorted(again, key=repr)
    for request, output in zip(tracks, outputs, strict=True):
        mine = [row for replica, row in found if row.id == request.id and replica == request.reply_to]
        assert sum(row.id == request.id for _, row in found) == len(mine)
        covered = bytes(token for row in mine for token in row.tokens)
        assert [row.first for row in mine] == [sum(len(r.tokens) for r in mine[:n]) for n in range(len(mine))]
        text = "".join(row.text for row in mine)
        last = mine[-1]
        assert all(row.finish is Finish.NONE for row in mine[:-1])
        if last.finish is Finish.STOP:
            assert isinstance(last.matched, str)
            assert output.startswith(covered)
            assert text + last.matched == covered.decode()
        else:
            assert (last.finish, text.encode(), covered) == (Finish.LENGTH, output, output)
            assert not any(stop in text for stop in request.stop)
            assert request.id not in aborts


def test_forced_tokens_are_counted_up_to_the_one_that_ends_the_request(detokenizer: Detokenizer) -> None:
    run = Row(7, 1, list(b"cd;ef"), forced=[0, 1, 1, 1, 1])
    output = fed(detokenizer, opened(1), track(7, stop=(";",)), track(8), step(Row(7, 0, b"b"), Row(8, 0, b"x"), run))
    assert columns.as_int32(output.texts["t"].forced).tolist() == [0, 0, 2]
    assert [row.text for row in sent(output)] == ["b", "x", "cd"]


def test_nothing_is_said_of_forced_tokens_where_there_are_none(detokenizer: Detokenizer) -> None:
    assert fed(detokenizer, opened(1), track(7), step(Row(7, 0, b"b"))).texts["t"].forced == b""


def test_a_repeated_step_counts_its_new_forced_tokens_only(detokenizer: Detokenizer) -> None:
    fed(detokenizer, opened(1), track(7), step(Row(7, 0, b"abc", forced=[1, 1, 0])))
    output = fed(detokenizer, step(Row(7, 0, b"abcde", forced=[1, 1, 0, 1, 0])), start=9)
    assert columns.as_int32(output.texts["t"].forced).tolist() == [1]
