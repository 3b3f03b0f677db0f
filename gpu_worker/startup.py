"""From settings to a loaded model with its KV pool and the card that describes it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpu_worker.execution import MakeExecution
from gpu_worker.flat_batch import FlatBatch, Pass
from gpu_worker.grammar.lexicon import Lexicon
from gpu_worker.grammar.mask_pool import MaskPool
from gpu_worker.grammar.vocabulary import load_vocabulary
from gpu_worker.graphs import Budget, GraphRecorder
from gpu_worker.kernels.attention_plan import AttentionPlan
from gpu_worker.kernels.sampling_reference import PlainSamplingKernels
from gpu_worker.kernels.selection import mask_kernels_for, sampling_kernels_for
from gpu_worker.kv_pool import KVPool, bytes_per_page
from gpu_worker.loader import AnyDecoder, load_decoder
from gpu_worker.pipeline import Capture, prepare_pipeline
from gpu_worker.sharing import nothing_shared
from shared.config import Settings, parse_bytes
from shared.errors import UserError
from shared.model_files import ModelFiles, locate
from shared.protocol import ModelCard
from shared.tokenizer import Tokenizer

_CPU_KV_MEMORY = 2**30  # enough for 45,000 tokens of a 135M model; more must be asked for
_GPU_WARM_UP = 1024  # tokens, which is a chunk of many and a context worth splitting
_GPU_KV_SHARE = 0.85  # of what is free once the weights are loaded
SPARE_PAGES = 1  # after those that the scheduler knows of: what pads a step of fixed size is written there


class Model:
    """A decoder bound to its pool."""

    def __init__(self, decoder: AnyDecoder, pool: KVPool) -> None:
        self._decoder = decoder
        self._pool = pool

    def forward(self, batch: FlatBatch) -> Tensor:
        """Write KV of all tokens, return logits, float32 [L, V]."""
        return self._decoder.forward(batch, self._pool)

    def forward_with_states(self, batch: FlatBatch, tokens: Tensor) -> Pass:
        """As ``forward``, and the last hidden states of flat ``tokens``, int64 [M]."""
        return self._decoder.forward_with_states(batch, self._pool, tokens)

    def attention_plan(self, rows: int) -> AttentionPlan | None:
        """A plan for passes of up to ``rows`` tokens; None where a pass can only plan for itself."""
        return self._decoder.attention_plan(self._pool.page_size, rows)


class Structured(NamedTuple):
    """What constrained output needs: the model's tokens as text, and masks over them."""

    lexicon: Lexicon
    masks: MaskPool


class Loaded(NamedTuple):
    """What a worker needs to start."""

    model: Model
    card: ModelCard
    structured: Structured | None  # None where the tokens cannot be spelled
    execution: MakeExecution | None = None  # None: in lock-step


def load(settings: Settings, progress: Callable[[str], None]) -> Loaded:
    """Load weights, allocate the KV pool, run one step to compile what is compiled on first use.

    Raises UserError for a model or a setting that cannot work here.
    """
    device = _device(settings)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    torch.set_grad_enabled(False)
    files = locate(settings.model, settings.cache_path, settings.load_format)
    decoder = load_decoder(
        files,
        device,
        _dtype(settings, device),
        lambda fraction: progress(f"loading weights {fraction:.0%}"),
        settings.cache_path,
        "none" if settings.quantization == "auto" and settings.dtype != "auto" else settings.quantization,
        alone=settings.lease == 1,
    )
    config = decoder.config
    num_pages = _kv_bytes(settings, device) // bytes_per_page(config, settings.page_size, decoder.dtype)
    if num_pages < 1:
        raise UserError(f"--kv-memory {settings.kv_memory} holds no page of this model: give more")
    progress("allocating the KV pool")
    pool = KVPool(config, num_pages + SPARE_PAGES, settings.page_size, decoder.dtype, device)
    on_cpu = device.type == "cpu"
    progress("spelling the vocabulary")
    max_running = settings.max_running or (64 if on_cpu else 256)
    structured = _structured(files, settings, config.vocab_size, max_running, device)
    card = ModelCard(
        model=settings.served_model_name[0] if settings.served_model_name else files.name,
        architecture=config.architecture,
        dtype=str(decoder.dtype).removeprefix("torch."),
        device=device.type,
        precision=decoder.precision,
        vocab_size=config.vocab_size,
        context_length=_context_length(settings, config.context_length),
        page_size=settings.page_size,
        num_pages=num_pages,
        max_running=max_running,
        chunk_tokens=settings.chunk_tokens or (256 if on_cpu else 4096),
        structured=structured is not None,
    )
    model = Model(decoder, pool)
    progress("compiling kernels, or taking them from the cache" if on_cpu else "warming up")
    _warm_up(model, num_pages, settings.page_size, device)
    execution = None if on_cpu else _pipelined(settings, model, card, structured, device, progress)
    return Loaded(model, card, structured, execution)


