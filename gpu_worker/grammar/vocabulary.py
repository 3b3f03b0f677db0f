"""A vocabulary as grammars see it: the spelling of every token, flat and as a trie, kept on disk.

Knows nothing of automata or of devices.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from gpu_worker.grammar.trie import TokenTrie, build_trie
from shared.spelling import Unspellable
from shared.tokenizer import Tokenizer

log = structlog.get_logger("grammar")

_FORMAT = "1"  # part of the cache key: raise it when the trie's layout changes


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The spellings of V ids, V being the width of the model's logits. Not to be changed."""

    spelling: list[bytes]  # length V; empty for ids that add nothing to the text, and for those without a token
    eos_ids: tuple[int, ...]
    token_bytes: NDArray[np.uint8]  # [K]: all spellings, one after the other
    token_starts: NDArray[np.int32]  # [V + 1]: where each starts
    trie: TokenTrie

    @property
    def size(self) -> int:
        """V."""
        return len(self.spelling)

    @property
    def words(self) -> int:
        """W: int32 words of a mask row, where bit i % 32 of word i // 32 is token i."""
        return -(-self.size // 32)

    @cached_property
    def longest(self) -> int:
        """Bytes of the longest spelling."""
        return int(np.diff(self.token_starts).max(initial=0))


def make_vocabulary(
    spelling: Sequence[bytes], eos_ids: Iterable[int], size: int | None = None, trie: TokenTrie | None = None
) -> Vocabulary:
    """A vocabulary of ``size`` ids (default: as many as there are spellings), whatever the tokenizer knows of them."""
    width = len(spelling) if size is None else size
    spelled = [*spelling[:width], *[b""] * (width - len(spelling))]
    starts = np.zeros(width + 1, dtype=np.int32)
    np.cumsum(np.fromiter(map(len, spelled), np.int64, width), out=starts[1:])
    return Vocabulary(
        spelling=spelled,
        eos_ids=tuple(sorted({id for id in eos_ids if id < width})),
        token_bytes=np.frombuffer(b"".join(spelled), np.uint8),
        token_starts=starts,
        trie=build_trie(spelled) if trie is None else trie,
    )


def load_vocabulary(tokenizer: Tokenizer, vocab_size: int, cache_path: Path) -> Vocabulary | None:
    """The vocabulary of a model with ``vocab_size`` logits; None, and a line in the log, where it has no spelling.

    The trie is kept in ``cache_path / "vocabularies"``, by the content of the vocabulary; a file that cannot be read is
    made anew, and one that cannot be written is made at every start.
    """
    spelling = tokenizer.spelling()
    if isinstance(spelling, Unspellable):
        log.warning("structured generation is off: the tokens of this model have no spelling", reason=spelling.reason)
        return None
    spelling = [*spelling[:vocab_size], *[b""] * (vocab_size - len(spelling))]
    path = cache_path / "vocabularies" / f"{_key(spelling)}.npz"
    trie = _read(path, spelling)
    if trie is None:
        trie = build_trie(spelling)
        _write(path, trie)
    return make_vocabulary(spelling, tokenizer.eos_ids, trie=trie)


def _key(spelling: Sequence[bytes]) -> str:
    digest = hashlib.sha256(f"{_FORMAT}\0{len(spelling)}\0".encode())
    digest.update(np.fromiter(map(len, spelling), "<i4", len(spelling)).tobytes())
    digest.update(b"".join(spelling))
    return digest.hexdigest()[:32]


def _read(path: Path, spelling: Sequence[bytes]) -> TokenTrie | None:
    """The trie in a file; None where there is none, or not one of this vocabulary's size."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            trie = TokenTrie(*(arrays[name] for name in TokenTrie._fields))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("the cached vocabulary cannot be read and is made anew", path=str(path), error=repr(error))
        return None
    if len(trie.tokens) != sum(map(bool, spelling)) or len({len(column) for column in trie[:5]}) != 1:
        log.warning("the cached vocabulary is incomplete and is made anew", path=str(path))
        return None
    return trie


def _write(path: Path, trie: TokenTrie) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
            try:
                np.savez(file, allow_pickle=False, **trie._asdict())
                file.flush()
                Path(file.name).chmod(0o644)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        log.warning("the vocabulary is made at every start: it cannot be kept", path=str(path), error=str(error))
