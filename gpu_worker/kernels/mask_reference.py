"""The mask operations in plain torch, on any device: what the compiled ones are measured by, and what serves where
they cannot be compiled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gpu_worker.grammar.vocabulary import Vocabulary
from gpu_worker.kernels.automata import AutomataArrays, single
from gpu_worker.kernels.masks import FREE
from shared.grammar import DEAD, Tables

_UNSIGNED = 0xFFFF


class PlainMaskKernels:
    """MaskKernels without kernels: 5 to 20 ms for a row with many tokens, where compiled ones take less than one."""

    def __init__(self, vocabulary: Vocabulary, device: torch.device) -> None:
        self._size = vocabulary.size
        self._device = device
        starts = torch.from_numpy(vocabulary.token_starts.astype(np.int64)).to(device)
        self._starts, self._lengths = starts[:-1], starts.diff()
        self._bytes = torch.from_numpy(vocabulary.token_bytes.astype(np.int64)).to(device)
        self._spelled = torch.from_numpy(vocabulary.trie.tokens.astype(np.int64)).to(device)

    def apply(self, logits: Tensor, pool: Tensor, rows: Tensor) -> None:
        masked = (rows != FREE).nonzero().flatten()
        allowed = self._unpack(pool[rows[masked].long()])
        logits[masked] = logits[masked].masked_fill(~allowed, float("-inf"))

    def build(self, pool: Tensor, targets: Sequence[int], states: Sequence[int], tables: Tables) -> None:
        automata = single(tables, self._device)
        which = torch.zeros_like(self._spelled)
        for target, state in zip(targets, states, strict=True):
            ends = self._walk(torch.full_like(self._spelled, state), self._spelled, automata, which)
            allowed = torch.zeros(self._size, dtype=torch.bool, device=self._device)
            allowed[self._spelled[ends != DEAD]] = True
            pool[target] = self._pack(allowed)

    def advance(self, states: Tensor, tokens: Tensor, automata: AutomataArrays, which: Tensor) -> Tensor:
        bound = (which != FREE).nonzero().flatten()
        ends = states.clone()
        ends[bound] = self._walk(states[bound].long(), tokens[bound], automata, which[bound].long()).to(torch.int32)
        return ends

    def _walk(self, states: Tensor, tokens: Tensor, automata: AutomataArrays, which: Tensor) -> Tensor:
        """All tokens one byte further, until the longest one has ended. All tensors int64 [n]."""
        starts, lengths = self._starts[tokens], self._lengths[tokens]
        states = states.clone()
        place = 0
        while (going := ((lengths > place) & (states != DEAD)).nonzero().flatten()).numel():
            automaton = which[going]
            classes = automata.classes[automaton, self._bytes[starts[going] + place]].long()
            rows = automata.offsets[automaton] + states[going] * automata.num_classes[automaton]
            states[going] = automata.transitions[rows + classes].long() & _UNSIGNED
            place += 1
        return states

    def _unpack(self, rows: Tensor) -> Tensor:
        """Int32 [R, W] as booleans [R, V]."""
        lanes = torch.arange(32, dtype=torch.int32, device=self._device)
        return ((rows[:, :, None] >> lanes) & 1).flatten(1)[:, : self._size].bool()

    def _pack(self, allowed: Tensor) -> Tensor:
        """Booleans [V] as int32 [W]."""
        words = -(-self._size // 32)
        bits = torch.zeros(words * 32, dtype=torch.int64, device=self._device)
        bits[: self._size] = allowed.long()
        lanes = torch.arange(32, device=self._device)
        return (bits.view(words, 32) << lanes).sum(1).to(torch.int32)
