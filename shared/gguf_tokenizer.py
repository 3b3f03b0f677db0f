"""The tokenizer inside a GGUF file, converted once to Hugging Face's files and kept.

The conversion takes some seconds and needs transformers, which is imported nowhere else outside tests;
a start with a warm cache reads a small directory instead.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared.errors import UserError

_FORMAT = "2"  # part of the cache key: raise it when the conversion changes


def converted(gguf: Path, cache: Path) -> Path:
    """A directory with the tokenizer of ``gguf`` in Hugging Face's layout, made on first use.

    Lies in ``cache/tokenizers``, by the file's path, size and time. Several processes may call this at
    once: one converts, the others wait. Raises UserError where the file holds no usable tokenizer.
    """
    stat = gguf.stat()
    identity = f"{_FORMAT}\0{gguf.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}"
    target = cache / "tokenizers" / hashlib.sha256(identity.encode()).hexdigest()[:32]
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock(target.with_suffix(".lock")):
            if not target.is_dir():
                _convert_into(target, gguf)
    except OSError as error:
        raise UserError(f"cannot keep the converted tokenizer in {target.parent}: {error}; set --cache-dir") from error
    return target


@contextmanager
def _lock(path: Path) -> Generator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _convert_into(target: Path, gguf: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    try:
        scratch.chmod(0o755)
        _convert(gguf, scratch)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _convert(gguf: Path, directory: Path) -> None:
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
        tokenizer.save_pretrained(str(directory))
    except OSError:
        raise
    except Exception as error:
        raise UserError(
            f"the tokenizer inside {gguf} cannot be read: {error}. Serve the model from its Hugging Face directory"
        ) from error
    generation = {"eos_token_id": _end_ids(gguf)}
    (directory / "generation_config.json").write_text(json.dumps(generation))


def _end_ids(gguf: Path) -> list[int]:
    """Ids that end an answer: end of sequence, and end of turn and of message (before results of tools) if named."""
    from gguf import GGUFReader

    fields = GGUFReader(gguf).fields
    found = (fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom"))
    return sorted({int(field.contents()) for field in found if field is not None})
