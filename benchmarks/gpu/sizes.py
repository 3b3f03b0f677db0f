"""How large everything is: as it is measured, and tiny, to try the benchmark's own code on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gpu_worker.models.config import ModelConfig, parse_huggingface
from shared.shapes import SHAPES

TINY: Mapping[str, Any] = {
    "model_type": "qwen3",
    "vocab_size": 49152,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}


class Sizes(msgspec.Struct, frozen=True):
    """Cases of all sections. Pairs are rows and tokens of context each."""

    shapes: dict[str, dict[str, Any]]  # config.json by name
    decodes: list[tuple[int, int]]
    prefill: int  # tokens of the prompt that is computed at once
    chunk: int  # of one at the end of a long context
    tokens: list[int]  # rows of the small operations
    prefix: int  # tokens that rows share
    degrees: list[int]  # how many rows share them
    tail: int  # tokens of each row beyond the shared ones
    copied: int  # bytes
    side: int  # of the square matrix product
    streams: list[int]  # requests at once
    prompt: int  # tokens
    answer: int  # tokens
    seconds: float  # of measuring one case

    def config(self, name: str) -> ModelConfig:
        return parse_huggingface(self.shapes[name], source=name)


FULL = Sizes(
    shapes={name: dict(config) for name, config in SHAPES.items()},
    decodes=[(1, 1024), (8, 2048), (64, 2048), (256, 512)],
    prefill=8192,
    chunk=512,
    tokens=[1, 64, 4096],
    prefix=8192,
    degrees=[1, 2, 4, 8, 16, 32],
    tail=128,
    copied=2**31,
    side=8192,
    streams=[1, 64, 256],
    prompt=256,
    answer=128,
    seconds=0.4,
)

SMALL = Sizes(
    shapes={"tiny": dict(TINY)},
    decodes=[(1, 48), (4, 64)],
    prefill=64,
    chunk=16,
    tokens=[1, 4],
    prefix=128,
    degrees=[1, 4],
    tail=16,
    copied=2**20,
    side=64,
    streams=[1, 4],
    prompt=24,
    answer=8,
    seconds=0.01,
)
