"""Text to token ids and back for clients: /tokenize, /detokenize and /tokenizer_info, as vLLM and SGLang have them.

Sources: vLLM's protocol of these routes (one prompt or a conversation; ``prompt`` in the answer of /detokenize), and
SGLang's (several prompts at once; ``text`` in that answer). Nothing is computed by the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web

from shared.protocol import ModelCard
from tokenizer_svc import unsupported
from tokenizer_svc.api_error import invalid
from tokenizer_svc.body import read_object
from tokenizer_svc.chat import Message, encode_chat
from tokenizer_svc.engine import Engine
from tokenizer_svc.openai import check_model
from tokenizer_svc.prompts import aside, check_ids, context_of
from tokenizer_svc.replying import as_json, convert
from tokenizer_svc.tools.toolbox import read_tools


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """POST /tokenize: a text, several, or a conversation."""

    model: str | None = None
    prompt: str | list[str] | None = None
    messages: list[Message] | None = None
    add_special_tokens: bool | None = None  # by default to texts; a chat template writes its own
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(msgspec.Struct, kw_only=True):
    """POST /detokenize: token ids, or several lists of them."""

    model: str | None = None
    tokens: list[int | list[int]]
    skip_special_tokens: bool | None = None


class Tokenized(msgspec.Struct, frozen=True):
    """The answer of /tokenize: lists of each where several prompts were sent."""

    tokens: Sequence[int | Sequence[int]]
    count: int | Sequence[int]
    max_model_len: int
    token_strs: Sequence[str | Sequence[str]] | None = None


class Detokenized(msgspec.Struct, frozen=True):
    """The answer of /detokenize: the same under two names, vLLM's and SGLang's."""

    prompt: str | Sequence[str]
    text: str | Sequence[str]


class TokenRoutes:
    """What clients may ask of the tokenizer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post("/tokenize", self.tokenize)
        router.add_post("/detokenize", self.detokenize)
        router.add_get("/tokenizer_info", self.tokenizer_info)

    async def tokenize(self, request: web.Request) -> web.Response:
        """Token ids of a text or a conversation."""
        engine = self._engine
        body = await read_object(request, engine.limits)
        unsupported.refuse(body, unsupported.TOKENIZE)
        asked = convert(body, TokenizeRequest)
        check_model(asked.model, engine)
        card = engine.ready_card()
        if asked.messages is not None:
            lists = [await self._of_messages(asked)]
        else:
            lists = await self._of_texts(asked)
        strings = [engine.tokenizer.written(ids) for ids in lists] if asked.return_token_strs else None
        counts = [len(ids) for ids in lists]
        if isinstance(asked.prompt, list):
            return as_json(Tokenized(lists, counts, context_of(card), strings))
        return as_json(Tokenized(lists[0], counts[0], context_of(card), None if strings is None else strings[0]))

    async def _of_messages(self, asked: TokenizeRequest) -> list[int]:
        if asked.prompt is not None:
            raise invalid("send either prompt or messages", "messages")
        continues = bool(asked.continue_final_message)
        if continues and asked.add_generation_prompt:
            message = (
                "continue_final_message and add_generation_prompt: a conversation ends in one way, send one of them"
            )
            raise invalid(message, "continue_final_message")
        return await encode_chat(
            self._engine,
            asked.messages or [],
            read_tools(asked, self._engine.limits),
            add_generation_prompt=not continues and asked.add_generation_prompt is not False,
            variables=asked.chat_template_kwargs or {},
            continues=continues,
            add_special_tokens=bool(asked.add_special_tokens),
            may_be_long=True,
        )

    async def _of_texts(self, asked: TokenizeRequest) -> list[list[int]]:
        if asked.prompt is None:
            raise invalid("prompt is missing: send a text, or messages", "prompt", "missing_field")
        texts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
        if not texts:
            raise invalid("prompt is empty: send a text, or several", "prompt")
        with_special = asked.add_special_tokens is not False
        tokenizer = self._engine.tokenizer

        def work() -> list[list[int]]:
            return [tokenizer.encode(text, add_special_tokens=with_special) for text in texts]

        return await aside(self._engine, sum(map(len, texts)), work)

    async def detokenize(self, request: web.Request) -> web.Response:
        """The text of token ids."""
        engine = self._engine
        asked = convert(await read_object(request, engine.limits), DetokenizeRequest)
        check_model(asked.model, engine)
        lists, is_batch = _lists(asked.tokens, engine.ready_card(), engine.limits.max_inputs)
        tokenizer, hides = engine.tokenizer, bool(asked.skip_special_tokens)

        def work() -> list[str]:
            return [tokenizer.decode(ids, skip_special_tokens=hides) for ids in lists]

        texts = await aside(engine, sum(map(len, lists)), work)
        text = texts if is_batch else texts[0]
        return as_json(Detokenized(prompt=text, text=text))

    async def tokenizer_info(self, request: web.Request) -> web.Response:
        """What the tokenizer is: its size, its special tokens, the chat template."""
        del request
        engine = self._engine
        tokenizer, card = engine.tokenizer, engine.ready_card()
        template = tokenizer.chat_template
        return as_json(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model": engine.model,
                "vocab_size": tokenizer.vocab_size,
                "model_max_length": card.context_length,
                **tokenizer.special_tokens,
                "bos_token_id": tokenizer.bos_id,
                "eos_token_id": list(tokenizer.eos_ids),
                "chat_template": None if template is None else template.source,
            }
        )


def _lists(tokens: list[int | list[int]], card: ModelCard, most: int) -> tuple[list[list[int]], bool]:
    """Lists of ids, and whether there were several. Raises ApiError 400."""
    flat = [id for id in tokens if isinstance(id, int)]
    lists = [ids for ids in tokens if not isinstance(ids, int)]
    if flat and lists:
        raise invalid("tokens mixes ids and lists of ids: send one kind", "tokens")
    if len(lists) > most:
        raise invalid(f"tokens has {len(lists)} lists, at most {most} are allowed", "tokens")
    for index, ids in enumerate(lists):
        if ids:
            check_ids(ids, card, f"tokens[{index}]")
    if flat:
        check_ids(flat, card, "tokens")
    return (lists, True) if lists else ([flat], False)
