"""/v1/score: how likely some tokens follow a query with each of several items, or how alike texts are.

The first is SGLang's (``query``, ``items``, ``label_token_ids``): the model as a judge. The second is vLLM's for
models without a head of their own for it (``text_1``, ``text_2``): the cosine between their vectors.
Sources: SGLang's ScoringRequest and its prompts, vLLM's score API.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Sequence
from typing import Literal

import msgspec
from aiohttp import web

from shared.protocol import Sampling, Scoring
from shared.scores import each
from tokenizer_svc import unsupported
from tokenizer_svc.access.guard import caller_of
from tokenizer_svc.access.tenants import Caller
from tokenizer_svc.api_error import internal, invalid
from tokenizer_svc.body import read_object
from tokenizer_svc.computing import Computed, compute
from tokenizer_svc.draft import Display, Draft
from tokenizer_svc.embeddings import EmbeddingRequest, PoolingName, each_with_each, unit, vectors
from tokenizer_svc.engine import Engine
from tokenizer_svc.openai import check_model
from tokenizer_svc.prompts import LengthNames, Prompts, answer_length, check_ids, encode
from tokenizer_svc.replying import as_json, convert
from tokenizer_svc.sampling import Bounds


class ScoreRequest(msgspec.Struct, kw_only=True):
    """POST /v1/score: a query with items, or texts."""

    query: str | list[int] | None = None
    items: str | list[str | list[int]] | None = None
    label_token_ids: list[int] | None = None
    apply_softmax: bool | None = None  # over the labels, so that they add up to 1; else each by itself
    item_first: bool | None = None
    text_1: str | list[str] | None = None
    text_2: str | list[str] | None = None
    pooling: PoolingName | None = None  # of texts
    model: str | None = None
    user: str | None = None
    cache_salt: str | None = None
    priority: int | None = None


class ScoreUsage(msgspec.Struct, frozen=True):
    """What was read."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0


