"""What the device keeps of rows, and the two halves of a step there: a forward pass, and the draws from its logits.

Both read nothing but tensors at fixed addresses and numbers that are the same for all steps of a bucket, so they can be
captured in CUDA graphs; neither waits for the device. Knows nothing of plans or of what the host has seen.

``max_rows`` row slots and one more, the padding's: all of its pages are the spare page, which the scheduler does not
know of.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpu_worker.device_sampler import DeviceSampler
from gpu_worker.flat_batch import FlatBatch, Pass
from gpu_worker.grammar.mask_pool import MaskPool
from gpu_worker.grammar.resident import Residents
from gpu_worker.kernels.attention_plan import AttentionPlan
from gpu_worker.kernels.sampling import MaskRows, Needs
from gpu_worker.sharing import Sharing
from gpu_worker.step_columns import StepColumns


class PlannedModel(Protocol):
    """A decoder bound to its KV pool, whose passes can be planned ahead."""

    def forward(self, batch: FlatBatch) -> Tensor:
        """Write KV of all tokens, return logits, float32 [L, V]."""
        ...

    def forward_with_states(self, batch: FlatBatch, tokens: Tensor) -> Pass:
        """As ``forward``, and the last hidden states of flat ``tokens``, int64 [M]."""
        ...

    def attention_plan(self, rows: int) -> AttentionPlan | None:
        """A plan for passes of up to ``rows`` tokens; None where a pass can only plan for itself."""
        ...


class HostFacts(NamedTuple):
    """What a pass must know of its batch without asking the device; see FlatBatch."""

    num_decodes: int
    max_kv_len: int
    max_new: int
    sharing: Sharing
    starts: NDArray[np.int32]
    kv_lens: NDArray[np.int32]


def host_batch(facts: HostFacts) -> FlatBatch:
    """A batch that has only what is known in host memory: all that an attention plan looks at."""
    nothing = torch.empty(0)
    return FlatBatch(
        input_ids=nothing,
        positions=nothing,
        slots=nothing,
        starts=nothing,
        kv_lens=nothing,
        page_tables=nothing,
        num_decodes=facts.num_decodes,
        logit_indices=nothing,
        max_kv_len=facts.max_kv_len,
        max_new=facts.max_new,
        sharing=facts.sharing,
        host_starts=facts.starts,
        host_kv_lens=facts.kv_lens,
    )


class Masking(NamedTuple):
    """Masks and the automata that choose them."""

    pool: MaskPool
    residents: Residents


class DeviceRows:
    """Row slots on the device."""

    def __init__(
        self,
        model: PlannedModel,
        sampler: DeviceSampler,
        masking: Masking | None,
        *,
        max_rows: int,
        page_table_width: int,
        page_size: int,
        spare_page: int,
        device: torch.device,
    ) -> None:
        self.model = model
        self.sampler = sampler
        self.masking = masking
        self.device = device
        self.max_rows = max_rows
        self.spare_page = spare_page
        self.spare_slot = spare_page * page_size
        self.page_tables = torch.full(
            (max_rows + 1, page_table_width), spare_page, dtype=torch.int32, device=device
        )  # [max_rows + 1, P]
        self._states = torch.zeros(max_rows + 1, dtype=torch.int32, device=device)  # of resident automata

    @property
    def padding(self) -> int:
        """The slot that stands for no row."""
        return self.max_rows

    def forward(self, x: StepColumns[Tensor], facts: HostFacts, width: int, plan: AttentionPlan | None) -> Tensor:
        """Compute T tokens; logits float32 [N, V]. ``width`` is how many pages of a row are looked at."""
        return self.model.forward(self._batch(x, facts, width, plan))

    def forward_with_states(self, x: StepColumns[Tensor], facts: HostFacts, width: int, tokens: Tensor) -> Pass:
        """As ``forward``, and the last hidden states of flat ``tokens``."""
        return self.model.forward_with_states(self._batch(x, facts, width, None), tokens)

    def _batch(self, x: StepColumns[Tensor], facts: HostFacts, width: int, plan: AttentionPlan | None) -> FlatBatch:
        self.page_tables.view(-1)[x.cells] = x.pages
        return FlatBatch(
            input_ids=self._input_ids(x),
            positions=x.positions,
            slots=x.slots,
            starts=x.starts,
            kv_lens=x.kv_lens,
            page_tables=self.page_tables[:, :width].index_select(0, x.rows),
            num_decodes=facts.num_decodes,
            logit_indices=x.logit_indices,
            max_kv_len=facts.max_kv_len,
            max_new=facts.max_new,
            sharing=facts.sharing,
            host_starts=facts.starts,
            host_kv_lens=facts.kv_lens,
            plan=plan,
        )

    def _input_ids(self, x: StepColumns[Tensor]) -> Tensor:
        """Placeholders replaced by what was drawn: it stands in the history that the sampler keeps."""
        drawn_for = (-1 - x.input_ids).clamp(min=0)
        return torch.where(x.input_ids < 0, self.sampler.history[drawn_for, x.positions].long(), x.input_ids)

    def draw(self, x: StepColumns[Tensor], logits: Tensor, needs: Needs, *, masked: bool) -> Tensor:
        """Draw for L row slots from logits [L, V], which are overwritten; int64 [L], -1 where nothing was drawn.

        With ``masked`` rows obey their masks, and automata advance by what was drawn.
        """
        if not masked or self.masking is None:
            drawn = self.sampler.draw(logits, x.draws, needs)
            return torch.where(drawn.ok, drawn.tokens, -1)
        pool, residents = self.masking
        slots = torch.where(x.draws < 0, self.padding, x.draws).long()
        states = torch.where(x.states < 0, self._states[slots], x.states)
        of_states = residents.table[(x.bases + states).clamp(min=0)]
        rows = torch.where(x.bases < 0, x.masks, of_states)
        drawn = self.sampler.draw(logits, x.draws, needs, MaskRows(pool.rows, rows))
        self._states[slots] = pool.kernels.advance(states, drawn.tokens, residents.arrays, x.automata)
        return torch.where(drawn.ok, drawn.tokens, -1)
