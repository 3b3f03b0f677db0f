"""The decoder of models/decoder.py on a CPU: one compiled program a pass, weights packed, activations float32 between.

Products take their operands in the form their weights ask for (kernels/activations_cpu.py); the residual, queries and
what comes out of attention are float32. Keys and values have the model's dtype. Knows nothing of requests or files.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpu_worker.flat_batch import FlatBatch, Pass
from gpu_worker.kernels import attention_merge_cpu, frame_cpu, product_cpu
from gpu_worker.kernels.attention_tasks import Work, attention_work, work_of_each_alone
from gpu_worker.kernels.panels import Format, Packed
from gpu_worker.kernels.product_cpu import Ending
from gpu_worker.kernels.program_cpu import Program
from gpu_worker.kernels.rms_norm import rms_norm
from gpu_worker.kernels.rotary import cos_sin
from gpu_worker.kernels.team import Team
from gpu_worker.kernels.thread_policy import ThreadPolicy
from gpu_worker.kv_pool import KVPool
from gpu_worker.models.config import ModelConfig
from gpu_worker.models.pass_program import Kernels, PackedLayer, PassBuilder
from gpu_worker.sharing import nothing_shared

_CAPACITY = 64  # tokens that the first program has room for


class CompiledDecoder:
    """A model ready to run on this machine's cores. For one thread at a time."""

    def __init__(
        self,
        config: ModelConfig,
        dtype: torch.dtype,
        *,
        embedding: Packed,
        layers: tuple[PackedLayer, ...],
        final_norm: Tensor,
        lm_head: Packed,
        frequencies: Tensor,
    ) -> None:
        """``dtype`` is that of keys and values: float32 or bfloat16."""
        self.config = config
        self.dtype = dtype
        self.alone = False  # attention computes each row as if it were, to the last bit (but for windows); slower
        self.device = torch.device("cpu")
        self._embedding = embedding
        self._layers = layers
        self._final_norm = final_norm
        self._lm_head = lm_head
        self._team = Team()
        self._threads: ThreadPolicy | None = None
        self._kernels = Kernels(config, dtype)
        self._rotary = _RotaryTable(frequencies, config.rope.attention_factor)
        self._has_windows = any(layer.window for layer in layers)
        self._frame = np.zeros(frame_cpu.FIELDS, np.int64)
        self._capacity = 0
        self._pool: KVPool | None = None
        self._program: Program
        self._logits_arguments: np.ndarray

    @property
    def precision(self) -> str:
        """What weights and KV are stored in, for people."""
        dtype = str(self.dtype).removeprefix("torch.")
        formats = {layer.qkv.weight.format for layer in self._layers} | {
            layer.down.weight.format for layer in self._layers
        }
        if not any(form.is_grouped for form in formats):
            return dtype
        names = {Format.Q4: "4-bit", Format.Q8: "8-bit", Format.BF16: "bfloat16", Format.F32: "float32"}
        weights = " and ".join(names[form] for form in sorted(formats, reverse=True))
        return f"{weights} weights, {dtype} KV"

    def attention_plan(self, _page_size: int, _rows: int) -> None:
        """A pass plans for itself."""
        return

    def forward(self, batch: FlatBatch, pool: KVPool) -> Tensor:
        """Compute all T tokens, writing their KV; float32 logits [L, vocab_size] of ``batch.logit_indices``."""
        tokens = len(batch.input_ids)
        if tokens > self._capacity or pool is not self._pool:
            self._build(max(tokens, _CAPACITY, self._capacity), pool)
        held = self._fill(batch, pool)
        logits = torch.empty(len(batch.logit_indices), self.config.vocab_size)
        self._logits_arguments[product_cpu.OUT] = logits.data_ptr()
        self._run()
        del held
        return logits

    def forward_with_states(self, batch: FlatBatch, pool: KVPool, tokens: Tensor) -> Pass:
        """As ``forward``, and the last hidden states of flat ``tokens``, int64 [M].

        They are what the last product is given, before it is put in the form that the product's weights ask for.
        """
        logits = self.forward(batch, pool)
        return Pass(logits, rms_norm(self._builder.residual[tokens], self._final_norm, self.config.rms_norm_eps))

    def _run(self) -> None:
        """Run the program on as many threads as get a core."""
        if self._threads is None:
            self._threads = ThreadPolicy(torch.get_num_threads())
        elif torch.get_num_threads() != self._threads.count:
            torch.set_num_threads(self._threads.count)
        begin, used = time.perf_counter(), time.process_time()
        self._program.run()
        now = time.perf_counter()
        self._threads.observe(now - begin, time.process_time() - used, now)

    def _fill(self, batch: FlatBatch, pool: KVPool) -> list[Any]:
        """Write the frame; returns what has to stay alive while the program runs."""
        config = self.config
        slots, tables = batch.slots, batch.page_tables
        if int(slots.max()) >= pool.capacity or int(tables.max()) >= pool.num_pages or int(slots.min()) < 0:
            raise IndexError("the batch names pages beyond the pool: compiled kernels would write outside it")
        if int(batch.input_ids.max()) >= config.vocab_size or int(batch.input_ids.min()) < 0:
            raise IndexError("the batch names tokens beyond the vocabulary")
        work = self._work(batch, pool.page_size)
        cos, sin = self._rotary.upto(batch.max_kv_len)
        parts = torch.empty(work.num_parts * config.num_heads * (config.head_dim + attention_merge_cpu.PART_EXTRA))
        tensors = [batch.input_ids, batch.positions, batch.slots, batch.page_tables, batch.logit_indices]
        ids, positions, slots, tables, wanted = tensors = [tensor.contiguous() for tensor in tensors]
        frame = self._frame
        frame[frame_cpu.TOKENS] = len(ids)
        frame[frame_cpu.INPUT_IDS] = ids.data_ptr()
        frame[frame_cpu.POSITIONS] = positions.data_ptr()
        frame[frame_cpu.SLOTS] = slots.data_ptr()
        frame[frame_cpu.COS], frame[frame_cpu.SIN] = cos.data_ptr(), sin.data_ptr()
        frame[frame_cpu.TABLES] = tables.data_ptr()
        frame[frame_cpu.TABLE_WIDTH] = tables.shape[1]
        frame[frame_cpu.PAGE_SIZE] = pool.page_size
        frame[frame_cpu.SINGLE], frame[frame_cpu.NUM_SINGLE] = work.single.ctypes.data, len(work.single)
        frame[frame_cpu.SEVERAL], frame[frame_cpu.NUM_SEVERAL] = work.several.ctypes.data, len(work.several)
        frame[frame_cpu.QUERIES] = work.queries.ctypes.data
        frame[frame_cpu.PART_STARTS] = work.part_starts.ctypes.data
        frame[frame_cpu.PART_LIST] = work.part_list.ctypes.data
        frame[frame_cpu.PARTS] = parts.data_ptr()
        frame[frame_cpu.WANTED], frame[frame_cpu.NUM_WANTED] = wanted.data_ptr(), len(wanted)
        return [tensors, work, parts, cos, sin]

    def _work(self, batch: FlatBatch, page_size: int) -> Work:
        starts, kv_lens, block = batch.host_starts, batch.host_kv_lens, self._kernels.block
        if self.alone:
            return work_of_each_alone(starts, kv_lens, block)
        # a shared stretch would have to end where a window begins, which differs from row to row
        sharing = nothing_shared(batch.num_decodes) if self._has_windows else batch.sharing
        threads = torch.get_num_threads()
        return attention_work(
            starts, kv_lens, batch.num_decodes, sharing, page_size, block, self.config.num_kv_heads, threads
        )

    def _build(self, capacity: int, pool: KVPool) -> None:
        """The program for up to ``capacity`` tokens and this pool."""
        config, kernels = self.config, self._kernels
        builder = PassBuilder(kernels, self._frame, capacity, config)
        builder.embed(self._embedding)
        for index, layer in enumerate(self._layers):
            builder.norm(layer.input_norm, layer.qkv.weight)
            builder.product(layer.qkv, builder.qkv, Ending.STORE)
            keys, values = pool.keys[index].data_ptr(), pool.values[index].data_ptr()
            builder.attend(layer, keys, values)
            builder.product(layer.out, builder.residual, Ending.ADD)
            builder.norm(layer.post_norm, layer.gate_up.weight)
            builder.product(layer.gate_up, builder.gated, Ending.GATE)
            builder.convert(builder.gated, layer.down.weight)
            builder.product(layer.down, builder.residual, Ending.ADD)
        builder.norm(self._final_norm, self._lm_head, only_wanted=True)
        self._logits_arguments = builder.logits(self._lm_head)
        self._builder = builder  # its buffers are the program's
        self._program = Program(builder.ops, self._team)
        self._capacity, self._pool = capacity, pool


class _RotaryTable:
    """Cosines and sines of all positions so far needed, float32 [positions, D / 2]."""

    def __init__(self, frequencies: Tensor, scale: float) -> None:
        self._frequencies = frequencies
        self._scale = scale
        self._tables = cos_sin(torch.arange(0), frequencies, scale)

    def upto(self, positions: int) -> tuple[Tensor, Tensor]:
        known = len(self._tables[0])
        if positions > known:
            wanted = torch.arange(max(positions, 2 * known, 1024))
            self._tables = cos_sin(wanted, self._frequencies, self._scale)
        return self._tables