class LabelScores(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a query with items: probabilities by item, in the order of the labels."""

    object: Literal["scoring"] = "scoring"
    scores: list[list[float]]
    model: str
    usage: ScoreUsage


class TextScore(msgspec.Struct, frozen=True, kw_only=True):
    """How alike two texts are."""

    index: int
    object: Literal["score"] = "score"
    score: float


class TextScores(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to texts."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[TextScore]
    usage: ScoreUsage


class ScoreRoutes:
    """Scores for clients."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post("/v1/score", self.score)

    async def score(self, request: web.Request) -> web.Response:
        """Scores of one of the two kinds."""
        engine = self._engine
        body = await read_object(request, engine.limits)
        unsupported.refuse(body, unsupported.SCORE)
        asked = convert(body, ScoreRequest)
        check_model(asked.model, engine)
        Bounds().label("user", asked.user, engine.limits)
        caller = caller_of(request, asked.user)
        if asked.text_1 is None and asked.text_2 is None:
            return as_json(await self._of_labels(asked, caller))
        return as_json(await self._of_texts(asked, caller))

    async def _of_labels(self, asked: ScoreRequest, caller: Caller) -> LabelScores:
        engine = self._engine
        labels = _labels(asked, engine)
        encoded = await _prompts(asked, engine)
        bounds, limits, card = Bounds(), engine.limits, engine.ready_card()
        namespace = bounds.label("cache_salt", asked.cache_salt, limits)
        priority = bounds.integer("priority", asked.priority, -limits.priority, limits.priority, 0)
        drafts = [
            Draft(
                prompt=index,
                input_ids=ids,
                sampling=Sampling(
                    max_tokens=answer_length(card, len(ids), 1, None, LengthNames("items", "items")),
                    temperature=0.0,
                    scoring=Scoring(start=len(ids), ids=labels),
                ),
                display=Display(),
                namespace=namespace,
                priority=priority,
            )
            for index, ids in enumerate(encoded)
        ]
        found = await compute(engine, drafts, caller)
        scores = [_probabilities(one, softmax=bool(asked.apply_softmax)) for one in found]
        return LabelScores(scores=scores, model=asked.model or engine.model, usage=_usage(found))

    async def _of_texts(self, asked: ScoreRequest, caller: Caller) -> TextScores:
        engine = self._engine
        if asked.query is not None or asked.items is not None or asked.label_token_ids is not None:
            raise invalid("send either query and items, or text_1 and text_2", "text_1")
        first, second = _texts(asked.text_1, "text_1"), _texts(asked.text_2, "text_2")
        if len(first) not in (1, len(second)):
            raise invalid(f"text_1 has {len(first)} texts for {len(second)} in text_2: send one, or as many", "text_1")
        texts = EmbeddingRequest(
            input=[*first, *second], pooling=asked.pooling, cache_salt=asked.cache_salt, priority=asked.priority
        )
        found = await vectors(engine, texts, Prompts([*first, *second], is_batch=True), "text_2", caller)
        units = [unit(one) for one in found]
        scores = each_with_each(units[: len(first)], units[len(first) :])
        return TextScores(
            id=f"score-{secrets.token_hex(8)}",
            created=int(time.time()),
            model=asked.model or engine.model,
            data=[TextScore(index=index, score=score) for index, score in enumerate(scores)],
            usage=_usage(found),
        )


def _labels(asked: ScoreRequest, engine: Engine) -> tuple[int, ...]:
    labels = asked.label_token_ids
    if not labels:
        message = "label_token_ids is missing: send the ids of the tokens to score, as /tokenize tells them"
        raise invalid(message, "label_token_ids", "missing_field")
    Bounds().length("label_token_ids", len(labels), engine.limits.max_logprob_ids, "ids")
    check_ids(labels, engine.ready_card(), "label_token_ids")
    return tuple(labels)


async def _prompts(asked: ScoreRequest, engine: Engine) -> list[list[int]]:
    """Token ids of the query with each item. Raises ApiError 400."""
    query = asked.query if asked.query is not None else ""
    items = [asked.items] if isinstance(asked.items, str) else asked.items
    if not items:
        raise invalid("items is missing: send one text, several, or lists of token ids", "items", "missing_field")
    if len(items) > engine.limits.max_inputs:
        raise invalid(f"items has {len(items)} entries, at most {engine.limits.max_inputs} are allowed", "items")
    texts = [item for item in items if isinstance(item, str)]
    lists = [item for item in items if not isinstance(item, str)]
    if texts and lists:
        raise invalid("items mixes texts and token ids: send one kind", "items")
    if asked.query is not None and isinstance(query, str) == bool(lists):
        raise invalid("query and items must both be text, or both be token ids", "query")
    if texts and isinstance(query, str):
        both = [text + query if asked.item_first else query + text for text in texts]
        return await encode(engine, Prompts(both, is_batch=True), "items", add_special_tokens=True)
    ids = [] if isinstance(query, str) else query
    joined = [[*item, *ids] if asked.item_first else [*ids, *item] for item in lists]
    return await encode(engine, Prompts(joined, is_batch=True), "items", add_special_tokens=False)


def _texts(value: str | list[str] | None, name: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not texts:
        raise invalid(f"{name} is missing: send a text or several", name, "missing_field")
    return texts


def _probabilities(computed: Computed, *, softmax: bool) -> list[float]:
    [score] = list(each(computed.scores)) or [None]
    if score is None:
        raise internal("a score was lost inside the server: send the request again")
    likely = [math.exp(logprob) for logprob in score.asked]
    if not softmax:
        return likely
    most = max(score.asked)
    shares = [math.exp(logprob - most) for logprob in score.asked]
    return [share / sum(shares) for share in shares]


def _usage(found: Sequence[Computed]) -> ScoreUsage:
    tokens = sum(one.prompt_tokens for one in found)
    return ScoreUsage(prompt_tokens=tokens, total_tokens=tokens)
