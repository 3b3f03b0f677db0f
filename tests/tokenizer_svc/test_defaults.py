"""The defaults that the OpenAPI document names are those that hold: to send them all changes nothing."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec
import pytest

from shared.protocol import Generate, ModelCard, Track
from tests.tokenizer_svc.downstream import ROOMY, Downstream
from tokenizer_svc.limits import Limits
from tokenizer_svc.openapi import document
from tokenizer_svc.openapi_operations import OPERATIONS

SCHEMAS = document(frozenset(OPERATIONS), Limits(), ["toy"])["components"]["schemas"]
HI = [{"role": "user", "content": "hi"}]
WITH_OTHERS = {
    "whitespace",  # needs a schema
    "logprob_start_len",  # these two need return_logprob
    "top_logprobs_num",
}


def defaults(struct: str) -> dict[str, Any]:
    fields = SCHEMAS[struct]["properties"].items()
    return {
        name: schema["default"]
        for name, schema in fields
        if schema.get("default") is not None and name not in WITH_OTHERS
    }


@pytest.fixture
def card() -> ModelCard:
    return ROOMY


async def outcome(http: aiohttp.ClientSession, downstream: Downstream, path: str, body: dict[str, Any]) -> object:
    """What the other processes are told."""
    downstream.generates.clear()
    downstream.messages.clear()
    async with http.post(path, json=body) as response:
        assert response.status == 200, await response.text()
        await response.read()
    [generate] = downstream.received(Generate)
    [track] = downstream.received(Track)
    sampling = msgspec.structs.replace(generate.sampling, seed=0)
    return sampling, generate.input_ids, generate.priority, msgspec.structs.replace(track, id=0)


@pytest.mark.parametrize(
    ("path", "struct", "body"),
    [
        ("/v1/chat/completions", "ChatRequest", {"messages": HI}),
        ("/v1/completions", "CompletionRequest", {"prompt": "hi"}),
        ("/v1/messages", "MessagesRequest", {"messages": HI, "max_tokens": 9}),
        ("/v1/responses", "ResponsesRequest", {"input": "hi"}),
        ("/generate", "GenerateRequest", {"text": "hi"}),
    ],
)
async def test_defaults_change_nothing(
    http: aiohttp.ClientSession, downstream: Downstream, path: str, struct: str, body: dict[str, Any]
) -> None:
    sent = {**defaults(struct), **body}
    if struct == "GenerateRequest":
        sent["sampling_params"] = defaults("SamplingParams")
    assert len(sent) > len(body) + 3
    expected = await outcome(http, downstream, path, body)
    assert await outcome(http, downstream, path, sent) == expected
