"""A tiny model directory in Hugging Face's layout: seeded random weights and a byte-level BPE tokenizer.

Written directly, so that no test of another service has to import torch or transformers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
EOS_ID = 2

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_CORPUS = (
    "the quick brown fox jumps over the lazy dog and then it runs into the forest where the other animals are",
    "you are a helpful assistant that answers questions with short and friendly sentences for the user",
    "a system reads the message and the answer is streamed to the user one token after another",
)

_CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}


def make_toy_model(directory: Path, architecture: str = "llama", *, seed: int = 0, **overrides: Any) -> Path:
    """Write a model of one of four architectures into ``directory`` and return it.

    ``overrides`` replace entries of config.json; weights follow from them and from ``seed``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = toy_tokenizer()
    config: dict[str, Any] = {
        "architectures": [_CLASSES[architecture]],
        "model_type": architecture,
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": EOS_ID,
        "pad_token_id": EOS_ID,
        "dtype": "float32",
        "attention_bias": False,
        "sliding_window": None,
        "use_sliding_window": False,
    }
    config.update(overrides)
    save_file(toy_weights(config, seed), directory / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(directory / "tokenizer.json"))
    _write(directory / "config.json", config)
    _write(directory / "generation_config.json", {"bos_token_id": 1, "eos_token_id": EOS_ID, "pad_token_id": EOS_ID})
    tokenizer_config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": config["max_position_embeddings"],
        "chat_template": CHAT_TEMPLATE,
    }
    _write(directory / "tokenizer_config.json", tokenizer_config)
    return directory


def toy_tokenizer() -> Tokenizer:
    """Byte-level BPE: three special tokens, 256 bytes and some sixty merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return tokenizer


def toy_weights(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """float32 tensors by their Hugging Face names, scaled so that context decides the next token."""
    rng = np.random.default_rng(seed)
    hidden, vocab, inner = config["hidden_size"], config["vocab_size"], config["intermediate_size"]
    head_dim = config.get("head_dim") or hidden // config["num_attention_heads"]
    q_size = config["num_attention_heads"] * head_dim
    kv_size = config["num_key_value_heads"] * head_dim
    qwen2 = config["model_type"] == "qwen2"
    biased = {"q", "k", "v"} if qwen2 else {"q", "k", "v", "o"} if config["attention_bias"] else set[str]()

    def matrix(rows: int, columns: int, gain: float = 1.0) -> np.ndarray:
        return (rng.standard_normal((rows, columns)) * gain / np.sqrt(columns)).astype(np.float32)

    def norm(size: int) -> np.ndarray:
        return rng.uniform(0.7, 1.3, size).astype(np.float32)

    weights = {"model.embed_tokens.weight": matrix(vocab, hidden, gain=np.sqrt(hidden))}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        sizes = {"q": (q_size, hidden), "k": (kv_size, hidden), "v": (kv_size, hidden), "o": (hidden, q_size)}
        for name, (rows, columns) in sizes.items():
            gain = 1.5 if name in "qk" else 2.0  # sharp attention whose output weighs as much as the residual
            weights[f"{prefix}self_attn.{name}_proj.weight"] = matrix(rows, columns, gain)
            if name in biased:
                weights[f"{prefix}self_attn.{name}_proj.bias"] = rng.normal(0, 0.3, rows).astype(np.float32)
        if config["model_type"] == "qwen3":
            weights[f"{prefix}self_attn.q_norm.weight"] = norm(head_dim)
            weights[f"{prefix}self_attn.k_norm.weight"] = norm(head_dim)
        weights[f"{prefix}mlp.gate_proj.weight"] = matrix(inner, hidden)
        weights[f"{prefix}mlp.up_proj.weight"] = matrix(inner, hidden)
        weights[f"{prefix}mlp.down_proj.weight"] = matrix(hidden, inner, gain=2.0)
        weights[f"{prefix}input_layernorm.weight"] = norm(hidden)
        weights[f"{prefix}post_attention_layernorm.weight"] = norm(hidden)
    weights["model.norm.weight"] = norm(hidden)
    if not config["tie_word_embeddings"]:
        weights["lm_head.weight"] = matrix(vocab, hidden, gain=3.0)
    return weights


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False), encoding="utf-8")
