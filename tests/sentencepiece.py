"""A SentencePiece-like tokenizer made by hand, as Llama 2 has it: ▁ for a space, tokens for single bytes."""

from __future__ import annotations

from typing import Literal

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

WORDS = ("▁", "h", "e", "l", "o", "w", "r", "d", "é", "▁▁", "he", "ll", "hell", "hello", "▁hello", "▁w", "{", '"', "\n")
_MERGES = (("▁", "▁"), ("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("▁", "hello"), ("▁", "w"))


def sentencepiece_like(style: Literal["legacy", "metaspace"] = "legacy", *, strips: bool = True) -> Tokenizer:
    """The space before the first word put by a normalizer (legacy) or by the pre-tokenizer, and taken off by Strip."""
    specials = ["<unk>", "<s>", "</s>"]
    tokens = [*specials, *[f"<0x{byte:02X}>" for byte in range(256)], *WORDS]
    vocab = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(
        models.BPE(vocab=vocab, merges=list(_MERGES), byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    )
    if style == "legacy":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, *([decoders.Strip(" ", 1, 0)] if strips else [])])
    backend.add_special_tokens([AddedToken(token, special=True) for token in specials])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return backend
