"""What sampling on a device asks of its kernels: rows kept on the device, edits of them, and the draw.

Everything a draw depends on stays on the device, and a draw writes its tokens back there: the next one can be launched
before the host has read them. Nothing here waits for the device.

Shapes: R row slots, V tokens, C positions of a row's history, L rows of one draw. What is drawn is defined by
:mod:`gpu_worker.sampler`. Weights are whole multiples of ``2**-WEIGHT_BITS``, the best token's being 1: sums of whole
numbers are the same in any order, so a row draws the same token whatever its neighbours and however it is split.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

WEIGHT_BITS = 43
MOST_TOKENS = 1 << 19  # V: the sum of all weights is below 2**62
MOST_POSITIONS = 1 << 20  # C: a token's count fits beside what else a mark says
MOST_ENTRIES = 2047  # tokens of a row that have a bias, or end the text and are masked before min_tokens

# Columns of RowState.ints
FLAGS, TOP_K, PROMPT_LEN, MIN_TOKENS, FIRST_STOP, INTS = 0, 1, 2, 3, 4, 8
# Columns of RowState.longs; SEED after one round of SplitMix64; LEFT_OUT is 2**53 (1 - top_p), 0 where that is off
SEED, LEFT_OUT, LONGS = 0, 1, 2
# Columns of RowState.floats; LOG_MIN_P is minus infinity where min_p is off
TEMPERATURE, LOG_MIN_P, REPETITION, FLOATS = 0, 1, 2, 4
# Columns of RowState.doubles
FREQUENCY, PRESENCE, DOUBLES = 0, 1, 2

# Bits of FLAGS
GREEDY = 1
MARKED = 2  # the row's marks say something
COUNTED = 4  # and count its tokens
IMPOSSIBLE = 8  # a biased token does not exist: no token may be drawn

# Bits of a mark: how often the token is in the output, whether it is in the prompt, its entry's index + 1
COUNT_MASK = (1 << 20) - 1
PROMPT_BIT = 1 << 20
ENTRY_SHIFT = 21


class RowState(NamedTuple):
    """Columns on the device, by row slot. Captured graphs hold their addresses: they are never replaced."""

    ints: Tensor  # int32 [R, INTS]
    longs: Tensor  # int64 [R, LONGS]
    floats: Tensor  # float32 [R, FLOATS]
    doubles: Tensor  # float64 [R, DOUBLES]
    lengths: Tensor  # int32 [R], tokens of the row: prompt and output
    history: Tensor  # int32 [R, C], those tokens
    marks: Tensor  # int32 [R, V], see the bits above; meaningless in rows that are not MARKED
    biases: Tensor  # float32 [R, MOST_ENTRIES + 1], by entry; entries from FIRST_STOP on are masked before min_tokens


class Edits(NamedTuple):
    """What the host writes, on the device; applied in the order of the fields. No row is named twice in one of them."""

    admitted: Tensor  # int64 [A], slots that begin anew: no tokens, these columns
    ints: Tensor  # int32 [A, INTS]
    longs: Tensor  # int64 [A, LONGS]
    floats: Tensor  # float32 [A, FLOATS]
    doubles: Tensor  # float64 [A, DOUBLES]
    marked: Tensor  # int64 [B], those admitted slots that are MARKED
    entry_offsets: Tensor  # int32 [B + 1], into the entries
    entry_tokens: Tensor  # int32 [N], no token twice in one row
    entry_biases: Tensor  # float32 [N]
    rows: Tensor  # int64 [E], slots whose tokens change
    starts: Tensor  # int32 [E], the first position that does; the row ends after its new tokens
    offsets: Tensor  # int32 [E + 1], into the new tokens
    tokens: Tensor  # int32 [T]
    longest: int  # most new tokens of one row


class MaskRows(NamedTuple):
    """The masks of a draw's rows, see :mod:`gpu_worker.kernels.masks`."""

    pool: Tensor  # int32 [M, ceil(V / 32)]
    rows: Tensor  # int32 [L], an index into the pool, or FREE


class Needs(NamedTuple):
    """What a draw has to do. Doing more than its rows need costs time and changes no token."""

    adjusts: bool  # some row has penalties, biases or min_tokens
    draws: bool  # some row is not greedy
    truncates: bool  # some row has top-k, top-p or min-p


class Drawn(NamedTuple):
    """The chosen tokens of L rows, on the device."""

    tokens: Tensor  # int64 [L]; 0 where not ok
    ok: Tensor  # bool [L]: False where logits are not numbers or nothing is left to choose, and in padding


class SamplingKernels(Protocol):
    """The operations of one device, for one stream and one thread at a time."""

    def edit(self, state: RowState, edits: Edits) -> None:
        """Apply edits. Tokens beyond a row's new end are forgotten, in its counts too."""
        ...

    def draw(self, state: RowState, logits: Tensor, rows: Tensor, needs: Needs, masks: MaskRows | None) -> Drawn:
        """Draw a token for each row slot in ``rows``, append it to the row's history and count it.

        ``logits`` float32, bfloat16 or float16 [L, V], the last dimension contiguous; they may be overwritten.
        ``rows`` int32 [L]: row slots, none of them twice, or -1 for padding. A row that is not ok stays as it is.
        """
        ...
