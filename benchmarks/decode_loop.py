"""The bare decoder in a loop, without any service: what the model itself takes, against transformers' generate.

    .venv/bin/python benchmarks/decode_loop.py [MODEL] [--dtype bfloat16] [--quantization none] [--json FILE]

Prints milliseconds per decode step, prefill speed, and
transformers' figures for the same weights in the same run. Medians; compare ratios within one run only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpu_worker.flat_batch import FlatBatch
from gpu_worker.kv_pool import KVPool
from gpu_worker.loader import AnyDecoder, load_decoder, open_weights
from gpu_worker.sharing import find_sharing, nothing_shared
from shared.config import Settings
from shared.model_files import ModelFiles, locate

PAGE_SIZE = 16
CHUNK = 256


def batch(rows: int, new: int, context: int, vocab: int) -> FlatBatch:
    """``rows`` rows that each compute ``new`` tokens, the last of which sees ``context``; pages shuffled."""
    generator = torch.Generator().manual_seed(rows * context)
    width = -(-context // PAGE_SIZE)
    tables = torch.randperm(rows * width, generator=generator).view(rows, width)
    positions = torch.arange(context - new, context)
    slots = tables[:, positions // PAGE_SIZE] * PAGE_SIZE + positions % PAGE_SIZE
    starts = torch.arange(0, rows * new + 1, new, dtype=torch.int32)
    kv_lens = torch.full((rows,), context, dtype=torch.int32)
    return FlatBatch(
        input_ids=torch.randint(3, vocab, (rows * new,), generator=generator),
        positions=positions.repeat(rows),
        slots=slots.flatten(),
        starts=starts,
        kv_lens=kv_lens,
        page_tables=tables.to(torch.int32),
        num_decodes=rows if new == 1 else 0,
        logit_indices=torch.arange(new - 1, rows * new, new),
        max_kv_len=context,
        max_new=new,
        sharing=nothing_shared(rows if new == 1 else 0),
        host_starts=starts.numpy(),
        host_kv_lens=kv_lens.numpy(),
    )


def sharing(inputs: FlatBatch, tokens: int) -> FlatBatch:
    """The same decode rows, the first ``tokens`` of all of which lie in the same pages."""
    tables = inputs.page_tables.clone()
    tables[:, : tokens // PAGE_SIZE] = inputs.page_tables[0, : tokens // PAGE_SIZE]
    found = find_sharing(tables.numpy(), inputs.host_kv_lens, PAGE_SIZE)
    return inputs._replace(page_tables=tables, sharing=found)


def median_ms(step: Callable[[], Any], repeats: int) -> float:
    """After one run to warm up."""
    step()
    times: list[float] = []
    for _ in range(repeats):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def measure_decoder(decoder: AnyDecoder, repeats: int) -> dict[str, float]:
    """Milliseconds per step, and prefill in tokens per second."""
    config, figures = decoder.config, dict[str, float]()
    pool = KVPool(config, 32 * -(-1504 // PAGE_SIZE), PAGE_SIZE, decoder.dtype, decoder.device)
    for layer in range(config.num_layers):
        pool.keys[layer].normal_()
        pool.values[layer].normal_()
    for context in (256, 1500):
        for rows in (1, 8, 32):
            inputs = batch(rows, 1, context, config.vocab_size)
            figures[f"decode_{rows}x{context}_ms"] = median_ms(lambda i=inputs: decoder.forward(i, pool), repeats)
            shared = sharing(inputs, context - CHUNK // 4)
            figures[f"decode_{rows}x{context}_shared_ms"] = median_ms(
                lambda i=shared: decoder.forward(i, pool), repeats
            )
        inputs = batch(1, CHUNK, context, config.vocab_size)
        elapsed = median_ms(lambda i=inputs: decoder.forward(i, pool), max(3, repeats // 5))
        figures[f"prefill_{CHUNK}_of_{context}_tokens_per_s"] = CHUNK / elapsed * 1e3
    return figures


def transformers_model(files: ModelFiles, dtype: torch.dtype) -> Any:
    """The same weights in transformers' own Llama. GGUF files go through our reader: only its speed matters here."""
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    if files.format == "huggingface":
        return AutoModelForCausalLM.from_pretrained(files.path, dtype=dtype)
    weights = open_weights(files)
    config = weights.config
    model: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            max_position_embeddings=config.context_length,
            rms_norm_eps=config.rms_norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope.theta},
            tie_word_embeddings=config.tied_embeddings,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=0,
        )
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights.tensor(name))
    return model.to(dtype).eval()


def measure_transformers(files: ModelFiles, dtype: torch.dtype, repeats: int) -> dict[str, float]:
    """Greedy generate of transformers: milliseconds per token of one sequence, and per step of eight."""
    model = transformers_model(files, dtype)
    model.generation_config.eos_token_id = None
    figures: dict[str, float] = {}
    for rows, context in ((1, 256), (1, 1500), (8, 256)):
        ids = torch.randint(3, 1000, (rows, context))

        def generate(count: int, ids: Tensor = ids) -> float:
            begin = time.perf_counter()
            model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False)
            return time.perf_counter() - begin

        generate(2)
        prefill = min(generate(1) for _ in range(3))
        times = [(generate(repeats + 1) - prefill) / repeats for _ in range(3)]
        figures[f"transformers_{rows}x{context}_ms"] = statistics.median(times) * 1e3
    return figures


def main() -> None:
    settings = Settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=settings.model)
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--quantization", default="auto", choices=("auto", "none", "q8", "q4"))
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--no-transformers", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    files, dtype = locate(arguments.model, settings.cache_path), getattr(torch, arguments.dtype)
    begin = time.perf_counter()
    open_weights(files)
    opened = time.perf_counter()
    decoder = load_decoder(files, "cpu", dtype, cache_dir=settings.cache_path, quantization=arguments.quantization)
    loaded = time.perf_counter()
    pool = KVPool(decoder.config, 1, PAGE_SIZE, dtype, "cpu")
    for new in (2, 1):
        decoder.forward(batch(1, new, new, decoder.config.vocab_size), pool)
    figures = {
        "open_s": opened - begin,
        "load_s": loaded - opened,
        "compile_or_read_kernels_s": time.perf_counter() - loaded,
    }
    figures |= measure_decoder(decoder, arguments.repeats)
    if not arguments.no_transformers:
        figures |= measure_transformers(files, dtype, arguments.repeats)
    for name, value in figures.items():
        print(f"{name:45} {value:10.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
