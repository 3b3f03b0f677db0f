"""The native API, scores and vectors over a whole deployment."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import pytest_asyncio

from tests.stack import Stack, running

PROMPT = [261, 284, 313, 223, 296, 81, 89, 80]
GREEDY = {"max_new_tokens": 6, "temperature": 0, "ignore_eos": True}


@pytest_asyncio.fixture
async def stack(redis_url: str, namespace: str, toy_model: Path, cache_dir: Path) -> AsyncIterator[Stack]:
    async with running(redis_url, namespace, toy_model, cache_dir) as stack:
        yield stack


async def events(stack: Stack, **body: Any) -> list[dict[str, Any]]:
    async with stack.http.post(f"{stack.url}/generate", json={"stream": True, **body}) as response:
        lines = [line[6:] async for line in response.content if line.startswith(b"data: ")]
    assert lines[-1].strip() == b"[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def refusal(stack: Stack, path: str, body: dict[str, Any]) -> tuple[int, str]:
    async with stack.http.post(f"{stack.url}{path}", json=body) as response:
        return response.status, (await response.json())["error"]["param"]


async def test_log_probabilities(stack: Stack) -> None:
    asked = {
        "return_logprob": True,
        "top_logprobs_num": 2,
        "token_ids_logprob": [5, 6],
        "return_text_in_logprobs": True,
    }
    answer = await stack.post("/generate", {"input_ids": PROMPT, "sampling_params": GREEDY, **asked})
    meta, ids = answer["meta_info"], answer["output_ids"]
    assert meta["input_token_logprobs"] == []
    assert [entry[1] for entry in meta["output_token_logprobs"]] == ids
    for entry, top, these in zip(
        meta["output_token_logprobs"], meta["output_top_logprobs"], meta["output_token_ids_logprobs"], strict=True
    ):
        assert top[0] == entry, "greedy takes the likeliest"
        assert len(top) == 2
        assert [pair[1] for pair in these] == [5, 6]
        assert all(isinstance(pair[2], str) for pair in (*top, *these))

    # what was generated scores the same as a prompt, from any position on, and every prompt has a first token
    whole = [*PROMPT, *ids]
    computed = {"input_ids": whole, "sampling_params": {"max_new_tokens": 0}, **asked}
    everything = (await stack.post("/generate", {**computed, "logprob_start_len": 0}))["meta_info"]
    assert everything["completion_tokens"] == 0
    assert everything["finish_reason"] == {"type": "length", "length": 0}
    assert [entry[1] for entry in everything["input_token_logprobs"]] == whole
    assert everything["input_token_logprobs"][0] == [None, PROMPT[0], "the"]
    assert everything["input_top_logprobs"][0] is everything["input_token_ids_logprobs"][0] is None
    for start in (1, 3, len(PROMPT), len(whole)):
        part = (await stack.post("/generate", {**computed, "logprob_start_len": start}))["meta_info"]
        for name in ("input_token_logprobs", "input_top_logprobs", "input_token_ids_logprobs"):
            assert json.dumps(part[name]) == json.dumps(everything[name][start:]) or start == len(PROMPT)
            assert len(part[name]) == len(whole) - start
    scores = [entry[0] for entry in everything["input_token_logprobs"][len(PROMPT) :]]
    assert scores == pytest.approx([entry[0] for entry in meta["output_token_logprobs"]], abs=1e-4)


async def test_each_prompt_of_a_batch_has_its_own_wishes(stack: Stack) -> None:
    body = {
        "input_ids": [PROMPT, PROMPT[:3], PROMPT[:4]],
        "sampling_params": GREEDY,
        "return_logprob": [True, False, True],
        "logprob_start_len": [0, None, -1],
        "top_logprobs_num": [0, 1, 3],
        "token_ids_logprob": [None, [1], [7, 8, 9]],
        "rid": ["a", "b", "c"],
    }
    first, second, third = (answer["meta_info"] for answer in await stack.post("/generate", body))  # type: ignore[union-attr]
    assert (first["id"], second["id"], third["id"]) == ("a", "b", "c")
    assert len(first["input_token_logprobs"]) == len(PROMPT)
    assert "input_top_logprobs" not in first
    assert not {name for name in second if "logprob" in name}
    assert third["input_token_logprobs"] == []
    assert {len(top) for top in third["output_top_logprobs"]} == {3}
    assert {len(these) for these in third["output_token_ids_logprobs"]} == {3}


async def test_streams_tell_all_so_far_or_what_is_new(stack: Stack) -> None:
    body = {"input_ids": PROMPT, "sampling_params": GREEDY, "return_logprob": True, "logprob_start_len": 2}
    whole = await stack.post("/generate", body)
    cumulative = await events(stack, **body)
    for name in ("text", "output_ids"):
        assert cumulative[-1][name] == whole[name]
    for name in ("input_token_logprobs", "output_token_logprobs"):
        assert cumulative[-1]["meta_info"][name] == whole["meta_info"][name]
    assert all(len(e["output_ids"]) == len(e["meta_info"]["output_token_logprobs"]) for e in cumulative)
    for wish in ("stream_output", "incremental_streaming_output"):
        new = await events(stack, **body, **{wish: True})
        assert "".join(event["text"] for event in new) == whole["text"]
        assert [id for event in new for id in event["output_ids"]] == whole["output_ids"]
        for name in ("input_token_logprobs", "output_token_logprobs"):
            assert [entry for event in new for entry in event["meta_info"][name]] == whole["meta_info"][name]


async def test_latency_divides_between_the_processes(stack: Stack) -> None:
    meta = (await stack.post("/generate", {"input_ids": PROMPT, "sampling_params": GREEDY}))["meta_info"]
    assert set(meta["latency"]) == {"tokenizer", "scheduler", "worker_prefill", "worker_decode", "detokenizer"}
    assert min(meta["latency"].values()) >= 0
    assert sum(meta["latency"].values()) == pytest.approx(meta["e2e_latency"], abs=0.002)
    assert meta["queue_time"] == meta["latency"]["scheduler"]


async def test_requests_are_aborted_by_the_names_of_their_clients(stack: Stack) -> None:
    long = {"max_new_tokens": 1500, "ignore_eos": True}
    batch = {"input_ids": [PROMPT, PROMPT], "sampling_params": long, "rid": "job"}
    asking = [
        asyncio.create_task(stack.post("/generate", batch)),
        asyncio.create_task(stack.post("/generate", {"input_ids": PROMPT, "sampling_params": long, "rid": "other"})),
        asyncio.create_task(stack.post("/generate", {"input_ids": PROMPT, "sampling_params": {**long, "n": 2}})),
    ]

    async def waiting() -> None:
        async with asyncio.timeout(10):
            while await stack.metric("rootstream_http_sequences") < 5:
                await asyncio.sleep(0.02)

    await waiting()
    await stack.post("/abort_request", {"rid": "jo"})  # no beginnings of names
    await stack.post("/abort_request", {"rid": "job_1", "abort_message": "one is enough"})
    await stack.post("/abort_request", {"rid": "job"})
    first, second = (answer["meta_info"] for answer in await asking[0])  # type: ignore[union-attr]
    assert first["finish_reason"] == {"type": "abort", "message": "the request was aborted"}
    assert second["finish_reason"] == {"type": "abort", "message": "one is enough"}
    assert not asking[1].done()
    await stack.post("/abort_request", {"abort_all": True, "rid": ""})
    reasons = [(await asking[1])["meta_info"]["finish_reason"]["type"]]
    reasons += [answer["meta_info"]["finish_reason"]["type"] for answer in await asking[2]]  # type: ignore[union-attr]
    assert reasons == ["abort"] * 3


async def test_what_cannot_be_scored_is_refused_by_name(stack: Stack) -> None:
    wanted = {"input_ids": PROMPT, "return_logprob": True}
    for body, param in (
        ({**wanted, "logprob_start_len": 9}, "logprob_start_len"),
        ({**wanted, "logprob_start_len": -2}, "logprob_start_len"),
        ({**wanted, "token_ids_logprob": [320]}, "token_ids_logprob"),
        ({**wanted, "token_ids_logprob": [1, [2]]}, "token_ids_logprob"),
        ({**wanted, "top_logprobs_num": 129}, "top_logprobs_num"),
        ({**wanted, "return_logprob": [True, True]}, "return_logprob"),
        ({"input_ids": PROMPT, "top_logprobs_num": 1}, "top_logprobs_num"),
        ({"input_ids": PROMPT, "rid": ""}, "rid"),
        ({"input_ids": PROMPT, "rid": ["a"]}, "rid"),
        ({"input_ids": [PROMPT, PROMPT], "rid": ["a", "a"]}, "rid"),
    ):
        assert await refusal(stack, "/generate", body) == (400, param)


async def test_vectors(stack: Stack) -> None:
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        found = await client.embeddings.create(model="toy-llama", input=["the quick", "brown"])  # sent as base64
        plain = await client.embeddings.create(model="toy-llama", input=["the quick", "brown"], encoding_format="float")
        ids = await client.embeddings.create(model="toy-llama", input=[261, 284, 313])
        with pytest.raises(openai.BadRequestError, match="dimensions"):
            await client.embeddings.create(model="toy-llama", input="a", dimensions=4)
    vectors = [np.array(each.embedding) for each in found.data]
    assert [each.index for each in found.data] == [0, 1]
    assert [float(np.linalg.norm(vector)) for vector in vectors] == pytest.approx([1, 1], abs=1e-5)
    assert np.allclose(vectors, [each.embedding for each in plain.data], atol=1e-6)
    assert np.allclose(vectors[0], ids.data[0].embedding, atol=1e-5)
    assert found.usage.prompt_tokens == found.usage.total_tokens == 7
    mean = await stack.post("/v1/embeddings", {"input": "the quick", "pooling": "mean", "encoding_format": "base64"})
    packed = np.frombuffer(base64.b64decode(mean["data"][0]["embedding"]), dtype="<f4")
    assert float(np.linalg.norm(packed)) == pytest.approx(1, abs=1e-5)
    assert not np.allclose(packed, vectors[0], atol=1e-2)
    for body, param in (
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [9999]}, "input"),
        ({"input": [5] * 2049}, "input"),
        ({"input": "a", "truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"input": "a", "truncation_side": "middle"}, "truncation_side"),
    ):
        assert await refusal(stack, "/v1/embeddings", body) == (400, param)


async def test_texts_for_vectors_are_shortened(stack: Stack) -> None:
    async def vector(ids: list[int], **fields: Any) -> list[float]:
        answer = await stack.post("/v1/embeddings", {"input": ids, **fields})
        return answer["data"][0]["embedding"]

    last, first = await vector([284, 313]), await vector([261, 284])
    assert await vector([261, 284, 313], truncate_prompt_tokens=2) == pytest.approx(last, abs=1e-5)
    cut = await vector([261, 284, 313], truncate_prompt_tokens=2, truncation_side="right")
    assert cut == pytest.approx(first, abs=1e-5)
    assert await vector([284, 313], truncate_prompt_tokens=-1) == pytest.approx(last, abs=1e-5)
    whole = await stack.post("/v1/embeddings", {"input": [5] * 3000, "truncate_prompt_tokens": -1})
    assert whole["usage"]["prompt_tokens"] == 2048, "as many as fit"


async def test_too_many_scores_of_prompts_are_refused(stack: Stack) -> None:
    """One prompt as long as the context with all that the native API gives, or several with what OpenAI's gives."""
    prompt = [5] * 2040
    body = {"input_ids": prompt, "return_logprob": True, "logprob_start_len": 0, "top_logprobs_num": 128}
    sampling = {"max_new_tokens": 1}
    assert await refusal(stack, "/generate", body | {"sampling_params": sampling}) == (400, "logprob_start_len")
    batch = {"prompt": [prompt] * 7, "max_tokens": 1}
    assert await refusal(stack, "/v1/completions", batch | {"echo": True, "logprobs": 20}) == (400, "logprobs")
    assert await refusal(stack, "/v1/completions", batch | {"prompt_logprobs": 20}) == (400, "prompt_logprobs")
    late = body | {"logprob_start_len": 2030, "sampling_params": sampling}
    found = await stack.post("/generate", late)
    assert len(found["meta_info"]["input_token_logprobs"]) == 10


