"""Over 300 schemas and regular expressions, a model of random weights, temperature 1: only grammars make text valid."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from shared.grammar import Whitespace
from tests.grammars import REGEXES, SCHEMAS, Named
from tests.random_schemas import random_schemas
from tests.stack import Stack, running
from tests.tokenizer_svc.grammar.schema_oracle import validator
from tokenizer_svc.grammar.spec import GrammarSpec, Kind

TOKENS = 300
TOGETHER = 32
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_LONGEST_SPACE = 64  # between tokens of JSON, under the most generous policy


async def answer(stack: Stack, spec: GrammarSpec, seed: int, turn: asyncio.Semaphore) -> dict[str, Any]:
    wish = (
        {"regex": spec.text} if spec.kind is Kind.REGEX else {"json_schema": spec.text, "whitespace": spec.whitespace}
    )
    sampling = {"temperature": 1, "max_new_tokens": TOKENS, "sampling_seed": seed, "logit_bias": {"5": 3.0}}
    async with turn:
        return await stack.post("/generate", {"text": "you are", "sampling_params": sampling | wish})


def check(name: str, spec: GrammarSpec, text: str) -> None:
    if spec.kind is Kind.REGEX:
        assert re.fullmatch(spec.text, text, re.ASCII), f"{name}: {text}"
        return
    validator(json.loads(spec.text)).validate(json.loads(text))
    between = _STRING.sub("", text)
    assert not re.search(rf"\s{{{_LONGEST_SPACE},}}", between), f"{name}: {text}"
    if spec.whitespace is Whitespace.COMPACT:
        assert not re.search(r"\s", between), f"{name}: {text}"


async def test_every_finished_answer_is_valid(redis_url: str, namespace: str, toy_model: Path, cache_dir: Path) -> None:
    named: list[Named] = [*SCHEMAS, *REGEXES, *random_schemas(220, seed=5)]
    named = [(name, spec) for name, spec in named if spec.text != "true"]  # the front door wants objects
    assert len(named) >= 300
    async with running(redis_url, namespace, toy_model, cache_dir) as stack:
        turn = asyncio.Semaphore(TOGETHER)
        answers = await asyncio.gather(*(answer(stack, spec, n, turn) for n, (_, spec) in enumerate(named)))
    finished = 0
    for (name, spec), given in zip(named, answers, strict=True):
        meta = given["meta_info"]
        if meta["finish_reason"]["type"] == "stop":
            check(name, spec, given["text"])
            finished += 1
        else:
            assert meta["completion_tokens"] == TOKENS, name
    assert finished > 0.8 * len(named)
