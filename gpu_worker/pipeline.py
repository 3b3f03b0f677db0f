"""What a pipelined execution needs on the device, made once when the worker starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from gpu_worker.device import queue_of
from gpu_worker.device_rows import DeviceRows, Masking, PlannedModel
from gpu_worker.device_sampler import DeviceSampler
from gpu_worker.execution import Execution, MakeExecution, Rows
from gpu_worker.grammar.mask_pool import MaskPool
from gpu_worker.grammar.resident import Residents
from gpu_worker.graphs import Budget, Graphs, Recorder, capture_graphs
from gpu_worker.kernels.sampling import SamplingKernels
from gpu_worker.pipelined import Pipelined
from shared.protocol import ModelCard

_FORCED_TOKENS = 32  # buckets reach as far as that even where fewer rows run: a forced run or a short chunk fits


class Capture(NamedTuple):
    """How steps are made repeatable, and what that may cost."""

    recorder: Recorder
    budget: Budget


def prepare_pipeline(
    model: PlannedModel,
    card: ModelCard,
    masks: MaskPool | None,
    kernels: SamplingKernels,
    device: torch.device,
    capture: Capture | None,
    progress: Callable[[str], None],
) -> MakeExecution:
    """Allocate what rows need on ``device`` and capture graphs; without ``capture`` every step is launched in pieces.

    Page ``card.num_pages`` of the pool is the spare one: the scheduler does not know of it, and padding writes there.
    """
    pages = min(-(-card.context_length // card.page_size), card.num_pages)
    device_rows = DeviceRows(
        model,
        DeviceSampler(kernels, card.vocab_size, card.max_running, card.context_length, device),
        None if masks is None else Masking(masks, Residents(masks, device)),
        max_rows=card.max_running,
        page_table_width=pages,
        page_size=card.page_size,
        spare_page=card.num_pages,
        device=device,
    )
    graphs = Graphs()
    if capture is not None:
        most = max(card.max_running, _FORCED_TOKENS)
        graphs = capture_graphs(device_rows, most, card.vocab_size, capture.recorder, capture.budget, progress)

    def make(rows: Rows) -> Execution:
        return Pipelined(rows, device_rows, graphs, queue_of(device))

    return make
