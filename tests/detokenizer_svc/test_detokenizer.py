"""The detokenizer as a fold: what a log of Tracks and Steps amounts to, however it is batched."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from itertools import pairwise
from random import Random
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detokenizer_svc.detokenizer import Detokenizer, Output
from shared import columns
from shared.protocol import Finish, Opened, Restated, Step, Track, Untrack
from tests.detokenizer_svc.log import Row, Text, restated, rows, step, track

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


def fed(detokenizer: Detokenizer, *entries: Track | Untrack | Opened | Step | Restated, start: int = 1) -> Output:
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
            case Restated():
                detokenizer.on_restated(entry, f"{number}-0")
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


def test_missing_tokens_are_asked_for_and_what_came_ahead_is_kept(detokenizer: Detokenizer) -> None:
    output = fed(detokenizer, track(1, "a"), step(Row(1, 0, b"ab")), step(Row(1, 4, b"ef")), step(Row(1, 6, b"g")))
    assert output.restate == [1]
    assert [row.text for row in sent(output, "a")] == ["ab"]
    output = fed(detokenizer, restated(1, b"abcde"), step(Row(1, 7, b"h", Finish.LENGTH)), start=9)
    assert "".join(row.text for row in sent(output, "a")) == "cdefgh"
    assert output.restate == []


def test_a_question_without_answer_is_repeated(detokenizer: Detokenizer) -> None:
    assert fed(detokenizer, track(1), step(Row(1, 2, b"c"))).restate == [1]
    detokenizer.remind()
    assert detokenizer.take().restate == [], "asked only a moment ago"
    detokenizer.remind()
    assert detokenizer.take().restate == [1]
    fed(detokenizer, restated(1, b"ab"), start=9)
    detokenizer.remind()
    detokenizer.remind()
    assert detokenizer.take().restate == []


def test_what_came_ahead_in_another_epoch_does_not_count(detokenizer: Detokenizer) -> None:
    fed(detokenizer, track(1), opened(1), step(Row(1, 2, b"x")))
    output = fed(detokenizer, opened(2), restated(1, b"ab"), step(Row(1, 2, b"c"), epoch=2), start=9)
    assert "".join(row.text for row in sent(output)) == "abc"


def test_who_asks_again_gets_everything_at_once(detokenizer: Detokenizer) -> None:
    fed(detokenizer, track(1, "a", stop=("zz",)), step(Row(1, 0, b"ab", forced=[1, 0])), step(Row(1, 2, b"z")))
    output = fed(detokenizer, track(1, "b", stop=("zz",), again=True), step(Row(1, 3, b"y")), start=9)
    assert [(row.first, row.tokens, row.text) for row in sent(output, "b")] == [
        (0, tuple(b"abz"), "ab"),
        (3, (121,), "zy"),
    ]
    assert columns.as_int32(output.texts["b"].offsets).tolist() == [0, 2]
    assert columns.as_int32(output.texts["b"].forced).tolist() == [1, 1]


def test_who_asks_again_for_what_ended_gets_its_end(detokenizer: Detokenizer) -> None:
    [end] = sent(fed(detokenizer, track(1, stop=("b",)), step(Row(1, 0, b"abc"))))
    assert sent(fed(detokenizer, track(1, stop=("b",), again=True), start=9)) == [end]
    assert fed(detokenizer, track(1), start=12).texts == {}, "announced twice by a writer that lost its connection"
    assert detokenizer.tracked() == []


def test_who_asks_again_for_what_is_not_known_gets_it_from_the_scheduler(detokenizer: Detokenizer) -> None:
    output = fed(detokenizer, track(1, again=True))
    assert (output.restate, output.texts) == ([1], {})
    output = fed(detokenizer, step(Row(1, 3, b"d")), restated(1, b"abc"), start=9)
    assert [row.text for row in sent(output)] == ["abc", "d"]


def test_a_request_that_ended_is_told_to_its_end(detokenizer: Detokenizer) -> None:
    output = fed(detokenizer, track(1, again=True), restated(1, b"abc", Finish.LENGTH))
    assert [(row.text, row.finish) for row in sent(output)] == [("abc", Finish.LENGTH)]


def test_only_so_many_that_ended_are_remembered() -> None:
    detokenizer = Detokenizer(Bytes, remembered=300)
    for id in range(1, 5):
        fed(detokenizer, track(id), step(Row(id, 0, b"abc", Finish.LENGTH)), start=10 * id)
    asked = fed(detokenizer, *(track(id, again=True) for id in range(1, 5)), start=90)
    assert asked.restate == [1, 2]
    assert [row.id for row in sent(asked)] == [3, 4]


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
        assert output.restate == []
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
    assert columns.as_int32(output.texts["t"].forced).tolist() == [3]


@given(logs(), st.randoms(use_true_random=False), st.booleans())
def test_whatever_is_lost_of_the_log_the_text_is_whole(
    log: tuple[list[Track], list[Step | Opened], list[bytes]], random: Random, restart: bool
) -> None:
    """Steps and answers get lost; the scheduler, which has read them all, is asked until one arrives."""
    tracks, steps, outputs = log
    detokenizer, whole = Detokenizer(Bytes), Detokenizer(Bytes)
    for entry in tracks:
        detokenizer.track(entry, "1-0")
        whole.track(entry, "1-0")
    wanted = {row.id: "" for row in tracks}
    for row in sent_to_any(fed(whole, *steps)):
        wanted[row.id] += row.text
    found = {entry.id: ("", 0) for entry in tracks}
    lost = [entry for entry in steps if random.random() < 0.6 or isinstance(entry, Opened)]
    questions = list(fed_into(detokenizer, found, lost))
    if restart:
        detokenizer = Detokenizer(Bytes)
    for entry in tracks:
        detokenizer.track(msgspec.structs.replace(entry, again=True), "2-0")
    questions += fed_into(detokenizer, found, [])
    for _ in range(8):
        detokenizer.remind()
        questions += fed_into(detokenizer, found, [])
        answers = [restated(id, outputs[id - 1], Finish.LENGTH) for id in questions if random.random() < 0.7]
        questions = list(fed_into(detokenizer, found, answers))
    while detokenizer.tracked():
        fed_into(detokenizer, found, [restated(id, outputs[id - 1], Finish.LENGTH) for id in detokenizer.tracked()])
    assert {id: text for id, (text, _) in found.items()} == wanted


def fed_into(
    detokenizer: Detokenizer, found: dict[int, tuple[str, int]], messages: Iterable[Step | Opened | Restated]
) -> list[int]:
    """Feed and collect text as a front door does; what the scheduler is asked for."""
    output = fed(detokenizer, *messages, start=50)
    for texts in output.texts.values():
        for row, offset in zip(rows(texts), columns.as_int32(texts.offsets).tolist(), strict=True):
            text, tokens = found[row.id]
            assert row.first <= tokens
            if row.first + len(row.tokens) > tokens or row.finish is not Finish.NONE:
                found[row.id] = (text + row.text[len(text) - offset :], max(tokens, row.first + len(row.tokens)))
    return output.restate


def sent_to_any(output: Output) -> list[Text]:
    return [row for texts in output.texts.values() for row in rows(texts)]
