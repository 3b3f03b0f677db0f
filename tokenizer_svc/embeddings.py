"""/v1/embeddings as OpenAI has it: the model's last hidden states of a text, pooled, as a vector of length 1.

Source: OpenAI's specification of embeddings; ``pooling`` is our own field. The model was trained to generate: how
well such vectors compare texts is another matter, which docs/native.md says.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
from aiohttp import web

from shared import columns
from shared.protocol import Pooling, Sampling
from tokenizer_svc import unsupported
from tokenizer_svc.access.guard import caller_of
from tokenizer_svc.access.tenants import Caller
from tokenizer_svc.api_error import internal, invalid
from tokenizer_svc.body import read_object
from tokenizer_svc.computing import Computed, compute
from tokenizer_svc.draft import Display, Draft
from tokenizer_svc.engine import Engine
from tokenizer_svc.openai import check_model
from tokenizer_svc.prompts import LengthNames, Prompts, RawPrompt, answer_length, encode, read_truncation, sort_out
from tokenizer_svc.replying import as_json, convert
from tokenizer_svc.sampling import Bounds

PoolingName = Literal["last", "mean"]

_POOLINGS: dict[PoolingName, Pooling] = {"last": Pooling.LAST, "mean": Pooling.MEAN}


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """POST /v1/embeddings."""

    input: RawPrompt
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    pooling: PoolingName | None = None
    add_special_tokens: bool | None = None
    truncate_prompt_tokens: int | None = None
    truncation_side: str | None = None
    user: str | None = None
    cache_salt: str | None = None
    priority: int | None = None


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """One vector."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str  # numbers, or float32 in base64


class EmbeddingUsage(msgspec.Struct, frozen=True):
    """What was read."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of /v1/embeddings."""

    object: Literal["list"] = "list"
    data: Annotated[list[Embedding], msgspec.Meta(min_length=1)]
    model: str
    usage: EmbeddingUsage


class EmbeddingRoutes:
    """Vectors for clients."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post("/v1/embeddings", self.embeddings)

    async def embeddings(self, request: web.Request) -> web.Response:
        """The vector of each input."""
        engine = self._engine
        body = await read_object(request, engine.limits)
        unsupported.refuse(body, unsupported.EMBEDDINGS)
        asked = convert(body, EmbeddingRequest)
        check_model(asked.model, engine)
        found = await vectors(engine, asked, sort_out(asked.input, "input"), "input", caller_of(request, asked.user))
        tokens = sum(each.prompt_tokens for each in found)
        data = [
            Embedding(index=index, embedding=_written(unit(each), asked.encoding_format or "float"))
            for index, each in enumerate(found)
        ]
        usage = EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens)
        return as_json(Embeddings(data=data, model=asked.model or engine.model, usage=usage))


async def vectors(
    engine: Engine, asked: EmbeddingRequest, prompts: Prompts, name: str, caller: Caller
) -> list[Computed]:
    """A vector for each prompt, which is called ``name`` in errors. Raises ApiError."""
    limits, bounds = engine.limits, Bounds()
    if len(prompts.items) > limits.max_inputs:
        message = f"{name} has {len(prompts.items)} entries, at most {limits.max_inputs} are allowed"
        raise invalid(message, name)
    bounds.label("user", asked.user, limits)
    namespace = bounds.label("cache_salt", asked.cache_salt, limits)
    priority = bounds.integer("priority", asked.priority, -limits.priority, limits.priority, 0)
    card = engine.ready_card()
    truncation = read_truncation(asked.truncate_prompt_tokens, asked.truncation_side, limits)
    specials = asked.add_special_tokens is not False
    encoded = await encode(engine, prompts, name, add_special_tokens=specials, may_be_long=truncation is not None)
    if truncation is not None:
        encoded = [truncation.of(ids, card, answer=0) for ids in encoded]
    pooling = _POOLINGS[asked.pooling or engine.pooling]
    drafts = [
        Draft(
            prompt=index,
            input_ids=ids,
            sampling=Sampling(
                max_tokens=answer_length(card, len(ids), 0, None, LengthNames(name, name), least=0),
                temperature=0.0,
                pooling=pooling,
            ),
            display=Display(),
            namespace=namespace,
            priority=priority,
        )
        for index, ids in enumerate(encoded)
    ]
    return await compute(engine, drafts, caller)


def unit(computed: Computed) -> columns.Float32:
    """A vector divided by its length. Raises ApiError 500 where there is none."""
    if computed.vector is None:
        raise internal("a vector was lost inside the server: send the request again")
    values = columns.as_float32(computed.vector.values)
    length = float(np.linalg.norm(values.astype(np.float64)))
    return (values / length).astype(np.float32) if length else values


def _written(vector: columns.Float32, form: str) -> list[float] | str:
    if form == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()


def similarity(first: columns.Float32, second: columns.Float32) -> float:
    """The cosine between two vectors of length 1."""
    return min(1.0, max(-1.0, float(np.dot(first.astype(np.float64), second.astype(np.float64)))))


def each_with_each(first: Sequence[columns.Float32], second: Sequence[columns.Float32]) -> list[float]:
    """One with all, or each with its partner."""
    ones = list(first) * len(second) if len(first) == 1 else first
    return [similarity(one, other) for one, other in zip(ones, second, strict=True)]
