"""What the decoder asks of a device: five operations and a prepacked linear layer.

Shapes: T flat tokens, H hidden size, D head_dim. Activations have the model's dtype and are contiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from torch import Tensor

from gpu_worker.flat_batch import FlatBatch
from gpu_worker.kv_pool import KVPool

if TYPE_CHECKING:
    from gpu_worker.kernels.attention_plan import AttentionPlan

Linear = Callable[[Tensor], Tensor]
"""[T, in] -> [T, out], bias included."""


class HeadNorms(NamedTuple):
    """Weights [D] of the RMSNorm over each head of q and k, applied before the rotary embedding."""

    q: Tensor
    k: Tensor


class AttentionShape(NamedTuple):
    """What attention needs to know of a model."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    eps: float  # of the head norms


class AttentionPass(Protocol):
    """Attention of one forward pass: everything that is the same in all layers is prepared."""

    def attend(self, qkv: Tensor, layer: int, window: int | None, norms: HeadNorms | None) -> Tensor:
        """Write this layer's KV of all T tokens into the pool, then attend to it causally.

        ``qkv`` is [T, (num_heads + 2 * num_kv_heads) * D], not yet rotated, and may be overwritten. A token sees
        the tokens of its own row at its own position and before, the last ``window`` of them if given.
        Returns [T, num_heads * D].
        """
        ...


class Kernels(Protocol):
    """The operations of one device."""

    def linear(self, weight: Tensor, bias: Tensor | None) -> Linear:
        """Prepack ``weight`` [out, in] once; the result keeps what it needs of it."""
        ...

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """[T, H]; sums in float32, result in the dtype of ``x``."""
        ...

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
        """``residual += x`` in place, then the RMSNorm of ``residual``; all [T, H]."""
        ...

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """[T, 2 I] -> [T, I]: silu of the first half times the second."""
        ...

    def attention(
        self, shape: AttentionShape, batch: FlatBatch, frequencies: Tensor, scale: float, pool: KVPool
    ) -> AttentionPass:
        """Prepare one pass. ``frequencies`` [D / 2] are the rotary ones; ``scale`` multiplies cosines and sines.

        On a GPU neither this nor the pass waits for the device, and with a ``batch.plan`` both may be captured in a
        CUDA graph.
        """
        ...

    def attention_plan(
        self, shape: AttentionShape, windows: Sequence[int | None], page_size: int, rows: int, /
    ) -> AttentionPlan | None:
        """A plan for batches of up to ``rows`` tokens in short rows, for layers with ``windows``; see AttentionPlan.

        Where several are made, make the largest first: the others share its memory. None where a pass can
        only plan for itself.
        """
        ...
