"""The trie of a vocabulary says the same as its spellings, from the cache too."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tokenizers import decoders

from gpu_worker.grammar import trie as tries
from gpu_worker.grammar.trie import TokenTrie, build_trie
from gpu_worker.grammar.vocabulary import Vocabulary, load_vocabulary, make_vocabulary
from shared.config import DEFAULT_MODEL, Settings
from shared.model_files import ModelFiles, locate
from shared.tokenizer import Tokenizer
from tests.sentencepiece import sentencepiece_like

words = st.lists(
    st.one_of(
        st.binary(max_size=6),
        st.lists(st.sampled_from([b"\0", b"a", b"b"]), max_size=9).map(b"".join),
        st.integers(0, 40).map(lambda n: b"\0" * n),
    ),
    max_size=60,
)


def check_trie(trie: TokenTrie, spelling: list[bytes]) -> None:
    """All that the docstring of TokenTrie promises, found the slow way."""
    paths: list[bytes] = []
    for depth, byte in zip(trie.depth.tolist(), trie.byte.tolist(), strict=True):
        before = paths[-1] if paths else b""
        assert depth <= len(before) + 1
        paths.append(before[: depth - 1] + bytes([byte]))
    assert paths == sorted({word[:size] for word in spelling for size in range(1, len(word) + 1)})
    ids = dict[bytes, list[int]]()
    for id, word in enumerate(spelling):
        ids.setdefault(word, []).append(id)
    tokens = trie.tokens.tolist()
    assert tokens == [id for word in sorted(ids) if word for id in ids[word]]
    for node, path in enumerate(paths):
        first, count, end = int(trie.first[node]), int(trie.count[node]), int(trie.end[node])
        assert tokens[first : first + count] == ids.get(path, [])
        inside = [other.startswith(path) for other in paths[node:]]
        assert end == node + (inside.index(False) if False in inside else len(inside))
        last = int(trie.first[end]) if end < len(paths) else len(tokens)
        assert sorted(tokens[first:last]) == [id for id, word in enumerate(spelling) if word.startswith(path)]


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(spelling=words)
def test_the_trie_says_what_the_spellings_say(spelling: list[bytes]) -> None:
    check_trie(build_trie(spelling), spelling)


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(spelling=words)
def test_comparing_in_small_blocks_changes_nothing(spelling: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tries, "_BLOCK_BYTES", 50)
        check_trie(build_trie(spelling), spelling)


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(spelling=words, extra=st.integers(0, 40))
def test_flat_spellings_are_the_spellings(spelling: list[bytes], extra: int) -> None:
    vocabulary = make_vocabulary(spelling, [1, 0, 1, 10**6], len(spelling) + extra)
    starts = vocabulary.token_starts.tolist()
    flat = vocabulary.token_bytes.tobytes()
    assert vocabulary.size == len(spelling) + extra == len(starts) - 1
    assert vocabulary.spelling == spelling + [b""] * extra
    assert [flat[a:b] for a, b in pairwise(starts)] == vocabulary.spelling
    assert vocabulary.longest == max(map(len, spelling), default=0)
    assert vocabulary.words == -(-vocabulary.size // 32)
    assert vocabulary.eos_ids == tuple(id for id in (0, 1) if id < vocabulary.size)


@pytest.fixture(scope="module")
def smollm2() -> Tokenizer:
    cache_path = Settings().cache_path
    return Tokenizer.load(locate(DEFAULT_MODEL, cache_path), cache_path)


def same(one: Vocabulary, other: Vocabulary) -> bool:
    columns = zip(one.trie, other.trie, strict=True)
    return one.spelling == other.spelling and all(np.array_equal(*pair) for pair in columns)


def only_file(cache: Path) -> Path:
    [path] = (cache / "vocabularies").iterdir()
    return path


def test_a_real_vocabulary_from_the_cache_is_the_same(smollm2: Tokenizer, tmp_path: Path) -> None:
    made = load_vocabulary(smollm2, smollm2.vocab_size, tmp_path)
    assert made is not None
    assert made.eos_ids == smollm2.eos_ids
    assert len(made.trie.tokens) > 49_000
    written = only_file(tmp_path).stat().st_mtime_ns
    read = load_vocabulary(smollm2, smollm2.vocab_size, tmp_path)
    assert read is not None
    assert same(made, read)
    assert only_file(tmp_path).stat().st_mtime_ns == written


def test_a_model_wider_than_its_tokenizer(smollm2: Tokenizer, tmp_path: Path) -> None:
    vocabulary = load_vocabulary(smollm2, smollm2.vocab_size + 77, tmp_path)
    assert vocabulary is not None
    assert vocabulary.spelling[-77:] == [b""] * 77
    assert vocabulary.words == -(-(smollm2.vocab_size + 77) // 32)


@pytest.fixture
def toy(toy_model: Path, tmp_path: Path) -> Tokenizer:
    return Tokenizer.load(ModelFiles("toy", "huggingface", toy_model), tmp_path)


def test_a_model_narrower_than_its_tokenizer(toy: Tokenizer, tmp_path: Path) -> None:
    vocabulary = load_vocabulary(toy, 100, tmp_path)
    assert vocabulary is not None
    assert vocabulary.size == 100
    assert max(vocabulary.trie.tokens) < 100


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"\x80\x04N."])
def test_a_damaged_cache_is_made_anew(toy: Tokenizer, tmp_path: Path, damage: bytes) -> None:
    made = load_vocabulary(toy, toy.vocab_size, tmp_path)
    path = only_file(tmp_path)
    good = path.read_bytes()
    path.write_bytes(damage or good[: len(good) // 2])
    with capture_logs() as logs:
        again = load_vocabulary(toy, toy.vocab_size, tmp_path)
    assert made is not None
    assert again is not None
    assert same(made, again)
    assert "made anew" in logs[0]["event"]
    assert path.stat().st_size == len(good)


def test_the_trie_of_other_spellings_is_not_taken(toy: Tokenizer, tmp_path: Path) -> None:
    load_vocabulary(toy, toy.vocab_size, tmp_path)
    short = build_trie([b"a", b"b"])
    with only_file(tmp_path).open("wb") as file:
        np.savez(file, **short._asdict())
    with capture_logs() as logs:
        again = load_vocabulary(toy, toy.vocab_size, tmp_path)
    assert again is not None
    assert len(again.trie.tokens) > 250
    assert "incomplete" in logs[0]["event"]


def test_a_cache_that_cannot_be_written_is_done_without(toy: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with capture_logs() as logs:
        assert load_vocabulary(toy, toy.vocab_size, tmp_path / "file") is not None
    assert any("cannot be kept" in entry["event"] for entry in logs)


def test_a_vocabulary_without_spelling_is_said_so(tmp_path: Path) -> None:
    backend = sentencepiece_like()
    backend.decoder = decoders.WordPiece()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer = Tokenizer(backend, eos_ids=[2], special_tokens={}, chat_template=None)
    with capture_logs() as logs:
        assert load_vocabulary(tokenizer, 300, tmp_path) is None
    assert "WordPiece" in logs[0]["reason"]
