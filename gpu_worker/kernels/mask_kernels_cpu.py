"""MaskKernels on the CPU: the compiled kernels of :mod:`gpu_worker.kernels.mask_cpu` with their arguments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gpu_worker.grammar.vocabulary import Vocabulary
from gpu_worker.kernels import mask_cpu
from gpu_worker.kernels.automata import AutomataArrays
from gpu_worker.kernels.launch import KernelCall
from gpu_worker.kernels.team import Team
from shared.grammar import Tables

_ALONE = (
    4_000_000  # logits: 64 rows of 49,152 take 164 us on one thread, 117 on two, and 8 ms on two beside busy programs
)


class CpuMaskKernels:
    """For one thread at a time: argument arrays are reused."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._size, self._words = vocabulary.size, vocabulary.words
        team = Team()
        depth = 1 << vocabulary.longest.bit_length()  # few different ones: each is compiled on its own
        self._apply = KernelCall(mask_cpu.apply_body(), mask_cpu.APPLY_ARGUMENTS, team)
        self._build = KernelCall(mask_cpu.build_body(depth), mask_cpu.BUILD_ARGUMENTS, team)
        self._advance = KernelCall(mask_cpu.advance_body(), mask_cpu.ADVANCE_ARGUMENTS, team)
        self._apply.arguments[mask_cpu.SIZE] = self._size
        walk, build = mask_cpu.walk_of(vocabulary.trie), self._build.arguments
        build[mask_cpu.WORDS] = self._words
        build[mask_cpu.NODES] = len(walk.records)
        build[mask_cpu.RECORDS] = walk.records.ctypes.data
        build[mask_cpu.END] = walk.end.ctypes.data
        build[mask_cpu.TWINS] = walk.twins.ctypes.data
        build[mask_cpu.PAIRS] = len(walk.twins)
        self._advance.arguments[mask_cpu.BYTES] = vocabulary.token_bytes.ctypes.data
        self._advance.arguments[mask_cpu.STARTS] = vocabulary.token_starts.ctypes.data
        self._held = (vocabulary, walk)  # the kernels know their arrays by address
        self._tables: Tables | None = None
        self._taken: tuple[np.ndarray, np.ndarray] | None = None

    def apply(self, logits: Tensor, pool: Tensor, rows: Tensor) -> None:
        _check(logits, torch.float32, (len(rows), self._size))
        _check(pool, torch.int32, (len(pool), self._words))
        _check(rows, torch.int32, (len(rows),))
        a = self._apply.arguments
        a[mask_cpu.LOGITS] = logits.data_ptr()
        a[mask_cpu.POOL] = pool.data_ptr()
        a[mask_cpu.ROWS] = rows.data_ptr()
        self._apply.run(len(rows) * -(-self._words // mask_cpu.SPLIT), alone=logits.numel() <= _ALONE)

    def build(self, pool: Tensor, targets: Sequence[int], states: Sequence[int], tables: Tables) -> None:
        _check(pool, torch.int32, (len(pool), self._words))
        if not all(0 <= target < len(pool) for target in targets):
            raise IndexError(f"the mask pool has {len(pool)} rows, asked for {targets}")
        if not all(0 <= state < len(tables.transitions) for state in states):
            raise IndexError(f"the automaton has {len(tables.transitions)} states, asked for {states}")
        places = np.array([targets, states], np.int64)
        a = self._build.arguments
        a[mask_cpu.TARGETS] = places.ctypes.data
        a[mask_cpu.STATES] = a[mask_cpu.TARGETS] + places.strides[0]
        a[mask_cpu.OUT] = pool.data_ptr()
        if tables is not self._tables:
            self._take(tables)
        self._build.run(len(targets))

    def advance(self, states: Tensor, tokens: Tensor, automata: AutomataArrays, which: Tensor) -> Tensor:
        _check(states, torch.int32, (len(states),))
        _check(tokens, torch.int64, (len(states),))
        _check(which, torch.int32, (len(states),))
        result = torch.empty_like(states)
        a = self._advance.arguments
        a[mask_cpu.PLACES] = states.data_ptr()
        a[mask_cpu.WALKED] = tokens.data_ptr()
        a[mask_cpu.WHICH] = which.data_ptr()
        a[mask_cpu.RESULT] = result.data_ptr()
        a[mask_cpu.WALK_TRANSITIONS : mask_cpu.WALK_CLASSES + 1] = [tensor.data_ptr() for tensor in automata]
        self._advance.run(len(states), alone=True)
        return result

    def _take(self, tables: Tables) -> None:
        """Build from this automaton until another one comes: asking numpy for two addresses takes 3 us."""
        transitions = np.ascontiguousarray(tables.transitions)
        classes = np.ascontiguousarray(tables.classes)
        a = self._build.arguments
        a[mask_cpu.TRANSITIONS] = transitions.ctypes.data
        a[mask_cpu.NUM_CLASSES] = transitions.shape[1]
        a[mask_cpu.CLASSES] = classes.ctypes.data
        self._tables, self._taken = tables, (transitions, classes)


def _check(tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """The kernels read memory by these."""
    if tensor.dtype != dtype or tensor.shape != shape or not tensor.is_contiguous():
        raise ValueError(
            f"expected a contiguous {dtype} tensor of shape {shape}, got {tensor.dtype} {tuple(tensor.shape)}"
        )
