"""Edits of the rows on the device, collected on the host and packed into one copy.

Knows the layout of the columns, and nothing of what is drawn from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpu_worker.kernels import sampling as s
from gpu_worker.kernels.sampling import Edits
from gpu_worker.sampler import GREEDY_BELOW, seed_state
from shared.protocol import Sampling

_ONE = 1 << 53  # of LEFT_OUT
_ALIGNMENT = 8


class Columns(NamedTuple):
    """One admitted row: its entries in the columns of RowState, and the tokens with a bias or masked at first."""

    ints: np.ndarray  # int32 [INTS]
    longs: np.ndarray  # int64 [LONGS]
    floats: np.ndarray  # float32 [FLOATS]
    doubles: np.ndarray  # float64 [DOUBLES]
    entry_tokens: np.ndarray  # int32 [n], without repetition; ends of text come last
    entry_biases: np.ndarray  # float32 [n]

    @property
    def flags(self) -> int:
        return int(self.ints[s.FLAGS])


class Edit(NamedTuple):
    """What has changed of one row since the last copy."""

    columns: Columns | None  # of a row that begins anew
    start: int  # where its tokens change
    tokens: np.ndarray  # int32: all from there on


def columns_of(sampling: Sampling, prompt_len: int, vocab_size: int) -> Columns:
    """The columns of a row. ValueError if its biases and stop tokens are more than the kernels hold."""
    biases: dict[int, float] = {}
    for token, bias in sampling.logit_bias:
        biases[token] = biases.get(token, 0.0) + bias
    impossible = any(not 0 <= token < vocab_size for token in biases)
    if impossible:
        biases.clear()
    stops = {token for token in sampling.stop_token_ids if 0 <= token < vocab_size} if sampling.min_tokens > 0 else ()
    entries = [token for token in biases if token not in stops]
    first_stop = len(entries)
    entries += stops
    if len(entries) > s.MOST_ENTRIES:
        raise ValueError(f"{len(entries)} biases and stop tokens in one row, {s.MOST_ENTRIES} can be held")
    counted = bool(
        sampling.repetition_penalty != 1.0 or sampling.frequency_penalty != 0.0 or sampling.presence_penalty != 0.0
    )
    columns = Columns(
        np.zeros(s.INTS, np.int32),
        np.zeros(s.LONGS, np.int64),
        np.zeros(s.FLOATS, np.float32),
        np.array((sampling.frequency_penalty, sampling.presence_penalty), np.float64),
        np.array(entries, np.int32),
        np.array([biases.get(token, 0.0) for token in entries], np.float32),
    )
    is_greedy = sampling.temperature < GREEDY_BELOW
    columns.ints[s.FLAGS] = (
        is_greedy * s.GREEDY | bool(counted or entries) * s.MARKED | counted * s.COUNTED | impossible * s.IMPOSSIBLE
    )
    columns.ints[[s.PROMPT_LEN, s.MIN_TOKENS, s.FIRST_STOP]] = prompt_len, sampling.min_tokens, first_stop
    columns.longs[s.SEED] = np.uint64(seed_state(sampling.seed)).astype(np.int64)
    columns.floats[[s.TEMPERATURE, s.REPETITION]] = (
        1.0 if is_greedy else sampling.temperature,
        sampling.repetition_penalty,
    )
    columns.floats[s.LOG_MIN_P] = -np.inf
    if not is_greedy:
        columns.ints[s.TOP_K] = sampling.top_k if 0 < sampling.top_k < vocab_size else 0
        columns.longs[s.LEFT_OUT] = min(max(0, _ONE - round(sampling.top_p * _ONE)), _ONE - 1)
        if sampling.min_p > 0.0:
            columns.floats[s.LOG_MIN_P] = np.log(np.float32(sampling.min_p))
    return columns


def pack(edits: Mapping[int, Edit], device: torch.device) -> Edits:
    """The edits by row slot, on the device: one copy, which on CUDA nobody waits for."""
    admitted = [(row, edit.columns) for row, edit in edits.items() if edit.columns is not None]
    marked = [(row, columns) for row, columns in admitted if columns.flags & s.MARKED]
    lengths = [len(edit.tokens) for edit in edits.values()]
    host = (
        np.array([row for row, _ in admitted], np.int64),
        _stacked([columns.ints for _, columns in admitted], s.INTS, np.int32),
        _stacked([columns.longs for _, columns in admitted], s.LONGS, np.int64),
        _stacked([columns.floats for _, columns in admitted], s.FLOATS, np.float32),
        _stacked([columns.doubles for _, columns in admitted], s.DOUBLES, np.float64),
        np.array([row for row, _ in marked], np.int64),
        _offsets([len(columns.entry_tokens) for _, columns in marked]),
        _joined([columns.entry_tokens for _, columns in marked], np.int32),
        _joined([columns.entry_biases for _, columns in marked], np.float32),
        np.array(list(edits), np.int64),
        np.array([edit.start for edit in edits.values()], np.int32),
        _offsets(lengths),
        _joined([edit.tokens for edit in edits.values()], np.int32),
    )
    return Edits(*_copied(host, device), longest=max(lengths, default=0))


def _copied(arrays: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """The arrays on the device, as views of one buffer. Pinned memory is not used again before it has been read."""
    places: list[int] = []
    end = 0
    for array in arrays:
        places.append(end)
        end += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    packed = torch.empty(end, dtype=torch.uint8, pin_memory=device.type == "cuda")
    view = packed.numpy()
    for place, array in zip(places, arrays, strict=True):
        view[place : place + array.nbytes] = array.reshape(-1).view(np.uint8)
    there = packed.to(device, non_blocking=True)
    return [
        there[place : place + array.nbytes].view(torch.from_numpy(array).dtype).reshape(array.shape)
        for place, array in zip(places, arrays, strict=True)
    ]


def _stacked(arrays: list[np.ndarray], width: int, dtype: type[np.generic]) -> np.ndarray:
    return np.stack(arrays) if arrays else np.zeros((0, width), dtype)


def _joined(arrays: list[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype)


def _offsets(lengths: list[int]) -> np.ndarray:
    return np.concatenate((np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32))).astype(np.int32)
