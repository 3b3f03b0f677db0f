"""What a kernel or a step cannot do without: bytes through memory and floating-point operations. Pure.

A floor in seconds is the larger of bytes over the device's copy bandwidth and operations over its matrix rate, both
measured in the same run. A multiplication and an addition are two operations. Activations that stay inside a step are
left out: they are small beside weights and KV in decoding, and hidden behind products in prefill.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gpu_worker.models.config import ModelConfig


class Work(NamedTuple):
    """The least that has to be done."""

    bytes: int = 0
    flops: int = 0

    def __add__(self, other: object) -> Work:
        """Both, one after the other."""
        assert isinstance(other, Work)
        return Work(self.bytes + other.bytes, self.flops + other.flops)

    def times(self, count: int) -> Work:
        return Work(self.bytes * count, self.flops * count)


class Roof(NamedTuple):
    """What a device was measured to do."""

    bytes_per_s: float  # read and written, of a copy inside its memory
    flops_per_s: float  # of a large matrix product in the model's dtype

    def seconds(self, work: Work) -> float:
        """The time that ``work`` takes at least."""
        return max(work.bytes / self.bytes_per_s, work.flops / self.flops_per_s)


def layer_weights(config: ModelConfig) -> int:
    """Elements of the matrices of one layer."""
    attention = config.hidden_size * (2 * config.q_size + 2 * config.kv_size)
    return attention + 3 * config.hidden_size * config.intermediate_size


def product(rows: int, inputs: int, outputs: int, itemsize: int) -> Work:
    """[rows, in] times [in, out]: everything read once, the result written."""
    return Work(
        (inputs * outputs + rows * (inputs + outputs)) * itemsize,
        2 * rows * inputs * outputs,
    )


def decode_attention(config: ModelConfig, contexts: Sequence[int], itemsize: int, shared: int = 0) -> Work:
    """One layer's attention of rows with one new token each; the first ``shared`` tokens are the same KV in all rows.

    Every key and value is read once, whoever asks for it; scores and sums are still each row's own.
    """
    cached = shared * bool(contexts) + sum(context - shared for context in contexts)
    kv = 2 * cached * config.kv_size
    ends = 2 * len(contexts) * (config.q_size + config.kv_size)  # q in, out; k and v in, written
    return Work((kv + ends) * itemsize, 4 * config.q_size * sum(contexts))


def prefill_attention(config: ModelConfig, new: int, before: int, itemsize: int) -> Work:
    """One layer's causal attention of ``new`` tokens after ``before`` others of one row."""
    seen = new * before + new * (new + 1) // 2
    kv = 2 * (before + new) * config.kv_size
    return Work((kv + 2 * new * config.q_size) * itemsize, 4 * config.q_size * seen)


def decode_step(config: ModelConfig, contexts: Sequence[int], itemsize: int, shared: int = 0) -> Work:
    """A whole step: all weights once, the output matrix too, and attention in every layer."""
    rows = len(contexts)
    matrices = layer_weights(config) * config.num_layers + config.vocab_size * config.hidden_size
    weights = Work(matrices * itemsize, 2 * rows * matrices)
    return weights + decode_attention(config, contexts, itemsize, shared).times(config.num_layers)


def prefill_step(config: ModelConfig, new: int, before: int, itemsize: int) -> Work:
    """A chunk of one row's prompt; logits of its last token alone."""
    layers = Work(layer_weights(config) * itemsize, 2 * new * layer_weights(config)).times(config.num_layers)
    attention = prefill_attention(config, new, before, itemsize).times(config.num_layers)
    return layers + attention + product(1, config.hidden_size, config.vocab_size, itemsize)
