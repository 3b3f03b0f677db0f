"""The mask operations compiled for the CPU: bits onto logits, a walk of the vocabulary's trie, a step per token."""

# pyright: reportCallIssue=false

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import carray  # pyright: ignore[reportPrivateImportUsage]
from numpy.typing import NDArray

from gpu_worker.grammar.trie import TokenTrie
from gpu_worker.kernels.compiling import Body
from gpu_worker.kernels.simd import claim, keep_lanes, pointer, stack

COUNTER, TASKS = range(2)
_MANY = 1 << 40  # lengths are not needed, as indices are not checked
_MINUS_INFINITY = np.float32(-np.inf)

LOGITS, POOL, ROWS, APPLY_ROWS, SIZE = range(2, 7)
APPLY_ARGUMENTS = 7
SPLIT = 512  # words of a mask row per task


def apply_body() -> Body:
    """A task is SPLIT words of one row. Arguments by the names above; SIZE is V, APPLY_ROWS is unused by the kernel."""

    def body(arguments: Any) -> None:
        a = carray(arguments, (APPLY_ARGUMENTS,), np.int64)
        size = a[SIZE]
        whole = size // 32
        words = (size + 31) // 32
        parts = (words + SPLIT - 1) // SPLIT
        pool = carray(pointer(a[POOL]), (_MANY,), np.int32)
        rows = carray(pointer(a[ROWS]), (_MANY,), np.int32)
        logits = carray(pointer(a[LOGITS]), (_MANY,), np.float32)
        while True:
            task = claim(a[COUNTER])
            if task >= a[TASKS]:
                break
            row = task // parts
            if rows[row] < 0:
                continue
            low = (task - row * parts) * SPLIT
            high = min(words, low + SPLIT)
            mask = rows[row] * words
            first = row * size
            for word in range(low, min(high, whole)):
                keep_lanes(a[LOGITS] + (first + word * 32) * 4, pool[mask + word])
            if high == words:
                for i in range(whole * 32, size):
                    if not (pool[mask + whole] >> (i - whole * 32)) & 1:
                        logits[first + i] = _MINUS_INFINITY

    return body


TARGETS, STATES, OUT, TRANSITIONS, NUM_CLASSES, CLASSES, WORDS = range(2, 9)
NODES, RECORDS, END, TWINS, PAIRS = range(9, 14)
BUILD_ARGUMENTS = 14
_BYTE_AT, _DEPTH_AT = 32, 40  # bits of a record


class Walk(NamedTuple):
    """A trie laid out for the walk: a record tells all about a node in one load.

    No branch asks whether a token ends there: one does in half of the nodes, which no processor can guess. A row with
    48,769 tokens took 0.64 ms with that branch and takes 0.32 without.
    """

    records: NDArray[np.int64]  # [N]: depth, byte, and token * 2 + 1 of a token that ends there, or 0
    end: NDArray[np.int32]  # [N]: the node after the subtree
    twins: NDArray[np.int32]  # [P, 2]: a token, and another with the same spelling that has a record


def walk_of(trie: TokenTrie) -> Walk:
    """Depths below 2**23, tokens below 2**31."""
    ends = trie.count > 0
    token = np.where(ends, trie.tokens[np.where(ends, trie.first, 0)], 0).astype(np.int64) if len(ends) else trie.first
    records = token * 2 + ends | trie.byte.astype(np.int64) << _BYTE_AT | trie.depth.astype(np.int64) << _DEPTH_AT
    leader = np.repeat(trie.tokens[trie.first[ends]], trie.count[ends])
    other = leader != trie.tokens
    twins = np.stack([trie.tokens[other], leader[other]], axis=1)
    return Walk(records, np.ascontiguousarray(trie.end), np.ascontiguousarray(twins))


def build_body(longest: int) -> Body:
    """A task is one row. ``longest``: bytes of the longest token, or more."""
    stack_bytes = (longest + 1) * 8

    def body(arguments: Any) -> None:
        a = carray(arguments, (BUILD_ARGUMENTS,), np.int64)
        words, nodes, width = a[WORDS], a[NODES], a[NUM_CLASSES]
        targets = carray(pointer(a[TARGETS]), (_MANY,), np.int64)
        states = carray(pointer(a[STATES]), (_MANY,), np.int64)
        transitions = carray(pointer(a[TRANSITIONS]), (_MANY,), np.uint16)
        classes = carray(pointer(a[CLASSES]), (256,), np.uint8)
        records = carray(pointer(a[RECORDS]), (_MANY,), np.int64)
        end = carray(pointer(a[END]), (_MANY,), np.int32)
        twins = carray(pointer(a[TWINS]), (_MANY, 2), np.int32)
        path = carray(pointer(stack(stack_bytes)), (longest + 1,), np.int64)  # where each state's transitions start
        while True:
            task = claim(a[COUNTER])
            if task >= a[TASKS]:
                break
            row = carray(pointer(a[OUT] + targets[task] * words * 4), (words,), np.int32)
            for word in range(words):
                row[word] = 0
            if states[task] == 0:
                continue
            path[0] = states[task] * width
            node = np.int64(0)
            while node < nodes:
                record = records[node]
                level = record >> _DEPTH_AT
                state = transitions[path[level - 1] + classes[record >> _BYTE_AT & 0xFF]]
                if state == 0:
                    node = np.int64(end[node])
                    continue
                path[level] = state * width
                row[record >> 6 & 0x3FFFFFF] |= np.int32(record & 1) << np.int32(record >> 1 & 31)
                node += 1
            for pair in range(a[PAIRS]):
                token, twin = twins[pair, 0], twins[pair, 1]
                row[token >> 5] |= (row[twin >> 5] >> (twin & 31) & 1) << (token & 31)

    return body


PLACES, WALKED, WHICH, RESULT, BYTES, STARTS = range(2, 8)
WALK_TRANSITIONS, WALK_OFFSETS, WALK_NUM_CLASSES, WALK_CLASSES = range(8, 12)
ADVANCE_ARGUMENTS = 12


def advance_body() -> Body:
    """A task is one row: the state after its token."""

    def body(arguments: Any) -> None:
        a = carray(arguments, (ADVANCE_ARGUMENTS,), np.int64)
        states = carray(pointer(a[PLACES]), (_MANY,), np.int32)
        tokens = carray(pointer(a[WALKED]), (_MANY,), np.int64)
        automata = carray(pointer(a[WHICH]), (_MANY,), np.int32)
        out = carray(pointer(a[RESULT]), (_MANY,), np.int32)
        spelled = carray(pointer(a[BYTES]), (_MANY,), np.uint8)
        starts = carray(pointer(a[STARTS]), (_MANY,), np.int32)
        transitions = carray(pointer(a[WALK_TRANSITIONS]), (_MANY,), np.uint16)
        offsets = carray(pointer(a[WALK_OFFSETS]), (_MANY,), np.int64)
        num_classes = carray(pointer(a[WALK_NUM_CLASSES]), (_MANY,), np.int32)
        classes = carray(pointer(a[WALK_CLASSES]), (_MANY, 256), np.uint8)
        while True:
            task = claim(a[COUNTER])
            if task >= a[TASKS]:
                break
            state = np.int64(states[task])
            automaton = automata[task]
            if automaton >= 0:
                width = np.int64(num_classes[automaton])
                for at in range(starts[tokens[task]], starts[tokens[task] + 1]):
                    state = np.int64(transitions[offsets[automaton] + state * width + classes[automaton, spelled[at]]])
            out[task] = state

    return body
