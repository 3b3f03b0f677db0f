"""The native API: SGLang's fields and answers."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from shared import columns
from shared.protocol import Finish, Generate
from tests.tokenizer_svc.downstream import Downstream


async def generate(http: aiohttp.ClientSession, **body: Any) -> Any:
    async with http.post("/generate", json=body) as response:
        answer = await response.json()
        assert response.status == 200, answer
        return answer


async def test_single_answer(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    answer = await generate(http, text="hi", sampling_params={"max_new_tokens": 7, "sampling_seed": 3})
    [request] = downstream.received(Generate)
    assert answer["meta_info"].pop("e2e_latency") > 0
    assert answer == {
        "text": "Hello wörld",
        "output_ids": [10, 11, 2],
        "meta_info": {
            "id": f"gen-{request.id:016x}",
            "finish_reason": {"type": "stop", "matched": 2},
            "prompt_tokens": 2,
            "completion_tokens": 3,
            "forced_tokens": 0,
            "cached_tokens": 2,
        },
    }
    assert (request.sampling.max_tokens, request.sampling.seed) == (7, 3)


async def test_default_length_is_128(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    await generate(http, input_ids=[5, 6])
    [request] = downstream.received(Generate)
    assert request.sampling.max_tokens == 128


@pytest.mark.parametrize(
    "body",
    [
        {"text": ["a", "b"]},
        {"input_ids": [[5], [6, 7]]},
        {"text": ["a"]},
        {"text": "a", "sampling_params": {"n": 2}},
        {"input_ids": [[5], [6]], "sampling_params": [{"max_new_tokens": 1}, {"temperature": 0}]},
    ],
)
async def test_batches_answer_with_a_list(
    http: aiohttp.ClientSession, downstream: Downstream, body: dict[str, Any]
) -> None:
    answers = await generate(http, **body)
    assert isinstance(answers, list)
    assert [answer["text"] for answer in answers] == ["Hello wörld"] * len(downstream.generates)
    assert len({answer["meta_info"]["id"] for answer in answers}) == len(answers)


async def test_stream_is_cumulative(http: aiohttp.ClientSession) -> None:
    async with http.post("/generate", json={"text": "hi", "stream": True}) as response:
        *events, done, rest = (await response.text()).split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    outputs = [json.loads(event.removeprefix("data: ")) for event in events]
    assert [output["text"] for output in outputs] == ["Hello", "Hello wörld", "Hello wörld"]
    assert [output["output_ids"] for output in outputs] == [[10], [10, 11], [10, 11, 2]]
    assert [output["meta_info"]["completion_tokens"] for output in outputs] == [1, 2, 3]
    reasons = [output["meta_info"]["finish_reason"] for output in outputs]
    assert reasons == [None, None, {"type": "stop", "matched": 2}]
    assert all("index" not in output for output in outputs)


async def test_stream_of_a_batch_says_which(http: aiohttp.ClientSession) -> None:
    async with http.post("/generate", json={"text": ["a", "b"], "stream": True}) as response:
        events = (await response.text()).split("\n\n")[:-2]
    outputs = [json.loads(event.removeprefix("data: ")) for event in events]
    last = {output["index"]: output["text"] for output in outputs}
    assert last == {0: "Hello wörld", 1: "Hello wörld"}


async def stop_string(downstream: Downstream, generate: Generate) -> None:
    await downstream.texts(generate, (0, [10, 11], "ab", Finish.STOP, "END"))


async def test_matched_stop_string(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    downstream.script = stop_string
    answer = await generate(http, text="hi", sampling_params={"stop": "END"})
    assert answer["meta_info"]["finish_reason"] == {"type": "stop", "matched": "END"}


async def length(downstream: Downstream, generate: Generate) -> None:
    await downstream.texts(generate, (0, [10, 11], "ab", Finish.LENGTH, None))


async def test_length(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    downstream.script = length
    answer = await generate(http, text="hi", sampling_params={"max_new_tokens": 2})
    assert answer["meta_info"]["finish_reason"] == {"type": "length", "length": 2}


async def test_parameters_by_prompt(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    params = [{"max_new_tokens": 3, "ignore_eos": True}, {"min_new_tokens": 2, "stop_token_ids": [9]}]
    await generate(http, input_ids=[[5], [6, 7]], sampling_params=params, cache_salt="s", priority=2)
    first, second = sorted(downstream.received(Generate), key=lambda request: len(request.input_ids))
    assert columns.as_int32(second.input_ids).tolist() == [6, 7]
    assert (first.sampling.max_tokens, first.sampling.stop_token_ids) == (3, ())
    assert (second.sampling.min_tokens, second.sampling.stop_token_ids) == (2, (2, 9))
    assert {first.namespace, second.namespace} == {"/s"}
    assert {first.priority, second.priority} == {2}
