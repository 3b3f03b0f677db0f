"""What the decoder needs to know of a model, read from config.json or from GGUF metadata.

Refuses with UserError whatever the decoder does not compute exactly. Knows nothing of weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_worker.models.rope import Rope, RopeKind, yarn_attention_factor
from shared.errors import UserError

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")
GGUF_ARCHITECTURES = ("llama", "qwen2", "qwen3")

INCOMPLETE = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What parsing raises where values are missing, or of another kind than they should be."""

_MOST = 2**24  # of any count: layers, heads, sizes


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape and options of one decoder-only transformer."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context_length: int
    rms_norm_eps: float
    rope: Rope
    tied_embeddings: bool
    qk_norm: bool = False  # RMSNorm over each head of q and k, as Qwen3
    windows: tuple[int | None, ...]  # per layer: how many last tokens, itself included, a token sees
    eos_token_ids: tuple[int, ...] = ()

    @property
    def group_size(self) -> int:
        """Query heads that share one KV head."""
        return self.num_heads // self.num_kv_heads

    @property
    def q_size(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.num_kv_heads * self.head_dim


def read_huggingface_config(directory: Path) -> ModelConfig:
    """The configuration in ``directory``/config.json. Raises UserError naming what is not supported."""
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{directory} has no config.json: a model directory in Hugging Face's layout is needed"
        ) from None
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    try:
        return parse_huggingface(config, source=str(path))
    except INCOMPLETE as error:
        raise UserError(f"{path} is not a complete model configuration: {error!r}") from error


