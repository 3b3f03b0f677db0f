"""The sampler that never waits: rows live on the device, and a draw leaves its tokens there for the next one.

Draws what :mod:`gpu_worker.sampler` defines, token for token, save where the rounding of an exponential decides. The
host says when a row begins, what it forces on it and what it takes back; the device appends what is drawn by itself, so
that a second draw may be launched before the host has read the first. Knows nothing of the model, of KV or of grammars.

One step of an engine::

    sampler.admit(row, sampling, token_ids, prompt_len)  # and replace(), as the host learns of things
    needs = sampler.needs(rows)
    drawn = sampler.draw(logits, rows_on_device, needs, masks)  # or: sampler.flush(); graph.replay()
    # drawn.tokens are the input of the next forward pass, and reach the host when they do
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gpu_worker.kernels import sampling as s
from gpu_worker.kernels.sampling import Drawn, MaskRows, Needs, RowState, SamplingKernels
from gpu_worker.row_edits import Columns, Edit, columns_of, pack
from shared.protocol import Sampling


class DeviceSampler:
    """The rows of one batch, by slot. For one thread and one stream; draws and edits take effect in order."""

    def __init__(
        self, kernels: SamplingKernels, vocab_size: int, max_rows: int, context_length: int, device: torch.device
    ) -> None:
        """Takes ``4 * max_rows * (vocab_size + context_length)`` bytes of the device, and a little more.

        ValueError if the vocabulary or the context is larger than the kernels' arithmetic allows.
        """
        if not 0 < vocab_size <= s.MOST_TOKENS:
            raise ValueError(f"a vocabulary of {vocab_size} tokens, at most {s.MOST_TOKENS} can be drawn from")
        if not 0 < context_length + 1 < s.MOST_POSITIONS:
            raise ValueError(f"a context of {context_length} tokens, at most {s.MOST_POSITIONS - 2} can be counted")
        self._kernels = kernels
        self._vocab_size = vocab_size
        self._capacity = context_length + 1
        self._device = device
        self._state = RowState(
            torch.zeros((max_rows, s.INTS), dtype=torch.int32, device=device),
            torch.zeros((max_rows, s.LONGS), dtype=torch.int64, device=device),
            torch.zeros((max_rows, s.FLOATS), dtype=torch.float32, device=device),
            torch.zeros((max_rows, s.DOUBLES), dtype=torch.float64, device=device),
            torch.zeros(max_rows, dtype=torch.int32, device=device),
            torch.zeros((max_rows, self._capacity), dtype=torch.int32, device=device),
            torch.zeros((max_rows, vocab_size), dtype=torch.int32, device=device),
            torch.zeros((max_rows, s.MOST_ENTRIES + 1), dtype=torch.float32, device=device),
        )
        self._prompt_lens = [0] * max_rows
        self._needs = np.zeros((max_rows, len(Needs._fields)), bool)
        self._edits: dict[int, Edit] = {}

    @property
    def lengths(self) -> Tensor:
        """Tokens of each row, drawn ones included: int32 [max_rows] on the device, for reading."""
        return self._state.lengths

    @property
    def history(self) -> Tensor:
        """Those tokens, prompt and output: int32 [max_rows, context_length + 1] on the device, for reading."""
        return self._state.history

    def admit(self, row: int, sampling: Sampling, token_ids: np.ndarray, prompt_len: int) -> None:
        """A row slot begins anew: ``token_ids`` int32 [n] are its prompt and what was generated before.

        The next token drawn for it has index ``n - prompt_len``. Reaches the device with the next flush. ValueError if
        it does not fit, or has more biases than can be held; the slot then stays as it was.
        """
        columns = columns_of(sampling, prompt_len, self._vocab_size)
        tokens = np.array(token_ids, np.int32)
        self._check(0, len(tokens))
        self._edits[row] = Edit(columns, 0, tokens)
        self._prompt_lens[row] = prompt_len
        self._needs[row] = _needs_of(columns)

    def replace(self, row: int, start: int, tokens: Sequence[int]) -> None:
        """The row's tokens from position ``start`` on are ``tokens``, whatever was drawn there; it ends after them.

        To append what the host forces, ``start`` is the length of the row as the host knows it. Without tokens, what
        was drawn from ``start`` on is discarded, and drawn again it will be the same. Positions count from the
        beginning of the prompt. Reaches the device with the next flush. ValueError for positions inside the prompt,
        beyond the context, or beyond what was replaced but has not been flushed.
        """
        self._check(start, len(tokens))
        if start < self._prompt_lens[row]:
            raise ValueError(f"position {start} of row {row} lies in its prompt")
        new = np.array(tokens, np.int32)
        before = self._edits.get(row)
        if before is None or (before.columns is None and start <= before.start):
            self._edits[row] = Edit(None, start, new)
            return
        kept = start - before.start
        if kept > len(before.tokens):
            raise ValueError(f"row {row} ends at {before.start + len(before.tokens)}, before position {start}")
        self._edits[row] = before._replace(tokens=np.concatenate((before.tokens[:kept], new)))

    def append(self, row: int, length: int, tokens: Sequence[int]) -> None:
        """Tokens that the host forces after the first ``length`` of the row. See :meth:`replace`."""
        self.replace(row, length, tokens)

    def rewind(self, row: int, length: int) -> None:
        """Discard what was drawn beyond the first ``length`` tokens of the row. See :meth:`replace`."""
        self.replace(row, length, ())

    def needs(self, rows: Sequence[int] | np.ndarray) -> Needs:
        """The least that a draw for these row slots has to do; a captured draw may do more. Padding needs nothing."""
        slots = np.asarray(rows, np.int64)
        found = self._needs[slots[slots >= 0]]
        return Needs(*(bool(column.any()) for column in found.T))

    def flush(self) -> None:
        """Send what the host has said since the last time: one copy and a few launches, none if it said nothing.

        RuntimeError while a graph is being captured, which would repeat it.
        """
        if self._edits:
            if self._device.type == "cuda" and torch.cuda.is_current_stream_capturing():
                raise RuntimeError("what the host has said of rows cannot be captured: flush before")
            edits, self._edits = self._edits, {}
            self._kernels.edit(self._state, pack(edits, self._device))

    @torch.inference_mode()
    def draw(self, logits: Tensor, rows: Tensor, needs: Needs, masks: MaskRows | None = None) -> Drawn:
        """Draw a token for each row, append it to the row and advance its index, all on the device.

        ``logits`` float32, bfloat16 or float16 [L, V], which may be overwritten; ``rows`` int32 [L], row slots on the
        device, none twice, -1 for padding; ``masks`` for rows that obey grammars. ``needs`` at least those of the rows.
        Flushes first. In a captured graph, which fixes L, ``needs`` and whether there are masks, nothing may be left to
        flush: flush before every replay. ValueError for logits of another vocabulary.

        Kernels are compiled, in seconds, at the first draw of their kind. A draw of nothing but padding, with as many
        rows, the same needs, types and presence of masks, brings that forward and changes nothing.
        """
        if logits.shape[1] != self._vocab_size:
            raise ValueError(f"logits of {logits.shape[1]} tokens, the vocabulary has {self._vocab_size}")
        self.flush()
        return self._kernels.draw(self._state, logits, rows, needs, masks)

    def _check(self, start: int, count: int) -> None:
        if start < 0 or start + count > self._capacity:
            raise ValueError(f"positions {start} to {start + count}, a row has room for {self._capacity}")


def _needs_of(columns: Columns) -> Needs:
    truncates = bool(columns.ints[s.TOP_K] or columns.longs[s.LEFT_OUT] or columns.floats[s.LOG_MIN_P] != float("-inf"))
    return Needs(
        adjusts=bool(columns.flags & s.MARKED),
        draws=not columns.flags & s.GREEDY,
        truncates=truncates,
    )
