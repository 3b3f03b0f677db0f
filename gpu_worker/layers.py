"""The blocks of a model, read in one order and under one set of names, whatever becomes of their matrices."""

from __future__ import annotations

from typing import Generic, NamedTuple, Protocol, TypeVar

from torch import Tensor

from gpu_worker.kernels.interface import HeadNorms
from gpu_worker.models.config import ModelConfig
from gpu_worker.models.rope import inverse_frequencies
from gpu_worker.weights import Progress, Weights

L = TypeVar("L")  # a linear layer, as a device wants it
L_co = TypeVar("L_co", covariant=True)


class Layer(NamedTuple, Generic[L]):
    """One block: q, k and v in one matrix, gate and up in one."""

    input_norm: Tensor
    qkv: L
    head_norms: HeadNorms | None
    out: L
    post_norm: Tensor
    gate_up: L
    down: L
    window: int | None


class Reader(Protocol[L_co]):
    """Brings weights into memory, each checked against the shape that the configuration asks for."""

    def vector(self, name: str, size: int) -> Tensor: ...

    def linear(self, prefix: str, parts: dict[str, int], inputs: int) -> L_co:
        """One layer for several that share their input; ``parts`` are names and output sizes."""
        ...

    def gated(self, prefix: str, gate: str, up: str, outputs: int, inputs: int) -> L_co:
        """A gate, and what it lets through."""
        ...


def read_layers(config: ModelConfig, reader: Reader[L], report: Progress) -> tuple[Layer[L], ...]:
    """All blocks of a model."""
    layers: list[Layer[L]] = []
    for index in range(config.num_layers):
        report(index / (config.num_layers + 1))
        layers.append(_layer(config, reader, index))
    report(config.num_layers / (config.num_layers + 1))
    return tuple(layers)


def _layer(config: ModelConfig, reader: Reader[L], index: int) -> Layer[L]:
    prefix = f"model.layers.{index}"
    attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
    hidden, inner = config.hidden_size, config.intermediate_size
    norms = None
    if config.qk_norm:
        norms = HeadNorms(
            reader.vector(f"{attention}.q_norm.weight", config.head_dim),
            reader.vector(f"{attention}.k_norm.weight", config.head_dim),
        )
    qkv = {"q_proj": config.q_size, "k_proj": config.kv_size, "v_proj": config.kv_size}
    return Layer(
        input_norm=reader.vector(f"{prefix}.input_layernorm.weight", hidden),
        qkv=reader.linear(attention, qkv, hidden),
        head_norms=norms,
        out=reader.linear(attention, {"o_proj": hidden}, config.q_size),
        post_norm=reader.vector(f"{prefix}.post_attention_layernorm.weight", hidden),
        gate_up=reader.gated(mlp, "gate_proj", "up_proj", inner, hidden),
        down=reader.linear(mlp, {"down_proj": hidden}, inner),
        window=config.windows[index],
    )


def rotary_frequencies(weights: Weights) -> Tensor:
    """Inverse frequencies, float32 [head_dim / 2], divided by what the file says."""
    frequencies = inverse_frequencies(weights.config.rope, weights.config.head_dim)
    divisors = weights.frequency_divisors()
    return frequencies if divisors is None else frequencies / divisors
