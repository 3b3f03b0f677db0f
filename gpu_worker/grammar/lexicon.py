"""A vocabulary together with the tokenizer that cuts text into it."""

from __future__ import annotations

from collections.abc import Sequence

from gpu_worker.grammar.vocabulary import Vocabulary
from shared.tokenizer import Tokenizer


class Lexicon:
    """What forced runs need to know of a model's tokens."""

    def __init__(self, vocabulary: Vocabulary, tokenizer: Tokenizer) -> None:
        self.vocabulary = vocabulary
        self.spelling: Sequence[bytes] = vocabulary.spelling
        self.sorted_spelling: Sequence[bytes] = sorted({word for word in vocabulary.spelling if word})
        self.longest = vocabulary.longest
        self._tokenizer = tokenizer
        tokenizer.encode_inner("")  # its first use takes half a second at 49,152 tokens

    def encode(self, text: str) -> Sequence[int] | None:
        """The tokenizer's own tokens of a text within a text; None where they do not spell it."""
        return self._tokenizer.encode_inner(text) or None

    def tokenizer_json(self) -> str:
        """The tokenizer in Hugging Face's format."""
        return self._tokenizer.to_json()
