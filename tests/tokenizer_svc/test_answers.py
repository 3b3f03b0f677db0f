"""Pieces: merged where they wait for a slow client, with the log-probabilities of exactly their tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.protocol import Finish, Scores, Vector
from shared.scores import TokenScores, each, packed, part, size_of
from tokenizer_svc.answers import Answer, Choice, Row, merged

ROWS = st.lists(st.tuples(st.integers(0, 2), st.text(max_size=3), st.integers(1, 3)), max_size=300)


@given(ROWS)
async def test_pieces_that_pile_up(rows: list[tuple[int, str, int]]) -> None:
    """Few pieces, and each choice has in them what came for it."""
    choices = [Choice(index + 1, index, 0, 1) for index in range(3)]
    answer = Answer(choices, "d")
    said, forced = ["", "", ""], [0, 0, 0]
    for index, text, count in rows:
        first = choices[index].completion_tokens
        tokens = range(first, first + count)
        forced[index] += min(count, 1)
        answer.advance(choices[index], Row(first, tokens, len(said[index]), text, Finish.NONE, None, forced[index]))
        said[index] += text
    for choice in choices:
        last = Row(choice.completion_tokens, (0,), choice.characters, "", Finish.LENGTH, None, choice.forced_tokens)
        answer.advance(choice, last)
    unsent = answer.unsent
    pieces = await answer.pieces()
    assert len(pieces) <= 64
    assert unsent == sum(len(piece.text) + 8 * len(piece.tokens) for piece in pieces)
    assert answer.unsent == 0
    for choice in choices:
        own = [piece for piece in pieces if piece.choice is choice]
        assert "".join(piece.text for piece in own) == said[choice.index]
        assert [token for piece in own for token in piece.tokens] == [
            *range(choice.completion_tokens - 1),
            0,
        ]
        assert [piece.finish for piece in own] == [Finish.NONE] * (len(own) - 1) + [Finish.LENGTH]
        assert (own[-1].completion_tokens, own[-1].forced_tokens) == (choice.completion_tokens, choice.forced_tokens)


def scores_of(start: int, stop: int) -> Scores:
    return packed(1, [TokenScores(at, -at / 8, at, ((at, -0.5),), ()) for at in range(start, stop)])


async def test_scores_of_tokens_that_come_twice() -> None:
    """The prompt's go to the choice, with its first row; each piece has those of what is new in it."""
    choice = Choice(1, 0, 0, 3)
    answer = Answer([choice], "d")
    everything = scores_of(1, 8)
    assert answer.advance(choice, Row(0, (9, 9), 0, "ab", Finish.NONE, None, 0, scores_of(1, 5)))
    assert choice.prompt_scores == part(everything, 1, 3)
    assert answer.advance(choice, Row(0, (9, 9, 9), 0, "abc", Finish.NONE, None, 0, everything))
    [first, second] = await answer.pieces()
    assert first.scores == part(everything, 3, 5)
    assert second.scores == part(everything, 5, 6)
    assert answer.advance(choice, Row(3, (9,), 3, "d", Finish.NONE, None, 0, scores_of(6, 7)))
    assert answer.advance(choice, Row(4, (9,), 4, "e", Finish.STOP, None, 0, scores_of(7, 8)))
    assert answer.unsent == 2 + 16 + 2 * size_of(scores_of(6, 7))
    [both] = merged(await answer.pieces())
    assert list(each(both.scores)) == list(each(part(everything, 6, 8)))


async def test_a_prompt_alone() -> None:
    """No token, and all that was wanted of the prompt."""
    choice = Choice(1, 0, 0, 3)
    answer = Answer([choice], "d")
    vector = Vector(1, b"\0\0\0\0")
    answer.advance(choice, Row(0, (), 0, "", Finish.LENGTH, None, 0, scores_of(1, 3), vector))
    [piece] = await answer.pieces()
    assert (piece.tokens, piece.scores, piece.finish) == ((), None, Finish.LENGTH)
    assert (choice.prompt_scores, choice.vector) == (scores_of(1, 3), vector)
