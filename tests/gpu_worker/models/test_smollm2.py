"""The packaged SmolLM2 computes what transformers computes from the same file, in float32."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

from gpu_worker.kv_pool import KVPool
from gpu_worker.loader import load_decoder
from gpu_worker.models.decoder import Decoder
from shared.config import DEFAULT_MODEL, Settings
from shared.model_files import locate
from tests.gpu_worker.forward import Segment, flat_batch, whole_forward
from tests.oracle import load_oracle

pytestmark = pytest.mark.slow

NEW_TOKENS = 24
PAGE_SIZE = 16
PROMPTS = [
    "The capital of France is",
    "Once upon a time, there was a little",
    "def fibonacci(n):\n",
    "Water boils at a temperature of",
    "The three primary colours are",
    "In 1969, the first humans",
    "My favourite recipe for pancakes needs",
    "The mitochondrion is",
    "To be, or not to be,",
    "import numpy as np\n\nx =",
    "The largest planet in the solar system",
    "She opened the door and saw",
    "Photosynthesis is the process by which",
    "Dear Sir or Madam,",
    "1, 1, 2, 3, 5, 8,",
    "La capitale de l'Italie est",
    "The recipe begins with two cups of flour, a pinch of salt and",
    "A haiku about the sea:",
    "Python is a programming language that",
    "When the rain stopped, the children",
]
QUESTIONS = ["What is gravity?", "Name three fruits.", "Who wrote Hamlet?", "Say hello in German."]


class Expected(NamedTuple):
    """What transformers says."""

    prompts: list[list[int]]
    outputs: list[list[int]]
    logits: torch.Tensor  # of all tokens of the last prompt


@pytest.fixture(scope="module")
def expected() -> Expected:
    tokenizer, model = load_oracle()
    chats = [
        tokenizer.apply_chat_template([{"role": "user", "content": q}], tokenize=False, add_generation_prompt=True)
        for q in QUESTIONS
    ]
    prompts: list[list[int]] = [tokenizer(text).input_ids for text in PROMPTS + chats]
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.inference_mode():
        generated = model.generate(
            ids, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=[], pad_token_id=0
        )
        logits = model(torch.tensor([prompts[-1]])).logits[0]
    return Expected(prompts, generated[:, width:].tolist(), logits)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    settings = Settings()
    files = locate(DEFAULT_MODEL, settings.cache_path)
    return load_decoder(files, "cpu", torch.float32, cache_dir=settings.cache_path)


def test_logits_equal_transformers(decoder: Decoder, expected: Expected) -> None:
    actual = whole_forward(decoder, expected.prompts[-1])
    torch.testing.assert_close(actual, expected.logits, rtol=0, atol=1e-3)


def test_greedy_text_equals_generate(decoder: Decoder, expected: Expected) -> None:
    """All prompts in one batch: prefilled together in two chunks each, then decoded together."""
    per_row = -(-(max(map(len, expected.prompts)) + NEW_TOKENS) // PAGE_SIZE)
    pool = KVPool(decoder.config, per_row * len(expected.prompts), PAGE_SIZE, torch.float32, "cpu")
    pages = torch.randperm(pool.num_pages, generator=torch.Generator().manual_seed(0)).view(-1, per_row).tolist()
    halves = [len(prompt) // 2 for prompt in expected.prompts]
    first = [Segment(p[:half], 0, row) for p, half, row in zip(expected.prompts, halves, pages, strict=True)]
    second = [Segment(p[half:], half, row) for p, half, row in zip(expected.prompts, halves, pages, strict=True)]
    decoder.forward(flat_batch(first, PAGE_SIZE), pool)
    logits = decoder.forward(flat_batch(second, PAGE_SIZE, logits="last"), pool)
    outputs = [[int(token)] for token in logits.argmax(-1)]
    for _ in range(NEW_TOKENS - 1):
        step = [
            Segment(out[-1:], len(prompt) + len(out) - 1, row)
            for out, prompt, row in zip(outputs, expected.prompts, pages, strict=True)
        ]
        logits = decoder.forward(flat_batch(step, PAGE_SIZE), pool)
        for out, token in zip(outputs, logits.argmax(-1).tolist(), strict=True):
            out.append(token)
    assert len(outputs) >= 20
    assert outputs == expected.outputs
