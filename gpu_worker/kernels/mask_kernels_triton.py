"""MaskKernels on a device that Triton compiles for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpu_worker.grammar.vocabulary import Vocabulary
from gpu_worker.kernels import mask_triton
from gpu_worker.kernels.automata import AutomataArrays
from shared.grammar import Tables

_TOKENS = 1024  # of one program: 32 words of a mask row
_ROWS = 32  # of one program of advance
_KEPT = 64  # automata that stay on the device


class _OnDevice(NamedTuple):
    tables: Tables  # held, so that its identity stays its own
    transitions: Tensor  # int16 [S, C]
    classes: Tensor  # uint8 [256]


class TritonMaskKernels:
    """For one stream. The automata used last for building stay on the device."""

    def __init__(self, vocabulary: Vocabulary, device: torch.device) -> None:
        self._size, self._words = vocabulary.size, vocabulary.words
        self._device = device
        self._bytes = torch.from_numpy(vocabulary.token_bytes.copy()).to(device)
        self._starts = torch.from_numpy(vocabulary.token_starts.copy()).to(device)
        self._automata: OrderedDict[int, _OnDevice] = OrderedDict()

    def apply(self, logits: Tensor, pool: Tensor, rows: Tensor) -> None:
        launch: Any = mask_triton.apply_rows
        if len(rows):
            launch[len(rows), -(-self._size // _TOKENS)](logits, pool, rows, self._size, self._words, BLOCK=_TOKENS)

    def build(self, pool: Tensor, targets: Sequence[int], states: Sequence[int], tables: Tables) -> None:
        if not targets:
            return
        automaton = self._placed(tables)
        places = torch.tensor([targets, states], dtype=torch.int32).to(self._device)
        launch: Any = mask_triton.build_rows
        launch[len(targets), -(-self._size // _TOKENS)](
            pool,
            places[0],
            places[1],
            automaton.transitions,
            automaton.transitions.shape[1],
            automaton.classes,
            self._bytes,
            self._starts,
            self._size,
            self._words,
            BLOCK=_TOKENS,
        )

    def advance(self, states: Tensor, tokens: Tensor, automata: AutomataArrays, which: Tensor) -> Tensor:
        after = torch.empty_like(states)
        launch: Any = mask_triton.advance
        if len(states):
            launch[(-(-len(states) // _ROWS),)](
                after, states, tokens, which, *automata, self._bytes, self._starts, len(states), BLOCK=_ROWS
            )
        return after

    def _placed(self, tables: Tables) -> _OnDevice:
        found = self._automata.get(id(tables))
        if found is not None:
            self._automata.move_to_end(id(tables))
            return found
        transitions = np.array(tables.transitions, np.uint16).view(np.int16)
        placed = _OnDevice(
            tables,
            torch.from_numpy(transitions).to(self._device),
            torch.from_numpy(np.array(tables.classes, np.uint8)).to(self._device),
        )
        self._automata[id(tables)] = placed
        if len(self._automata) > _KEPT:
            self._automata.popitem(last=False)
        return placed
