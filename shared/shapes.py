"""Public model configurations by name, for runs with random weights: a shape is everything that decides speed.

`shape:llama-3-8b` with `--load-format dummy` serves a model of that size without any file of it. Knows nothing of
weights.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.errors import UserError

PREFIX = "shape:"

SHAPES: Mapping[str, Mapping[str, Any]] = {
    # huggingface.co/meta-llama/Meta-Llama-3-8B
    "llama-3-8b": {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-05,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
    },
    # huggingface.co/Qwen/Qwen3-0.6B
    "qwen3-0.6b": {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
    },
    # huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct
    "smollm2-135m": {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-05,
        "rope_theta": 100000.0,
        "tie_word_embeddings": True,
    },
}
"""config.json of each, less what tells nothing of speed; no end-of-sequence ids either: the tokenizer beside it has
its own. From the files of these names on the hub."""


def shape(name: str) -> Mapping[str, Any]:
    """The configuration of a shape. Raises UserError for a name that is not in the table."""
    if name not in SHAPES:
        raise UserError(f"{PREFIX}{name}: no such shape; there are {', '.join(PREFIX + known for known in SHAPES)}")
    return SHAPES[name]


def lay_out(config: Mapping[str, Any], tokenizer: Path, target: Path) -> Path:
    """A model directory without weights: ``config`` as config.json beside the files of the directory ``tokenizer``.

    What is there is replaced at once, so that several processes may do this together. Returns ``target``.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=target.parent) as scratch:
            made = Path(scratch) / target.name
            shutil.copytree(tokenizer, made)
            (made / "config.json").write_text(json.dumps(dict(config), indent=2), encoding="utf-8")
            _put(made, target)
    except OSError as error:
        raise UserError(f"the configuration cannot be kept in {target}: {error}; set --cache-dir") from error
    return target


def _put(made: Path, target: Path) -> None:
    """File by file: a directory with others in it cannot be replaced in one go, and readers open files one by one."""
    target.mkdir(exist_ok=True)
    for file in sorted(made.iterdir()):
        file.replace(target / file.name)
