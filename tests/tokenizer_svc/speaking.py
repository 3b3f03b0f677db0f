"""Downstreams that say what a test wants said."""

from __future__ import annotations

from shared import columns
from shared.protocol import Finish, Generate
from shared.tokenizer import Tokenizer
from tests.tokenizer_svc.downstream import Downstream, Script


def saying(*texts: str, finish: Finish = Finish.STOP, matched: str | int | None = None, cached: int = 0) -> Script:
    """An answer of one token per text, and one more that ends it; where there is a grammar it waits for that."""

    async def script(downstream: Downstream, generate: Generate) -> None:
        await downstream.admit(generate, cached)
        if generate.sampling.grammar is not None:
            await downstream.grammar(generate)
        for index, text in enumerate(texts):
            await downstream.texts(generate, (index, [10], text, Finish.NONE, None))
        await downstream.texts(generate, (len(texts), [2], "", finish, matched))

    return script


def in_pieces(text: str, size: int = 5) -> list[str]:
    """The text, cut."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def last_prompt(downstream: Downstream, tokenizer: Tokenizer) -> str:
    """What the model was told last."""
    generate = list(downstream.generates.values())[-1]
    return tokenizer.decode(columns.as_int32(generate.input_ids).tolist(), skip_special_tokens=False)
