"""How far each precision is from float32: perplexity, divergence and agreement on texts of our own.

    .venv/bin/python -m benchmarks.precision [MODEL]

Every precision computes the same tokens in one pass; float32 with weights expanded is what they are compared with.
Agreement is the share of places where the likeliest next token is the same; the divergence is Kullback and Leibler's,
in nats a token, of the precision from float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.decode_loop import PAGE_SIZE, batch
from gpu_worker.kv_pool import KVPool
from gpu_worker.loader import AnyDecoder, load_decoder
from shared.config import Quantization, Settings
from shared.model_files import locate
from shared.tokenizer import Tokenizer

HERE = Path(__file__).parent
TEXTS = (HERE / "texts" / "harbour.txt", HERE.parent / "README.md", HERE.parent / "docs" / "architecture.md")
LONGEST = 1024  # tokens of a text
PRECISIONS: tuple[tuple[str, torch.dtype, Quantization], ...] = (
    ("float32", torch.float32, "none"),
    ("bfloat16", torch.bfloat16, "none"),
    ("as the file has it (auto)", torch.bfloat16, "auto"),
    ("q8", torch.bfloat16, "q8"),
    ("q4", torch.bfloat16, "q4"),
)


class Distance(NamedTuple):
    """One precision on one text."""

    perplexity: float
    divergence: float
    agreement: float


def logits_of(decoder: AnyDecoder, ids: list[int]) -> Tensor:
    """float32 [T, V] of one sequence, computed in one pass."""
    length = len(ids)
    inputs = batch(1, length, length, decoder.config.vocab_size)._replace(
        input_ids=torch.tensor(ids), logit_indices=torch.arange(length)
    )
    pool = KVPool(decoder.config, inputs.page_tables.shape[1], PAGE_SIZE, decoder.dtype, decoder.device)
    return decoder.forward(inputs, pool)


def distance(logits: Tensor, exact: Tensor, ids: list[int]) -> Distance:
    """Of logits [T, V] from the exact ones."""
    loss = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]))
    p, q = exact.log_softmax(-1), logits.log_softmax(-1)
    return Distance(
        float(loss.exp()),
        float((p.exp() * (p - q)).sum(-1).mean()),
        float((logits.argmax(-1) == exact.argmax(-1)).float().mean()),
    )


def measured(model: str, settings: Settings) -> Iterator[tuple[str, list[Distance]]]:
    """Each precision with its distances on all texts."""
    files = locate(model, settings.cache_path)
    tokenizer = Tokenizer.load(files, settings.cache_path)
    texts = [
        list(tokenizer.encode(path.read_text(encoding="utf-8"), add_special_tokens=False))[:LONGEST] for path in TEXTS
    ]
    exact: list[Tensor] = []
    for name, dtype, quantization in PRECISIONS:
        decoder = load_decoder(files, "cpu", dtype, cache_dir=settings.cache_path, quantization=quantization)
        logits = [logits_of(decoder, ids) for ids in texts]
        exact = exact or logits
        yield name, [distance(*three) for three in zip(logits, exact, texts, strict=True)]


def main() -> None:
    settings = Settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=settings.model)
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    print(f"{'':28}" + "".join(f"{path.name:>34}" for path in TEXTS))
    print(f"{'':28}" + f"{'perplexity  divergence  agreement':>34}" * len(TEXTS))
    for name, distances in measured(arguments.model, settings):
        figures = "".join(f"{d.perplexity:14.3f}{d.divergence:12.5f}{d.agreement:8.1%}" for d in distances)
        print(f"{name:28}{figures}")


if __name__ == "__main__":
    main()