def _pipelined(
    settings: Settings,
    model: Model,
    card: ModelCard,
    structured: Structured | None,
    device: torch.device,
    progress: Callable[[str], None],
) -> MakeExecution:
    """Steps launched ahead, on a device that works while the host does something else."""
    kernels = sampling_kernels_for(device)
    capture: Capture | None = None
    if settings.cuda_graphs and not isinstance(kernels, PlainSamplingKernels):  # those wait for the device
        memory = _parsed(settings.graph_memory, "--graph-memory")
        capture = Capture(GraphRecorder(), Budget(settings.graph_seconds, memory))
    masks = None if structured is None else structured.masks
    return prepare_pipeline(model, card, masks, kernels, device, capture, progress)


def _structured(
    files: ModelFiles, settings: Settings, vocab_size: int, max_running: int, device: torch.device
) -> Structured | None:
    tokenizer = Tokenizer.load(files, settings.cache_path)
    vocabulary = load_vocabulary(tokenizer, vocab_size, settings.cache_path)
    if vocabulary is None:
        return None
    kernels = mask_kernels_for(device, vocabulary, settings.cache_path)
    return Structured(Lexicon(vocabulary, tokenizer), MaskPool(kernels, vocab_size, max_running, device))


def _device(settings: Settings) -> torch.device:
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise UserError(
            "--device cuda: torch finds no CUDA device; install the CUDA build of torch or use --device cpu"
        )
    name = settings.device if settings.device != "auto" else ("cuda" if available else "cpu")
    return torch.device(name)


def _dtype(settings: Settings, device: torch.device) -> torch.dtype:
    if settings.dtype != "auto":
        if settings.dtype == "float16" and device.type == "cpu":
            raise UserError("--dtype float16 is slow and inexact on a CPU: use bfloat16 or float32")
        return getattr(torch, settings.dtype)
    quick = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
    return torch.bfloat16 if quick else torch.float32


def _kv_bytes(settings: Settings, device: torch.device) -> int:
    if settings.kv_memory != "auto":
        return _parsed(settings.kv_memory, "--kv-memory")
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return int(free * _GPU_KV_SHARE)
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(_CPU_KV_MEMORY, physical // 8)


def _parsed(size: str, flag: str) -> int:
    try:
        return parse_bytes(size)
    except ValueError as error:
        raise UserError(f"{flag}: {error}") from None


def _context_length(settings: Settings, limit: int) -> int:
    wanted = settings.context_length or limit
    if wanted > limit:
        raise UserError(f"--context-length {wanted} is beyond the model's own limit of {limit}")
    return wanted


def _warm_up(model: Model, num_pages: int, page_size: int, device: torch.device) -> None:
    """One prefill chunk and a decode row in its place, in the first pages. On a GPU long enough for every kernel."""
    length = min(_GPU_WARM_UP if device.type == "cuda" else 2, num_pages * page_size)
    for new in (length, 1):
        model.forward(
            FlatBatch(
                input_ids=torch.zeros(new, dtype=torch.int64, device=device),
                positions=torch.arange(length - new, length, device=device),
                slots=torch.arange(length - new, length, device=device),
                starts=torch.tensor([0, new], dtype=torch.int32, device=device),
                kv_lens=torch.tensor([length], dtype=torch.int32, device=device),
                page_tables=torch.arange(-(-length // page_size), dtype=torch.int32, device=device)[None],
                num_decodes=int(new == 1),
                logit_indices=torch.tensor([new - 1], device=device),
                max_kv_len=length,
                max_new=new,
                sharing=nothing_shared(int(new == 1)),
                host_starts=np.array([0, new], np.int32),
                host_kv_lens=np.array([length], np.int32),
            )
        )
