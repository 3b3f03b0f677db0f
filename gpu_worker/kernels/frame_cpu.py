"""What a pass tells all kernels of a program: numbers and addresses that change from pass to pass."""

from __future__ import annotations

(
    TOKENS, INPUT_IDS, POSITIONS, SLOTS, COS, SIN, TABLES, TABLE_WIDTH, PAGE_SIZE,
    SINGLE, NUM_SINGLE, SEVERAL, NUM_SEVERAL, QUERIES, PART_STARTS, PART_LIST, PARTS,
    WANTED, NUM_WANTED,
) = range(19)  # fmt: skip
FIELDS = 19

COUNTER, FRAME = 0, 1
"""The first two arguments of every kernel: the address of its task counter, and that of the frame."""