def parse_huggingface(config: Mapping[str, Any], source: str = "config.json") -> ModelConfig:
    """A parsed config.json, in the layout of transformers 4 or 5."""
    architecture = config.get("model_type", "")
    if architecture not in ARCHITECTURES:
        raise UserError(
            f"{source}: architecture {architecture or 'unknown'!r} is not supported; "
            f"supported are {', '.join(ARCHITECTURES)}"
        )
    if config.get("quantization_config"):
        raise UserError(f"{source}: quantised safetensors are not supported; use the original weights or a GGUF file")
    for key, plain in (("hidden_act", "silu"), ("mlp_bias", False)):
        if config.get(key, plain) != plain:
            raise UserError(f"{source}: {key}={config[key]!r} is not supported, only {plain!r}")
    num_heads, num_layers = _count(config["num_attention_heads"]), _count(config["num_hidden_layers"], 10_000)
    head_dim = config.get("head_dim") or (128 if architecture == "qwen3" else config["hidden_size"] // num_heads)
    kv_heads = config.get("num_key_value_heads") or num_heads
    parsed = ModelConfig(
        architecture=architecture,
        vocab_size=_count(config["vocab_size"]),
        hidden_size=_count(config["hidden_size"]),
        intermediate_size=_count(config["intermediate_size"]),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=_count(kv_heads),
        head_dim=_count(head_dim),
        context_length=_count(config.get("max_position_embeddings", 2048)),
        rms_norm_eps=float(config.get("rms_norm_eps", 1e-6)),
        rope=_rope(config, source),
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        qk_norm=architecture == "qwen3",
        windows=_windows(config, architecture, num_layers),
        eos_token_ids=_ids(config.get("eos_token_id")),
    )
    return _checked(parsed, source)


def parse_gguf(metadata: Mapping[str, Any], *, tied_embeddings: bool, vocab_size: int, source: str) -> ModelConfig:
    """GGUF metadata by key, with what only the tensors tell: whether there is an output matrix, and its rows."""
    architecture = metadata.get("general.architecture", "")
    if architecture not in GGUF_ARCHITECTURES:
        raise UserError(
            f"{source}: GGUF architecture {architecture or 'unknown'!r} is not supported; "
            f"supported are {', '.join(GGUF_ARCHITECTURES)}"
        )

    def find(key: str, default: Any = None) -> Any:
        value = metadata.get(f"{architecture}.{key}", default)
        if value is None:
            raise UserError(f"{source}: metadata {architecture}.{key} is missing")
        if isinstance(value, list):
            raise UserError(f"{source}: {architecture}.{key} differs between layers, which is not supported")
        return value

    if find("expert_count", 0):
        raise UserError(f"{source}: mixture-of-experts models are not supported")
    num_heads, hidden = _count(find("attention.head_count")), _count(find("embedding_length"))
    num_layers = _count(find("block_count"), 10_000)
    head_dim = _count(find("attention.key_length", hidden // num_heads))
    if find("attention.value_length", head_dim) != head_dim or find("rope.dimension_count", head_dim) != head_dim:
        raise UserError(f"{source}: keys, values and rotary embedding of different sizes are not supported")
    context = _count(find("context_length"))
    window = find("attention.sliding_window", 0)
    parsed = ModelConfig(
        architecture=architecture,
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=_count(find("feed_forward_length")),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=_count(find("attention.head_count_kv", num_heads)),
        head_dim=head_dim,
        context_length=context,
        rms_norm_eps=float(find("attention.layer_norm_rms_epsilon")),
        rope=_gguf_rope(find, source),
        tied_embeddings=tied_embeddings,
        qk_norm=architecture == "qwen3",
        windows=(window if 0 < window < context else None,) * num_layers,
        eos_token_ids=_ids(metadata.get("tokenizer.ggml.eos_token_id")),
    )
    return _checked(parsed, source)


def _rope(config: Mapping[str, Any], source: str) -> Rope:
    parameters: dict[str, Any] = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    theta = float(parameters.get("rope_theta") or config.get("rope_theta") or 10000.0)
    name = parameters.get("rope_type") or parameters.get("type") or "default"
    if name not in tuple(RopeKind):
        kinds = ", ".join(RopeKind)
        raise UserError(f"{source}: rope scaling {name!r} is not supported; supported are {kinds}")
    partial = parameters.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    if partial != 1.0:
        raise UserError(f"{source}: partial_rotary_factor={partial} is not supported, only 1.0")
    kind = RopeKind(name)
    if kind is RopeKind.DEFAULT:
        return Rope(theta)
    context = int(config.get("max_position_embeddings", 2048))
    original = int(parameters.get("original_max_position_embeddings") or context)
    factor = float(parameters.get("factor") or context / original)
    if kind is not RopeKind.YARN:
        return Rope(
            theta,
            kind,
            factor,
            original,
            low_freq_factor=float(parameters.get("low_freq_factor", 1.0)),
            high_freq_factor=float(parameters.get("high_freq_factor", 4.0)),
        )
    attention = parameters.get("attention_factor")
    if attention is None:
        attention = yarn_attention_factor(factor, parameters.get("mscale"), parameters.get("mscale_all_dim"))
    return Rope(
        theta,
        kind,
        factor,
        original,
        beta_fast=float(parameters.get("beta_fast") or 32),
        beta_slow=float(parameters.get("beta_slow") or 1),
        attention_factor=float(attention),
        truncate=bool(parameters.get("truncate", True)),
    )


def _gguf_rope(find: Any, source: str) -> Rope:
    theta = float(find("rope.freq_base", 10000.0))
    name = find("rope.scaling.type", "none")
    factor = float(find("rope.scaling.factor", 1.0))
    match name:
        case "none":
            return Rope(theta)
        case "linear":
            return Rope(theta, RopeKind.LINEAR, factor)
        case "yarn":
            original = int(find("rope.scaling.original_context_length", find("context_length")))
            attention = yarn_attention_factor(factor) * float(find("rope.scaling.attn_factor", 1.0))
            return Rope(theta, RopeKind.YARN, factor, original, attention_factor=attention)
        case _:
            raise UserError(f"{source}: rope scaling {name!r} is not supported; supported are none, linear and yarn")


def _windows(config: Mapping[str, Any], architecture: str, num_layers: int) -> tuple[int | None, ...]:
    """Qwen restricts its upper layers, and only if told to; Mistral all of them; Llama none."""
    window = config.get("sliding_window")
    if architecture == "mistral":
        return (window,) * num_layers
    if architecture == "llama" or not config.get("use_sliding_window"):
        return (None,) * num_layers
    first = config.get("max_window_layers", 28)
    kinds = config.get("layer_types") or ["full" if i < first else "sliding_attention" for i in range(num_layers)]
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _count(value: Any, most: int = _MOST) -> int:
    """A size or number of parts. Raises ValueError for what cannot be one."""
    count = int(value)
    if not 1 <= count <= most:
        raise ValueError(f"{value!r} is no number from 1 to {most}")
    return count


def _ids(value: int | list[int] | None) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (int(value),)


def _checked(config: ModelConfig, source: str) -> ModelConfig:
    if config.num_heads % config.num_kv_heads:
        raise UserError(f"{source}: {config.num_heads} heads are no multiple of {config.num_kv_heads} KV heads")
    if config.head_dim % 2:
        raise UserError(f"{source}: head_dim {config.head_dim} is odd, which the rotary embedding cannot be")
    if len(config.windows) != config.num_layers:
        raise UserError(f"{source}: layer_types has {len(config.windows)} entries for {config.num_layers} layers")
    return config
