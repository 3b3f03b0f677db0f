"""The pipelined execution on a CPU: buckets, padding and static buffers as on a GPU, replayed by calling again."""

from __future__ import annotations

import torch

from gpu_worker.execution import MakeExecution
from gpu_worker.graphs import Budget, EagerRecorder
from gpu_worker.kernels.sampling import SamplingKernels
from gpu_worker.kernels.sampling_reference import PlainSamplingKernels
from gpu_worker.pipeline import Capture, prepare_pipeline
from gpu_worker.startup import Loaded


def pipelined(loaded: Loaded, *, graphs: bool = True, kernels: SamplingKernels | None = None) -> MakeExecution:
    """An execution for any number of engines, one at a time."""
    capture = Capture(EagerRecorder(), Budget(seconds=1000, bytes=1)) if graphs else None
    masks = None if loaded.structured is None else loaded.structured.masks
    kernels = PlainSamplingKernels() if kernels is None else kernels
    return prepare_pipeline(loaded.model, loaded.card, masks, kernels, torch.device("cpu"), capture, lambda _: None)
