"""Tokens beside text: each is shown once, in order, with the text that it completes, wherever pieces of text end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.scores import TokenScores, packed
from shared.text_stream import ByteTextStream
from shared.tokenizer import Tokenizer
from tests.toy import toy_tokenizer
from tokenizer_svc.alignment import Alignment, Shown, echoed

_BACKEND = toy_tokenizer()
_TOKENIZER = Tokenizer(_BACKEND, eos_ids=(2,), special_tokens={}, chat_template=None)


def stream() -> ByteTextStream:
    found = _TOKENIZER.stream((), skip_special_tokens=True)
    assert isinstance(found, ByteTextStream)
    return found


def certain(shown: list[Shown]) -> int:
    """Characters of the text of tokens, whatever follows."""
    return len("".join(map(stream().push, [token.id for token in shown])))


def text_of(tokens: list[int]) -> str:
    return _TOKENIZER.decode(tokens)


tokens = st.lists(st.integers(0, 319), max_size=30)


@given(tokens=tokens, data=st.data())
def test_every_token_is_shown_once_with_its_text(tokens: list[int], data: st.DataObject) -> None:
    """Pieces bring some tokens and some text, which lags behind by as much as it likes, and may be cut at the end."""
    alignment, text = Alignment(stream()), text_of(tokens)
    kept = data.draw(st.integers(0, len(text)), "characters before a stop")
    shown: list[Shown] = []
    taken = sent = 0
    while taken < len(tokens):
        count = data.draw(st.integers(1, 5))
        alignment.push(tokens[taken : taken + count], None)
        taken += count
        there = "".join(map(stream().push, tokens[:taken]))
        until = data.draw(st.integers(sent, max(sent, min(len(there), kept))))
        alignment.show(text[sent:until])
        sent = until
        shown += alignment.due()
        assert certain(shown) <= sent
    alignment.flush()
    alignment.show(text[sent:kept])
    shown += alignment.due()
    assert certain(shown) <= kept
    shown += alignment.rest()
    assert [token.id for token in shown] == tokens
    assert alignment.rest() == []


@given(tokens=tokens)
def test_offsets_are_where_text_begins(tokens: list[int]) -> None:
    alignment, one = Alignment(stream()), stream()
    alignment.push(tokens, None)
    characters = 0
    for token in alignment.rest():
        assert token.offset == characters
        characters += len(one.push(token.id))


def test_half_a_character_comes_with_the_other_half() -> None:
    first, second = _TOKENIZER.encode("ö", add_special_tokens=False)
    alignment = Alignment(stream())
    alignment.push([70, first], None)
    alignment.show(text_of([70]))
    assert [token.id for token in alignment.due()] == [70]
    alignment.push([second], None)
    alignment.show("ö")
    assert [token.id for token in alignment.due()] == [first, second]


def test_scores_stay_with_their_tokens() -> None:
    rows = [TokenScores(position, -float(position), 1, (), ()) for position in (7, 8)]
    alignment = Alignment(stream())
    alignment.push([70, 71], packed(1, rows))
    assert [token.score for token in alignment.rest()] == rows


def test_an_echoed_prompt_has_its_tokens_where_they_are() -> None:
    text = "the fox"
    ids = _TOKENIZER.encode(text, add_special_tokens=False)
    framed = [1, *ids]  # a first token that is in no text
    shown = echoed(framed, text, None, _TOKENIZER.stream((), skip_special_tokens=False))
    assert [token.id for token in shown] == framed
    offsets = [token.offset for token in shown]
    assert offsets[:2] == [0, 0]
    parts = [text[a:b] for a, b in zip(offsets[1:], [*offsets[2:], None], strict=True)]
    assert parts == [text_of([id]) for id in ids]
