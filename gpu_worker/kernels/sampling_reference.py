"""SamplingKernels in plain torch, on any device: the oracle of the others, and what there is where Triton is not.

Sorts whole rows. Weights and the arithmetic on them are those of every implementation, bit for bit; only the
exponential function differs from one to another in its last place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gpu_worker.kernels import sampling as s
from gpu_worker.kernels.sampling import Drawn, Edits, MaskRows, Needs, RowState

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # as int64
_FACTORS = (0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64))
_NO_ENTRY = (1 << (32 - s.ENTRY_SHIFT)) - 1


class PlainSamplingKernels:
    """One operation after the other over whole tensors."""

    def edit(self, state: RowState, edits: Edits) -> None:
        state.lengths[edits.admitted] = 0
        state.ints[edits.admitted] = edits.ints
        state.longs[edits.admitted] = edits.longs
        state.floats[edits.admitted] = edits.floats
        state.doubles[edits.admitted] = edits.doubles
        state.marks[edits.marked] = 0
        owners, places = _ragged(edits.entry_offsets)
        slots = edits.marked[owners]
        state.biases[slots, places] = edits.entry_biases
        state.marks[slots, edits.entry_tokens.long()] = (places + 1).int() << s.ENTRY_SHIFT
        _take_back(state, edits)
        _put(state, edits)

    def draw(self, state: RowState, logits: Tensor, rows: Tensor, needs: Needs, masks: MaskRows | None) -> Drawn:
        slots = rows.clamp(min=0).long()
        flags = state.ints[slots, s.FLAGS]
        logits = logits.float()
        if needs.adjusts:
            logits = _adjusted(state, logits, slots, flags)
        if masks is not None:
            logits = logits.masked_fill(~_allowed(masks, logits.shape[1]), float("-inf"))
        best = logits.max(dim=-1)
        ok = best.values.isfinite() & (rows >= 0) & ((flags & s.IMPOSSIBLE) == 0)
        tokens = best.indices
        if needs.draws:
            scaled = (logits - best.values[:, None]) / state.floats[slots, s.TEMPERATURE, None]
            drawn = _draw(state, torch.where(ok[:, None], scaled, 0.0), slots, needs)
            tokens = torch.where((flags & s.GREEDY) != 0, tokens, drawn)
        tokens = torch.where(ok, tokens, 0)
        _append(state, slots[ok], tokens[ok])
        return Drawn(tokens, ok)


def uniform_bits(seeds: Tensor, indices: Tensor) -> Tensor:
    """``2**53`` times :func:`gpu_worker.sampler.uniform`, int64, from the SEED column and token indices."""
    return _shifted(_mix(seeds + indices.long() * _GOLDEN + 1), 11)


def part_of(parts: Tensor, total: Tensor) -> Tensor:
    """``floor(parts * total / 2**53)`` of int64 up to ``2**53`` and below ``2**62``, exactly."""
    high, low = parts >> 27, parts & ((1 << 27) - 1)
    total_high, total_low = total >> 31, total & ((1 << 31) - 1)
    middle = ((low * total_low) >> 27) + high * total_low + ((low * total_high) << 4)
    return (middle >> 26) + ((high * total_high) << 5)


def _mix(state: Tensor) -> Tensor:
    state = (state ^ _shifted(state, 30)) * _FACTORS[0]
    state = (state ^ _shifted(state, 27)) * _FACTORS[1]
    return state ^ _shifted(state, 31)


def _shifted(value: Tensor, by: int) -> Tensor:
    """Shifted to the right as an unsigned number."""
    return (value >> by) & ((1 << (64 - by)) - 1)


def _ragged(offsets: Tensor) -> tuple[Tensor, Tensor]:
    """For each element of lists that lie one after the other: which list it is in, and where in it."""
    owners = torch.repeat_interleave(torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff().long())
    return owners, torch.arange(len(owners), device=offsets.device) - offsets[owners]


def _take_back(state: RowState, edits: Edits) -> None:
    slots = edits.rows
    positions = torch.arange(state.history.shape[1], device=slots.device)
    gone = (positions >= edits.starts[:, None]) & (positions < state.lengths[slots, None])
    gone &= ((state.ints[slots, s.FLAGS] & s.COUNTED) != 0)[:, None]
    gone &= positions >= state.ints[slots, s.PROMPT_LEN, None]
    which, places = gone.nonzero(as_tuple=True)
    rows = slots[which]
    _count(state, rows, state.history[rows, places].long(), -1)


def _put(state: RowState, edits: Edits) -> None:
    owners, places = _ragged(edits.offsets)
    slots = edits.rows[owners]
    positions = places + edits.starts[owners]
    tokens = edits.tokens.long()
    state.history[slots, positions] = edits.tokens
    counted = (state.ints[slots, s.FLAGS] & s.COUNTED) != 0
    in_prompt = positions < state.ints[slots, s.PROMPT_LEN]
    mark = counted & in_prompt
    state.marks[slots[mark], tokens[mark]] |= s.PROMPT_BIT
    mark = counted & ~in_prompt
    _count(state, slots[mark], tokens[mark], 1)
    state.lengths[edits.rows] = edits.starts + edits.offsets.diff()


def _append(state: RowState, slots: Tensor, tokens: Tensor) -> None:
    fits = state.lengths[slots] < state.history.shape[1]
    slots, tokens = slots[fits], tokens[fits]
    state.history[slots, state.lengths[slots].long()] = tokens.int()
    state.lengths[slots] += 1
    counted = (state.ints[slots, s.FLAGS] & s.COUNTED) != 0
    _count(state, slots[counted], tokens[counted], 1)


def _count(state: RowState, slots: Tensor, tokens: Tensor, by: int) -> None:
    amounts = torch.full_like(tokens, by, dtype=torch.int32)
    state.marks.index_put_((slots, tokens), amounts, accumulate=True)


def _adjusted(state: RowState, logits: Tensor, slots: Tensor, flags: Tensor) -> Tensor:
    marks = torch.where(((flags & s.MARKED) != 0)[:, None], state.marks[slots], 0)
    counts = marks & s.COUNT_MASK
    repetition = state.floats[slots, s.REPETITION, None]
    penalised = torch.where(logits > 0, logits / repetition, logits * repetition)
    logits = torch.where((marks & (s.COUNT_MASK | s.PROMPT_BIT)) != 0, penalised, logits)
    frequency, presence = state.doubles[slots].split(1, dim=1)
    logits = torch.where(counts > 0, logits - (counts * frequency + presence).float(), logits)
    entries = (marks >> s.ENTRY_SHIFT) & _NO_ENTRY  # index + 1
    biases = state.biases[slots].gather(1, (entries - 1).clamp(min=0).long())
    logits = torch.where(entries > 0, logits + biases, logits)
    ints = state.ints[slots]
    early = state.lengths[slots] - ints[:, s.PROMPT_LEN] < ints[:, s.MIN_TOKENS]
    return torch.where((entries > ints[:, s.FIRST_STOP, None]) & early[:, None], float("-inf"), logits)


def _allowed(masks: MaskRows, size: int) -> Tensor:
    tokens = torch.arange(size, device=masks.rows.device)
    words = masks.pool[masks.rows.clamp(min=0).long()][:, tokens // 32]
    return (((words >> (tokens % 32)) & 1) != 0) | (masks.rows < 0)[:, None]


def _draw(state: RowState, scaled: Tensor, slots: Tensor, needs: Needs) -> Tensor:
    weights = _weights(scaled)
    if needs.truncates:
        threshold = _threshold(state, scaled, slots)
        weights = torch.where(scaled >= threshold[:, None], weights, 0)
    mass = weights.cumsum(dim=1)
    indices = state.lengths[slots] - state.ints[slots, s.PROMPT_LEN]
    target = part_of(uniform_bits(state.longs[slots, s.SEED], indices), mass[:, -1])
    return (mass <= target[:, None]).sum(dim=1)


def _weights(scaled: Tensor) -> Tensor:
    return (scaled.exp() * 2.0**s.WEIGHT_BITS).long()


def _threshold(state: RowState, scaled: Tensor, slots: Tensor) -> Tensor:
    """The smallest value that truncation leaves, float32 [L]."""
    size = scaled.shape[1]
    descending = scaled.sort(dim=1, descending=True).values
    top_k = state.ints[slots, s.TOP_K].long()
    top_k = torch.where((top_k > 0) & (top_k < size), top_k, size)
    threshold = descending.gather(1, top_k[:, None] - 1)
    mass = torch.where(descending >= threshold, _weights(descending), 0).cumsum(dim=1)
    total, left_out = mass[:, -1], state.longs[slots, s.LEFT_OUT]
    wanted = total - part_of(left_out, total)
    place = (mass < wanted[:, None]).sum(dim=1, keepdim=True).clamp(max=size - 1)
    nucleus = torch.where(left_out[:, None] > 0, descending.gather(1, place), float("-inf"))
    return torch.maximum(torch.maximum(threshold, nucleus), state.floats[slots, s.LOG_MIN_P, None])[:, 0]