async def test_scores_of_labels_are_those_of_the_next_token(stack: Stack) -> None:
    labels = [5, 6, 221]
    items = [[296, 81], [89]]
    body = {"query": PROMPT[:4], "items": items, "label_token_ids": labels}
    plain = (await stack.post("/v1/score", body))["scores"]
    shares = (await stack.post("/v1/score", {**body, "apply_softmax": True}))["scores"]
    turned = (await stack.post("/v1/score", {**body, "item_first": True}))["scores"]
    for index, item in enumerate(items):
        for prompt, found in (([*PROMPT[:4], *item], plain), ([*item, *PROMPT[:4]], turned)):
            wish = {"return_logprob": True, "token_ids_logprob": labels}
            one = {"input_ids": prompt, "sampling_params": {**GREEDY, "max_new_tokens": 1}, **wish}
            [pairs] = (await stack.post("/generate", one))["meta_info"]["output_token_ids_logprobs"]
            assert found[index] == pytest.approx([np.exp(pair[0]) for pair in pairs], rel=1e-3)
    for row, share in zip(plain, shares, strict=True):
        assert share == pytest.approx([value / sum(row) for value in row], rel=1e-6)
    texts = {"query": "the quick", "items": [" brown", " lazy"], "label_token_ids": labels}
    answer = await stack.post("/v1/score", texts)
    assert (answer["object"], len(answer["scores"]), answer["usage"]["completion_tokens"]) == ("scoring", 2, 0)
    alike = await stack.post("/v1/score", {"text_1": "the quick", "text_2": ["the quick", "brown"]})
    assert [each["score"] > 0.999 for each in alike["data"]] == [True, False]
    for bad, param in (
        ({**texts, "label_token_ids": []}, "label_token_ids"),
        ({**texts, "label_token_ids": [320]}, "label_token_ids"),
        ({**texts, "query": [5]}, "query"),
        ({**texts, "items": []}, "items"),
        ({"text_1": "a"}, "text_2"),
        ({"text_1": ["a", "b"], "text_2": "a"}, "text_1"),
    ):
        assert await refusal(stack, "/v1/score", bad) == (400, param)


