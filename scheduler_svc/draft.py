"""A plan in the making: rows of values first, columns in the end."""

from __future__ import annotations

from array import array
from typing import NamedTuple

import msgspec

from scheduler_svc.pages import page_array
from scheduler_svc.request import Request
from shared import columns
from shared.protocol import Admit, Plan, Sampling


class Chunk(NamedTuple):
    """Tokens ``[start, end)`` of a row's input, to go through the model."""

    request: Request
    start: int
    end: int


class Draft:
    """Collects one plan's releases, admits, grants and chunks."""

    def __init__(self, epoch: int, seq: int) -> None:
        self.epoch = epoch
        self.seq = seq
        self.chunks: list[Chunk] = []
        self._releases: list[int] = []
        self._admits: list[Admit] = []
        self._grant_ids: list[int] = []
        self._grant_limits: list[int] = []
        self._grant_page_counts: list[int] = []
        self._grant_pages = page_array()

    @property
    def empty(self) -> bool:
        return not (self._releases or self._admits or self._grant_ids or self.chunks)

    def release(self, id: int) -> None:
        self._releases.append(id)

    def admit(self, request: Request) -> None:
        """Add a row; ``request.planned`` of its tokens are cached."""
        self._admits.append(
            Admit(
                id=request.id,
                input_ids=request.input_ids,
                prompt_len=request.prompt_len,
                cached_len=request.planned,
                sampling=_sampling(request),
                pages=request.pages[: request.shared].tobytes(),
                unscored=0 if request.scores is None else request.scores.end,
                trace=request.generate.trace,
            )
        )
        self.grant(request, request.pages[request.shared :])

    def grant(self, request: Request, pages: array[int]) -> None:
        """Allow KV up to ``request.limit``, on ``pages`` more."""
        self._grant_ids.append(request.id)
        self._grant_limits.append(request.limit)
        self._grant_page_counts.append(len(pages))
        self._grant_pages.extend(pages)

    def chunk(self, request: Request, length: int) -> None:
        """Compute the next ``length`` tokens of a row's input."""
        self.chunks.append(Chunk(request, request.planned, request.planned + length))

    def plan(self) -> Plan:
        return Plan(
            epoch=self.epoch,
            seq=self.seq,
            releases=columns.uint64(self._releases),
            admits=tuple(self._admits),
            grant_ids=columns.uint64(self._grant_ids),
            grant_limits=columns.int32(self._grant_limits),
            grant_page_counts=columns.int32(self._grant_page_counts),
            grant_pages=self._grant_pages.tobytes(),
            chunk_ids=columns.uint64(chunk.request.id for chunk in self.chunks),
            chunk_starts=columns.int32(chunk.start for chunk in self.chunks),
            chunk_lengths=columns.int32(chunk.end - chunk.start for chunk in self.chunks),
        )


def _sampling(request: Request) -> Sampling:
    """What the worker is asked for: no vector that is known."""
    sampling = request.generate.sampling
    if sampling.pooling is None or request.wants_vector:
        return sampling
    return msgspec.structs.replace(sampling, pooling=None)
