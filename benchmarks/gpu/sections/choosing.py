"""From logits to tokens: the sampler's draw, and the masks of grammars."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu.floors import Work
from benchmarks.gpu.options import Emit, Options
from benchmarks.gpu.rows import Row
from benchmarks.gpu.timing import Call, captured
from benchmarks.masks import string_content
from gpu_worker.device_sampler import DeviceSampler
from gpu_worker.grammar.vocabulary import load_vocabulary
from gpu_worker.kernels.automata import Automata
from gpu_worker.kernels.selection import mask_kernels_for, sampling_kernels_for
from shared.model_files import ModelFiles
from shared.protocol import Sampling
from shared.tokenizer import Tokenizer

_DRAWS = 2048  # room in each row's history: a draw appends its token
_SPREAD = 2.5  # of logits, about a model's


@torch.inference_mode()
def measure(options: Options, emit: Emit, *, shape: str) -> None:
    """For as many rows as the decode cases have; draws as CUDA graphs. Logits are float32, and read once at least."""
    vocab_size = options.sizes.config(shape).vocab_size
    counts = [rows for rows, _ in options.sizes.decodes]
    for rows in counts:
        _draw(options, emit, rows, vocab_size)
    _masks(options, emit, counts, vocab_size)


def _draw(options: Options, emit: Emit, rows: int, vocab_size: int) -> None:
    device = options.torch_device
    logits = torch.randn(rows, vocab_size, device=device) * _SPREAD
    slots = torch.arange(rows, dtype=torch.int32, device=device)
    prompt = np.arange(16, dtype=np.int32)
    for name, sampling in (
        ("greedy", Sampling(max_tokens=_DRAWS, temperature=0.0)),
        ("temperature", Sampling(max_tokens=_DRAWS, temperature=1.0)),
        ("top-p 0.9", Sampling(max_tokens=_DRAWS, temperature=1.0, top_p=0.9)),
        ("penalties", Sampling(max_tokens=_DRAWS, temperature=1.0, top_p=0.9, repetition_penalty=1.1)),
    ):
        sampler = DeviceSampler(sampling_kernels_for(device), vocab_size, rows, len(prompt) + _DRAWS, device)
        for slot in range(rows):
            sampler.admit(slot, sampling, prompt, len(prompt))
        needs = sampler.needs(range(rows))
        sampler.flush()
        run: Call = partial(sampler.draw, logits, slots, needs)
        seconds = options.timer().seconds(captured(run) if device.type == "cuda" else run)
        emit(Row(f"sampling/{name}/{rows} rows", seconds, work=Work(bytes=logits.nbytes)))


def _masks(options: Options, emit: Emit, counts: list[int], vocab_size: int) -> None:
    device, timer = options.torch_device, options.timer()
    files = ModelFiles("shape", "dummy", Path(options.tokenizer))
    vocabulary = load_vocabulary(Tokenizer.load(files, options.scratch_path), vocab_size, options.scratch_path)
    assert vocabulary is not None, "the tokenizer of shapes has a spelling"
    kernels = mask_kernels_for(device, vocabulary, options.scratch_path)
    automata = Automata(device)
    which = automata.add(string_content())
    pool = torch.zeros(8, vocabulary.words, dtype=torch.int32, device=device)
    seconds = timer.seconds(lambda: kernels.build(pool, [0], [1], automata.tables(which)))
    emit(Row("masks/build/1 state", seconds, work=Work(len(vocabulary.token_bytes) + 4 * vocabulary.words)))
    for rows in counts:
        logits = torch.randn(rows, vocab_size, device=device)
        index = torch.zeros(rows, dtype=torch.int32, device=device)
        work = Work(rows * 4 * vocabulary.words)  # bits alone: logits are written only where something is forbidden
        seconds = timer.seconds(lambda logits=logits, index=index: kernels.apply(logits, pool, index))
        emit(Row(f"masks/apply/{rows} rows", seconds, work=work))
        states = torch.ones(rows, dtype=torch.int32, device=device)
        tokens = torch.arange(rows, device=device) + 300
        automaton = torch.full((rows,), which, dtype=torch.int32, device=device)
        seconds = timer.seconds(
            lambda states=states, tokens=tokens, automaton=automaton: kernels.advance(
                states, tokens, automata.arrays, automaton
            )
        )
        emit(Row(f"masks/advance/{rows} rows", seconds))
