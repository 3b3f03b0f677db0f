"""Drive a decoder directly: build flat batches for sequences laid out over given pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gpu_worker.flat_batch import FlatBatch
from gpu_worker.kv_pool import KVPool
from gpu_worker.models.decoder import Decoder
from gpu_worker.sharing import find_sharing


class Segment(NamedTuple):
    """Tokens ``[start, start + len(ids))`` of a sequence that lies on ``pages``."""

    ids: Sequence[int]
    start: int
    pages: Sequence[int]


def flat_batch(segments: Sequence[Segment], page_size: int, logits: Literal["all", "last"] = "all") -> FlatBatch:
    """Segments in the given order; those of one token come first and count as decodes."""
    ordered = [s for s in segments if len(s.ids) == 1] + [s for s in segments if len(s.ids) > 1]
    assert list(segments) == ordered, "decode rows come first"
    positions = [torch.arange(s.start, s.start + len(s.ids)) for s in segments]
    tables = [torch.tensor(s.pages) for s in segments]
    slots = [table[at // page_size] * page_size + at % page_size for table, at in zip(tables, positions, strict=True)]
    lengths = torch.tensor([len(s.ids) for s in segments])
    ends = lengths.cumsum(0)
    used = [-(-(s.start + len(s.ids)) // page_size) for s in segments]
    page_tables = torch.zeros(len(segments), max(used), dtype=torch.int32)
    for row, (table, count) in enumerate(zip(tables, used, strict=True)):
        page_tables[row, :count] = table[:count]
    num_decodes = sum(len(s.ids) == 1 for s in segments)
    kv_lens = torch.tensor([s.start + len(s.ids) for s in segments], dtype=torch.int32)
    starts = torch.cat((torch.zeros(1, dtype=torch.int64), ends)).to(torch.int32)
    return FlatBatch(
        input_ids=torch.tensor([i for s in segments for i in s.ids]),
        positions=torch.cat(positions),
        slots=torch.cat(slots),
        starts=starts,
        kv_lens=kv_lens,
        page_tables=page_tables,
        num_decodes=num_decodes,
        logit_indices=torch.arange(int(ends[-1])) if logits == "all" else ends - 1,
        max_kv_len=int(kv_lens.max()),
        max_new=int(lengths.max()),
        sharing=find_sharing(page_tables[:num_decodes].numpy(), kv_lens[:num_decodes].numpy(), page_size, page_size),
        host_starts=starts.numpy(),
        host_kv_lens=kv_lens.numpy(),
    )


def whole_forward(decoder: Decoder, ids: Sequence[int], page_size: int = 16) -> Tensor:
    """Logits [len(ids), vocab] of one sequence computed in one pass in a pool of its own."""
    pages = -(-len(ids) // page_size)
    pool = KVPool(decoder.config, pages, page_size, decoder.dtype, decoder.device)
    return decoder.forward(flat_batch([Segment(ids, 0, range(pages))], page_size), pool)
