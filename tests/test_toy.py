"""The toy model is a model: transformers reads it, and its greedy text depends on the prompt."""

from __future__ import annotations

from pathlib import Path

import torch


def test_transformers_generates_different_text_for_different_prompts(toy_model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(toy_model)
    model = AutoModelForCausalLM.from_pretrained(toy_model, dtype=torch.float32)
    outputs: set[tuple[int, ...]] = set()
    for text in ("the fox", "you are", "a token", "hello"):
        ids = tokenizer(text, return_tensors="pt").input_ids
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False, min_new_tokens=16
        )
        new = out[0, ids.shape[1] :].tolist()
        assert len(set(new)) > 3, "greedy text must not fall into one token"
        outputs.add(tuple(new))
    assert len(outputs) == 4


def test_chat_template_and_special_tokens(toy_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(toy_model)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "héllo"}], tokenize=False)
    assert text == "<|im_start|>user\nhéllo<|im_end|>\n"
    ids = tokenizer(text).input_ids
    assert ids[0] == 1
    assert tokenizer.eos_token_id == 2
    assert tokenizer.decode(ids) == text
