"""How tokens are spelled, and how text within a text is cut into them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from shared.config import DEFAULT_MODEL, Settings
from shared.model_files import locate
from shared.spelling import Unspellable
from shared.tokenizer import Tokenizer
from tests.sentencepiece import sentencepiece_like
from tests.toy import EOS_ID, toy_tokenizer

TEXTS = (
    "",
    "hello",
    " hello",
    "  hello  world ",
    '{"name": "Jo",\n\t"n": -1.5e3}',
    "naïve café 😀👩‍👩‍👧 漢字",
    "<s><|im_start|>hello</s><|im_end|>",
    "ﬁ e\u0301 \u00a0",
)
text_or_ids = settings(max_examples=100, derandomize=True, deadline=None, database=None)


def tokenizer_of(backend: Backend, eos_ids: Sequence[int] = (2,)) -> Tokenizer:
    return Tokenizer(backend, eos_ids=eos_ids, special_tokens={}, chat_template=None)


@cache
def tokenizer(name: str) -> Tokenizer:
    match name:
        case "smollm2":
            cache_path = Settings().cache_path
            return Tokenizer.load(locate(DEFAULT_MODEL, cache_path), cache_path)
        case "toy":
            return tokenizer_of(toy_tokenizer(), [EOS_ID])
        case "legacy" | "metaspace":
            return tokenizer_of(sentencepiece_like(name))
        case _:
            raise ValueError(name)


def spelling(of: Tokenizer) -> list[bytes]:
    spelled = of.spelling()
    assert not isinstance(spelled, Unspellable)
    return spelled


BYTE_LEVEL = ("smollm2", "toy")
PIECES = ("legacy", "metaspace")


@pytest.mark.parametrize("name", BYTE_LEVEL)
@text_or_ids
@given(data=st.data())
def test_spelled_bytes_are_the_decoded_text(name: str, data: st.DataObject) -> None:
    of = tokenizer(name)
    ids = data.draw(st.lists(st.integers(0, of.vocab_size - 1), max_size=20))
    assert b"".join(spelling(of)[id] for id in ids).decode(errors="replace") == of.decode(ids)


@pytest.mark.parametrize("name", BYTE_LEVEL)
@pytest.mark.parametrize("text", TEXTS)
def test_tokens_of_a_text_spell_it(name: str, text: str) -> None:
    of = tokenizer(name)
    ids = of.encode(text, add_special_tokens=False)
    assert b"".join(spelling(of)[id] for id in ids).decode() == of.decode(ids)


def test_half_characters_are_spelled_as_their_bytes() -> None:
    of = tokenizer("smollm2")
    spelled = [spelling(of)[id] for id in of.encode("😀", add_special_tokens=False)]
    assert len(spelled) > 1
    assert b"".join(spelled) == "😀".encode()


@pytest.mark.parametrize("name", PIECES)
@text_or_ids
@given(pieces=st.lists(st.integers(3 + 256, 3 + 256 + 18) | st.characters(exclude_categories=["Cs"]), max_size=20))
def test_spelled_pieces_are_what_they_add_to_a_text(name: str, pieces: list[int | str]) -> None:
    of = tokenizer(name)
    ids = [id for piece in pieces for id in ([piece] if isinstance(piece, int) else [3 + b for b in piece.encode()])]
    before = of.encode("hello", add_special_tokens=False)
    added = b"".join(spelling(of)[id] for id in ids).decode()
    assert of.decode([*before, *ids]) == of.decode(before) + added


def test_special_tokens_and_those_that_end_an_answer_are_silent() -> None:
    backend = toy_tokenizer()
    ordinary = backend.get_vocab_size()
    backend.add_tokens([AddedToken("<|bye|>", special=False), AddedToken("<|call|>", special=False)])
    spelled = spelling(tokenizer_of(backend, [EOS_ID, ordinary]))
    assert spelled[:3] == [b"", b"", b""]
    assert spelled[ordinary:] == [b"", b"<|call|>"]


def test_ids_without_a_token_are_silent() -> None:
    backend = Backend(models.BPE(vocab={"a": 0, "b": 4}, merges=[]))
    backend.decoder = decoders.ByteLevel()
    assert spelling(tokenizer_of(backend, [])) == [b"a", b"", b"", b"", b"b"]


def test_pieces_by_example() -> None:
    spelled = spelling(tokenizer("legacy"))
    vocab = sentencepiece_like().get_vocab()
    examples = {"▁hello": b" hello", "▁▁": b"  ", "é": b"\xc3\xa9", "<0x0A>": b"\n", "<0xFF>": b"\xff", "<s>": b""}
    assert {token: spelled[vocab[token]] for token in examples} == examples


@pytest.mark.parametrize(
    ("decoder", "reason"),
    [
        (decoders.WordPiece(), "WordPiece"),
        (decoders.Metaspace(), "Metaspace"),
        (None, "none"),
        (decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()]), "neither byte-level nor has byte fallback"),
        (decoders.Sequence([decoders.Replace(Regex("▁+"), " "), decoders.ByteFallback()]), "pattern"),
        (decoders.Sequence([decoders.ByteFallback(), decoders.Strip(" ", 1, 0)]), "Strip"),
        (decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 0, 1)]), "Strip"),
        (decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Replace("a", "b")]), "Replace"),
    ],
)
def test_decoders_that_look_at_neighbours_have_no_spelling(decoder: decoders.Decoder | None, reason: str) -> None:
    backend = sentencepiece_like()
    backend.decoder = decoder  # pyright: ignore[reportAttributeAccessIssue]
    spelled = tokenizer_of(backend).spelling()
    assert isinstance(spelled, Unspellable)
    assert reason in spelled.reason
    assert tokenizer_of(backend).encode_inner("hello") is None


@pytest.mark.parametrize("name", [*BYTE_LEVEL, *PIECES])
@pytest.mark.parametrize("text", TEXTS)
def test_inner_tokens_spell_exactly_the_text(name: str, text: str) -> None:
    of = tokenizer(name)
    ids = of.encode_inner(text)
    assert ids is not None
    assert b"".join(spelling(of)[id] for id in ids) == text.encode()


@pytest.mark.parametrize("name", [*BYTE_LEVEL, *PIECES])
@text_or_ids
@given(text=st.text(max_size=30) | st.text(alphabet=' \n{":<|>s_/helo', max_size=30))
def test_inner_tokens_are_exact_or_refused(name: str, text: str) -> None:
    of = tokenizer(name)
    ids = of.encode_inner(text)
    assert ids is None or b"".join(spelling(of)[id] for id in ids) == text.encode()
    assert ids is not None or name == "smollm2" or "▁" in text  # it lacks some bytes; others spell a space so


@pytest.mark.parametrize("name", PIECES)
def test_inner_text_gets_no_space_before_its_first_word(name: str) -> None:
    of, vocab = tokenizer(name), sentencepiece_like().get_vocab()
    assert of.encode("hello", add_special_tokens=False) == [vocab["▁hello"]]
    assert of.encode_inner("hello") == [vocab["hello"]]
    assert of.encode_inner(" hello") == [vocab["▁hello"]]


@pytest.mark.parametrize("name", BYTE_LEVEL)
@pytest.mark.parametrize("text", ["the fox", ' "name": "', "x = [1, 2]\n\n  y", "漢字"])
def test_inner_tokens_of_byte_level_vocabularies_are_the_usual_ones(name: str, text: str) -> None:
    assert tokenizer(name).encode_inner(text) == tokenizer(name).encode(text, add_special_tokens=False)


def test_the_prefix_space_of_a_byte_level_tokenizer_is_left_out() -> None:
    backend = toy_tokenizer()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    of = tokenizer_of(backend)
    assert of.decode(of.encode("fox", add_special_tokens=False)) == " fox"
    ids = of.encode_inner("fox")
    assert ids is not None
    assert of.decode(ids) == "fox"


def test_text_that_the_tokenizer_changes_is_refused() -> None:
    backend = toy_tokenizer()
    backend.normalizer = normalizers.NFC()
    of = tokenizer_of(backend)
    assert of.encode_inner("e\u0301") is None
    assert of.encode_inner("\u00e9") is not None


def test_text_that_the_vocabulary_lacks_is_refused() -> None:
    assert tokenizer("smollm2").encode_inner("a\x06b") is None


def test_special_tokens_stay_special_outside() -> None:
    of = tokenizer_of(toy_tokenizer(), [EOS_ID])
    inner = of.encode_inner("<|im_end|>")
    assert inner is not None
    assert EOS_ID not in inner
    assert of.encode("<|im_end|>", add_special_tokens=False) == [EOS_ID]
