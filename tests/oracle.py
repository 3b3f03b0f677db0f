"""Transformers' own model of the packaged SmolLM2, dequantised to float32: what our text is compared with.

Built from the parts of from_pretrained, which for GGUF files asks for the package accelerate.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch

from shared.config import DEFAULT_MODEL, Settings
from shared.model_files import locate


class Oracle(NamedTuple):
    """A tokenizer and a causal language model of transformers."""

    tokenizer: Any
    model: Any


@cache
def load_oracle(dtype: torch.dtype = torch.float32) -> Oracle:
    """Read the packaged GGUF file with transformers' reader. Takes many seconds, once per session: don't change it."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    path = locate(DEFAULT_MODEL, Settings().cache_path).path
    config = LlamaConfig.from_pretrained(path.parent, gguf_file=path.name)
    with torch.device("meta"):
        blank: Any = LlamaForCausalLM(config)
    tensors = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=blank)["tensors"]
    model: Any = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert set(missing) <= {"lm_head.weight"}, missing
    assert not unexpected, unexpected
    model.tie_weights()
    return Oracle(load_tokenizer(), model.to(dtype).eval())


def load_tokenizer() -> Any:
    """Transformers' tokenizer of the same file."""
    from transformers import AutoTokenizer

    path = locate(DEFAULT_MODEL, Settings().cache_path).path
    return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
