"""One forward pass as flat tensors: a mixed batch of decode rows and prefill chunks.

Rows are segments of the flat token axis. Decode rows (one token each) come first, then chunks.
Shapes: T tokens, R rows, P pages of the longest page table, L rows whose logits are wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gpu_worker.sharing import Sharing

if TYPE_CHECKING:
    from gpu_worker.kernels.attention_plan import AttentionPlan


class FlatBatch(NamedTuple):
    """Inputs of one forward pass."""

    input_ids: Tensor  # int64 [T]
    positions: Tensor  # int64 [T], position of each token in its sequence
    slots: Tensor  # int64 [T], where its KV goes: page * page_size + offset; negative, on a GPU: nowhere
    starts: Tensor  # int32 [R + 1], first flat token of each row; the last entry is T
    kv_lens: Tensor  # int32 [R], tokens of the row's sequence including this pass
    page_tables: Tensor  # int32 [R, P], padded with 0
    num_decodes: int  # how many of the R rows are decode rows
    logit_indices: Tensor  # int64 [L], flat tokens whose logits are wanted
    max_kv_len: int  # the largest of kv_lens
    max_new: int  # most tokens of one row
    sharing: Sharing  # of the decode rows; host memory
    host_starts: NDArray[np.int32]  # ``starts`` and ``kv_lens`` in host memory
    host_kv_lens: NDArray[np.int32]
    plan: AttentionPlan | None = None  # filled for this batch; None: a pass plans for itself


class Pass(NamedTuple):
    """What a forward pass found."""

    logits: Tensor  # float32 [L, V]
    states: Tensor  # float32 [M, hidden size]: last hidden states, after the final norm, of the tokens asked for
