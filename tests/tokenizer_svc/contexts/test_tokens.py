"""The tokens of a sequence do not depend on how its text was cut, whatever the vocabulary."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.config import Settings
from shared.model_files import ModelFiles, locate
from shared.tokenizer import Tokenizer
from tests.sentencepiece import sentencepiece_like
from tests.toy import toy_tokenizer
from tokenizer_svc.contexts.tokens import Written, opening, said


@cache
def packaged() -> Tokenizer:
    """That of the model that comes with the package, byte-level."""
    settings = Settings()
    files = locate(settings.model, settings.cache_path, settings.load_format)
    return Tokenizer.load(files, settings.cache_path)


def made(backend: object) -> Tokenizer:
    return Tokenizer(backend, eos_ids=[2], special_tokens={}, chat_template=None)  # type: ignore[arg-type]


VOCABULARIES = {
    "packaged": packaged,
    "toy": cache(lambda: made(toy_tokenizer())),
    "legacy": cache(lambda: made(sentencepiece_like())),
    "metaspace": cache(lambda: made(sentencepiece_like("metaspace"))),
}

_PLAIN = ("hello", " hello", "he", "ll", "o w", " ", "  ", "\n", "\n\n", "Don't", "'s", " it", "12", "3", " 4.5", "{")
_ODD = ("é", "日本", "🙂", "e\u0301", "<|im_start|>", "<|im_", "end|>", "</s>", "<s", "\t", "!?", " a b c", "x", "ing")
words = st.sampled_from(_PLAIN + _ODD)
cuts = st.lists(st.lists(words, max_size=4).map("".join) | st.text(max_size=6), max_size=8)


@pytest.mark.parametrize("name", VOCABULARIES)
@settings(max_examples=150)
@given(texts=cuts)
def test_text_that_is_cut_has_the_tokens_of_the_whole(name: str, texts: list[str]) -> None:
    tokenizer = VOCABULARIES[name]()
    written = opening(tokenizer, framed=True)
    for text in texts:
        written = written.with_text(text, tokenizer)
    whole = "".join(texts)
    assert list(written.ids) == tokenizer.encode(whole, add_special_tokens=True) or not whole


@pytest.mark.parametrize("name", VOCABULARIES)
@settings(max_examples=60)
@given(before=cuts, after=cuts)
def test_drawn_tokens_stay_and_text_after_them_is_one_text(name: str, before: list[str], after: list[str]) -> None:
    tokenizer = VOCABULARIES[name]()
    first = opening(tokenizer, framed=True)
    for text in before:
        first = first.with_text(text, tokenizer)
    drawn = [5, 7, 9]
    second = first.with_drawn(drawn)
    for text in after:
        second = second.with_text(text, tokenizer)
    assert list(second.ids) == [*first.ids, *drawn, *tokenizer.encode_after("".join(after))]


def test_only_the_end_of_a_long_text_is_tokenised_again() -> None:
    tokenizer = packaged()
    written = opening(tokenizer, framed=True).with_text("The quick brown fox jumps over the lazy dog. " * 50, tokenizer)
    assert len(written.open) < 30
    assert not Written().open


def test_text_after_tokens_has_no_space_of_its_own() -> None:
    tokenizer = VOCABULARIES["legacy"]()
    drawn = opening(tokenizer, framed=True).with_text("hello", tokenizer).with_drawn([5])
    after = drawn.with_text("hello", tokenizer)
    assert tokenizer.decode(after.ids[len(drawn.ids) :]) == "hello"
    assert tokenizer.written(after.ids[len(drawn.ids) :]) == ["hello"]


def test_special_tokens_in_text_are_what_they_are_on_other_routes() -> None:
    tokenizer = VOCABULARIES["toy"]()
    written = opening(tokenizer, framed=True).with_text("a<|im_", tokenizer).with_text("start|>b", tokenizer)
    assert 1 in written.ids
    assert list(written.ids) == tokenizer.encode("a<|im_start|>b", add_special_tokens=True)


@pytest.mark.parametrize("name", VOCABULARIES)
@settings(max_examples=60)
@given(text=st.lists(words, max_size=6).map("".join), cut=st.integers(0, 40))
def test_a_stop_leaves_the_tokens_before_it(name: str, text: str, cut: int) -> None:
    tokenizer = VOCABULARIES[name]()
    ids = tokenizer.encode_after(text)

    def stream():
        return tokenizer.stream((), False)

    reader = stream()
    shown = "".join([reader.push(id) for id in ids]) + reader.flush()
    kept = shown[:cut]
    found = said(ids, kept, stream)
    reader = stream()
    text_of_kept = "".join([reader.push(id) for id in found.ids]) + reader.flush()
    assert list(found.ids) == ids[: len(found.ids)]
    assert text_of_kept + found.rest == kept
    if kept == shown:
        assert list(found.ids) == ids
    elif len(found.ids) < len(ids):  # one more would have been too much
        reader = stream()
        more = "".join([reader.push(id) for id in ids[: len(found.ids) + 1]]) + reader.flush()
        assert not kept.startswith(more)


def test_toy_model_is_loaded_as_others(toy_model: Path) -> None:
    tokenizer = Tokenizer.load(ModelFiles("toy", "huggingface", toy_model), toy_model)
    assert tokenizer.cuts_between_words
