"""Pieces that wait for a slow client: merged, and nothing of them lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.protocol import Finish
from tokenizer_svc.answers import Answer, Choice, Row

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