async def test_tokens_of_texts_and_texts_of_tokens(stack: Stack) -> None:
    one = await stack.post("/tokenize", {"prompt": "the quick", "return_token_strs": True})
    assert one == {"tokens": [261, 284, 313], "count": 3, "max_model_len": 2048, "token_strs": ["the", "Ġqu", "ick"]}
    several = await stack.post("/tokenize", {"prompt": ["the quick", "the"]})
    assert (several["tokens"], several["count"]) == ([[261, 284, 313], [261]], [3, 1])
    said = await stack.post("/tokenize", {"messages": [{"role": "user", "content": "hi"}]})
    text = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert (await stack.post("/detokenize", {"tokens": said["tokens"]}))["prompt"] == text
    left_open = {"messages": [{"role": "user", "content": "hi"}], "continue_final_message": True}
    ids = (await stack.post("/tokenize", left_open))["tokens"]
    assert (await stack.post("/detokenize", {"tokens": ids}))["prompt"] == "<|im_start|>user\nhi"
    hidden = await stack.post("/detokenize", {"tokens": said["tokens"], "skip_special_tokens": True})
    assert hidden["text"] == "user\nhi\nassistant\n"
    both = await stack.post("/detokenize", {"tokens": [[261], [284, 313]]})
    assert both["prompt"] == both["text"] == ["the", " quick"]
    async with stack.http.get(f"{stack.url}/tokenizer_info") as response:
        info = await response.json()
    assert (info["vocab_size"], info["eos_token"]) == (320, "<|im_end|>")
    for path, body, param in (
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": []}, "messages"),
        ("/detokenize", {"tokens": [320]}, "tokens"),
        ("/detokenize", {"tokens": [1, [2]]}, "tokens"),
        ("/detokenize", {}, "tokens"),
    ):
        assert await refusal(stack, path, body) == (400, param)
