"""Scores and vectors on their way to the front door: with the tokens they are of, whatever is lost or said twice."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from detokenizer_svc.detokenizer import Detokenizer
from shared import columns
from shared.protocol import Finish, Opened, Restated, Scores, Step, Texts, Track, Vector
from shared.scores import TokenScores, packed
from tests.detokenizer_svc.log import Row, step, track
from tests.detokenizer_svc.test_detokenizer import Bytes, fed
from tokenizer_svc.answers import Answer, Choice, merged
from tokenizer_svc.inbox import Inbox

PROMPT = 6
VECTOR = Vector(1, b"\0\0\x80?")


def scores(start: int, stop: int, id: int = 1) -> Scores:
    """Of positions ``start`` to before ``stop``; ids have two likeliest tokens."""
    if start == stop:
        return Scores(id, start, b"", b"")
    return packed(
        id, [TokenScores(at, -at / 4, at + 1, ((at, -0.5), (id, -1.0)), (-2.0,)) for at in range(start, stop)]
    )


def scored_step(*parts: Row | Scores | Vector, seq: int = 0) -> Step:
    made = step(*(part for part in parts if isinstance(part, Row)), seq=seq)
    return Step(
        **{field: getattr(made, field) for field in made.__struct_fields__}
        | {
            "scores": tuple(part for part in parts if isinstance(part, Scores)),
            "vectors": tuple(part for part in parts if isinstance(part, Vector)),
        }
    )


def scored_track(start: int = 2, *, wants_vector: bool = False, **more: object) -> Track:
    return track(1, prompt_len=PROMPT, scored_from=start, wants_vector=wants_vector, **more)


def restated(tokens: bytes, finish: Finish = Finish.NONE, start: int = 2, vector: Vector | None = None) -> Restated:
    return Restated(1, columns.int32(list(tokens)), finish, scores(start, PROMPT + len(tokens)), vector)


def text(detokenizer: Detokenizer, *entries: Track | Step | Restated | Opened, start: int = 1) -> Texts:
    return fed(detokenizer, *entries, start=start).texts["t"]


def test_each_row_has_its_scores_and_the_first_the_prompts() -> None:
    detokenizer = Detokenizer(Bytes)
    texts = text(
        detokenizer,
        scored_track(),
        track(2, prompt_len=3),
        scored_step(scores(2, 4)),
        scored_step(Row(1, 0, b"a"), Row(2, 0, b"x"), scores(4, 7)),
        scored_step(Row(1, 1, b"bc"), Row(2, 1, b"y"), scores(7, 9)),
    )
    assert texts.scores == (scores(2, 7), scores(7, 9))
    assert texts.vectors == ()


def test_a_stop_string_cuts_scores_with_its_tokens() -> None:
    detokenizer = Detokenizer(Bytes)
    texts = text(
        detokenizer, scored_track(stop=("bc",)), scored_step(Row(1, 0, b"ab"), scores(2, 8)),
        scored_step(Row(1, 2, b"cde"), scores(8, 11)),
    )  # fmt: skip
    assert texts.scores == (scores(2, 8), scores(8, 9))
    again = text(detokenizer, scored_track(again=True), start=9)
    assert again.scores == (scores(2, 9),)


def test_a_prompt_alone() -> None:
    detokenizer = Detokenizer(Bytes)
    texts = text(
        detokenizer, scored_track(1, wants_vector=True), scored_step(scores(1, 6), VECTOR),
        scored_step(Row(1, 0, b"", Finish.LENGTH)),
    )  # fmt: skip
    assert (texts.scores, texts.vectors) == ((scores(1, 6),), (VECTOR,))
    again = text(detokenizer, scored_track(1, wants_vector=True, again=True), start=9)
    assert (again.scores, again.vectors) == ((scores(1, 6),), (VECTOR,))


def test_where_scores_of_the_prompt_are_lost_the_scheduler_is_asked() -> None:
    """Tokens wait for them, and those that come meanwhile are not lost."""
    detokenizer = Detokenizer(Bytes)
    output = fed(
        detokenizer,
        scored_track(),  # and a step with scores(2, 4) that nobody read
        scored_step(Row(1, 0, b"a"), scores(4, 7)),
        scored_step(Row(1, 1, b"b"), scores(7, 8)),
    )
    assert (output.texts, output.restate) == ({}, [1])
    texts = text(detokenizer, restated(b"a"), scored_step(Row(1, 2, b"c", Finish.STOP), scores(8, 9)), start=9)
    assert texts.texts == ("a", "b", "c")
    assert texts.scores == (scores(2, 7), scores(7, 8), scores(8, 9))


def test_a_vector_that_is_lost_is_asked_for() -> None:
    detokenizer = Detokenizer(Bytes)
    output = fed(detokenizer, track(1, prompt_len=6, wants_vector=True), scored_step(Row(1, 0, b"a", Finish.LENGTH)))
    assert (output.texts, output.restate) == ({}, [1])
    texts = text(detokenizer, Restated(1, columns.int32(list(b"a")), Finish.LENGTH, None, VECTOR), start=9)
    assert (texts.texts, texts.vectors) == (("a",), (VECTOR,))


def test_an_aborted_request_has_no_vector() -> None:
    detokenizer = Detokenizer(Bytes)
    fed(detokenizer, track(1, prompt_len=6, wants_vector=True, again=True))
    texts = text(detokenizer, Restated(1, b"", Finish.ABORT), start=9)
    assert texts.vectors == ()


def test_what_ended_weighs_with_its_scores() -> None:
    """Few with many scores are remembered where many with none would be."""
    detokenizer = Detokenizer(Bytes, remembered=150)
    fed(detokenizer, scored_track(), track(2), scored_step(Row(1, 0, b"a", Finish.STOP), Row(2, 0, b"b"), scores(2, 7)))
    assert 1 in detokenizer._ended
    fed(detokenizer, scored_step(Row(2, 1, b"c", Finish.STOP)), start=9)
    assert list(detokenizer._ended) == [2]


@settings(max_examples=200)
@given(seed=st.integers(0, 2**32))
def test_the_client_gets_everything_once_whatever_is_lost(seed: int) -> None:
    """Steps that nobody reads, epochs, restatements at any time, text asked for again; read by a real front door."""
    random = Random(seed)
    start, count = random.randint(1, PROMPT), random.randint(0, 9)
    wants_vector = random.random() < 0.5
    detokenizer, inbox = Detokenizer(Bytes), Inbox()
    choice = Choice(1, 0, 0, PROMPT)
    answer = Answer([choice], "d")
    inbox.expect(answer)
    tracked = scored_track(start, wants_vector=wants_vector)
    entry = 0

    def feed(entries: Iterable[Track | Step | Restated | Opened]) -> list[int]:
        nonlocal entry
        entry += 10
        output = fed(detokenizer, *entries, start=entry)
        for texts in output.texts.values():
            inbox.take(texts)
        return output.restate

    feed([tracked, Opened(1, 1)])
    vector = VECTOR if wants_vector else None
    log: list[Step] = []
    at = start
    while at < PROMPT and random.random() < 0.7:  # chunks before the last
        end = random.randint(at, PROMPT)
        log.append(scored_step(scores(at, end)))
        at = end
    if not count:
        last = [] if vector is None else [vector]
        log.append(scored_step(Row(1, 0, b"", Finish.LENGTH), scores(at, PROMPT), *last))
    for index in range(count):
        first = [vector] if vector is not None and index == 0 else []
        finish = Finish.LENGTH if index == count - 1 else Finish.NONE
        log.append(scored_step(Row(1, index, bytes([97 + index]), finish), scores(at, PROMPT + index + 1), *first))
        at = PROMPT + index + 1
    tokens, told = bytes(range(97, 97 + count)), 0  # of them, to the scheduler
    asked: list[int] = []
    for position, each in enumerate(log):
        told += len(columns.ints(each.tokens))
        over = position == len(log) - 1
        if random.random() < 0.7:
            asked += feed([each])
        if random.random() < 0.1:
            asked += feed([scored_track(start, wants_vector=wants_vector, again=True)])
        if asked and random.random() < 0.5:
            asked = []
            known = restated(tokens[:told], Finish.LENGTH if over else Finish.NONE, start, vector)
            asked += feed([known if told or over else Restated(1, b"")])
    for _ in range(3):  # as who lacks something asks again and again
        known = restated(tokens, Finish.LENGTH, start, vector)
        feed([scored_track(start, wants_vector=wants_vector, again=True), known])
    assert choice.finish is Finish.LENGTH
    pieces, answer._pieces = answer._pieces, []
    [piece] = merged(pieces)
    assert bytes(piece.tokens) == tokens
    assert piece.scores == (scores(PROMPT, PROMPT + count) if count else None)
    assert choice.prompt_scores == (scores(start, PROMPT) if start < PROMPT else None)
    assert choice.vector == vector
