"""Chat and completions over real HTTP: bytes of the stream, and what OpenAI's own client makes of them."""

from __future__ import annotations

import json
import re
from typing import Any

import aiohttp
import openai
import pytest

from shared import columns
from shared.protocol import Failure, Finish, Generate, Sampling, Track
from shared.tokenizer import Tokenizer
from tests.tokenizer_svc.downstream import Downstream

HI = [{"role": "user", "content": "hi"}]
ECHO_USAGE = {
    "prompt_tokens": 15,
    "completion_tokens": 3,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 2},
    "completion_tokens_details": {"forced_tokens": 0, "reasoning_tokens": 0},
}


async def stream(http: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> bytes:
    async with http.post(path, json=body | {"stream": True}) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        return await response.read()


def anonymous(data: bytes) -> str:
    """Stream bytes without what differs between runs."""
    text = re.sub(r'"created":\d+', '"created":0', data.decode())
    text = re.sub(r'"system_fingerprint":"fp_[0-9a-f]{10}"', '"system_fingerprint":"fp"', text)
    return re.sub(r'"id":"([a-z]+)-[0-9a-f]{16}"', r'"id":"\1-0"', text)


async def test_chat_stream_bytes(http: aiohttp.ClientSession) -> None:
    head = (
        'data: {"id":"chatcmpl-0","object":"chat.completion.chunk","created":0,"model":"toy","system_fingerprint":"fp",'
    )
    head += '"choices":[{"index":0,"delta":'
    assert anonymous(await stream(http, "/v1/chat/completions", {"model": "toy", "messages": HI})) == (
        head + '{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]}\n\n'
        + head + '{"content":"Hello"},"logprobs":null,"finish_reason":null}]}\n\n'
        + head + '{"content":" wörld"},"logprobs":null,"finish_reason":null}]}\n\n'
        + head + '{},"logprobs":null,"finish_reason":"stop","stop_reason":null,"matched_stop":2}]}\n\n'
        + "data: [DONE]\n\n"
    )  # fmt: skip


async def test_completion_stream_bytes_with_usage(http: aiohttp.ClientSession) -> None:
    body = {"prompt": "hi", "stream_options": {"include_usage": True}}
    head = 'data: {"id":"cmpl-0","object":"text_completion","created":0,"model":"toy","system_fingerprint":"fp",'
    head += '"choices":'
    assert anonymous(await stream(http, "/v1/completions", body)) == (
        head + '[{"index":0,"text":"Hello","logprobs":null,"finish_reason":null}],"usage":null}\n\n'
        + head + '[{"index":0,"text":" wörld","logprobs":null,"finish_reason":null}],"usage":null}\n\n'
        + head + '[{"index":0,"text":"","logprobs":null,"finish_reason":"stop","stop_reason":null,'
        '"matched_stop":2}],"usage":null}\n\n'
        + head + '[],"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5,'
        '"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"forced_tokens":0,"reasoning_tokens":0}}}\n\n'
        + "data: [DONE]\n\n"
    )  # fmt: skip


async def test_identity_is_the_same_on_every_chunk(http: aiohttp.ClientSession) -> None:
    body = {"messages": HI, "n": 3, "stream_options": {"include_usage": True}}
    data = await stream(http, "/v1/chat/completions", body)
    chunks = [json.loads(line[6:]) for line in data.decode().split("\n\n") if line and "[DONE]" not in line]
    assert len({(c["id"], c["object"], c["created"], c["model"]) for c in chunks}) == 1
    assert chunks[0]["id"].startswith("chatcmpl-")
    assert [c["choices"][0]["index"] for c in chunks[:3]] == [0, 1, 2]
    assert all(c["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None} for c in chunks[:3])
    assert all(c["usage"] is None for c in chunks[:-1])
    assert chunks[-1]["choices"] == []


async def test_chat_with_openais_client(client: openai.AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(model="toy", messages=HI)  # type: ignore[arg-type]
    [choice] = reply.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "Hello wörld", "stop")
    assert reply.object == "chat.completion"
    assert reply.usage is not None
    assert reply.usage.model_dump(exclude_none=True) == ECHO_USAGE


async def test_chat_stream_with_openais_client(client: openai.AsyncOpenAI) -> None:
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model="toy",
            messages=HI,  # type: ignore[arg-type]
            stream=True,
            stream_options={"include_usage": True},
        )
    ]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello wörld"
    assert [c.choices[0].finish_reason for c in chunks if c.choices] == [None, None, None, "stop"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.model_dump(exclude_none=True) == ECHO_USAGE


async def test_completions_with_openais_client(client: openai.AsyncOpenAI) -> None:
    reply = await client.completions.create(model="toy", prompt=["hi", "hello there"], n=2)
    assert [(c.index, c.text, c.finish_reason) for c in reply.choices] == [
        (index, "Hello wörld", "stop") for index in range(4)
    ]
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 12
    assert reply.usage.prompt_tokens_details is not None
    assert reply.usage.prompt_tokens_details.cached_tokens == 4  # of two prompts, not of four choices


async def test_completion_stream_with_openais_client(client: openai.AsyncOpenAI) -> None:
    parts = [c.choices[0].text async for c in await client.completions.create(model="toy", prompt="hi", stream=True)]
    assert "".join(parts) == "Hello wörld"


async def test_models_with_openais_client(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["toy"]
    assert (await client.models.retrieve("toy")).owned_by == "rootstream"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("the fox", ["the fox"]),
        (["the fox", "hello"], ["the fox", "hello"]),
        ([5, 6, 7], [[5, 6, 7]]),
        ([[5, 6], [7]], [[5, 6], [7]]),
    ],
)
async def test_prompt_forms(
    http: aiohttp.ClientSession, downstream: Downstream, toy_tokenizer: Tokenizer, prompt: Any, expected: list[Any]
) -> None:
    async with http.post("/v1/completions", json={"prompt": prompt}) as response:
        assert response.status == 200
        assert [c["index"] for c in (await response.json())["choices"]] == list(range(len(expected)))
    ids = [columns.as_int32(generate.input_ids).tolist() for generate in downstream.received(Generate)]
    assert ids == [
        toy_tokenizer.encode(item, add_special_tokens=True) if isinstance(item, str) else item for item in expected
    ]


async def test_chat_prompt_is_the_template_of_the_messages(
    http: aiohttp.ClientSession, downstream: Downstream, toy_tokenizer: Tokenizer
) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": None},
        {"role": "user", "content": "go", "name": None},
    ]
    async with http.post("/v1/chat/completions", json={"messages": messages}) as response:
        assert response.status == 200
    [generate] = downstream.received(Generate)
    assert toy_tokenizer.decode(columns.as_int32(generate.input_ids).tolist(), skip_special_tokens=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\none\ntwo<|im_end|>\n"
        "<|im_start|>assistant\n<|im_end|>\n<|im_start|>user\ngo<|im_end|>\n<|im_start|>assistant\n"
    )
    assert generate.sampling.max_tokens == downstream.card.context_length - len(generate.input_ids) // 4


async def prompt_of(http: aiohttp.ClientSession, downstream: Downstream, tokenizer: Tokenizer, *messages: Any) -> str:
    async with http.post("/v1/chat/completions", json={"messages": messages}) as response:
        assert response.status == 200, await response.text()
    ids = columns.as_int32(downstream.received(Generate)[-1].input_ids).tolist()
    return tokenizer.decode(ids, skip_special_tokens=False)


async def test_every_form_of_content(
    http: aiohttp.ClientSession, downstream: Downstream, toy_tokenizer: Tokenizer
) -> None:
    """Whoever sends back what it got, from whichever API, is understood."""
    question = [{"type": "input_text", "text": "a"}, {"type": "text", "text": "b"}]
    refusal: dict[str, Any] = {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}
    refused: dict[str, Any] = {
        "role": "assistant",
        "content": None,
        "refusal": "never",
        "annotations": [],
        "audio": None,
    }
    thought = [{"type": "thinking", "thinking": "hm"}, {"type": "output_text", "text": "yes"}]
    text = await prompt_of(
        *(http, downstream, toy_tokenizer, {"role": "user", "content": question}, refusal, refused),
        {"role": "assistant", "content": thought, "tool_calls": None, "function_call": None},
    )
    for part in ("user\na\nb<", "assistant\nno<", "assistant\nnever<", "assistant\nyes<"):
        assert part in text
    assert "hm" not in text


async def test_parts_that_are_no_text_are_refused_by_name(http: aiohttp.ClientSession) -> None:
    for kind in ("image_url", "input_image", "input_audio", "video_url", "file"):
        content = [{"type": "text", "text": "look"}, {"type": kind, kind: {"url": "x"}}]
        async with http.post(
            "/v1/chat/completions", json={"messages": [{"role": "user", "content": content}]}
        ) as response:
            error = (await response.json())["error"]
        assert (response.status, error["param"]) == (400, "messages[0].content[1].type")
        assert kind in error["message"]


async def test_request_ids_are_given_back(http: aiohttp.ClientSession) -> None:
    for asked, same in (("my-request.1", True), ("not sane!", False)):
        async with http.post("/v1/completions", json={"prompt": "a"}, headers={"X-Request-Id": asked}) as response:
            assert (response.headers["X-Request-Id"] == asked) is same
            assert response.headers["X-Request-Id"]


async def test_every_field_reaches_the_worker(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    body = {
        "prompt": [5, 6, 7],
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": 7,
        "min_p": 0.125,
        "n": 2,
        "seed": 2**64 - 1,
        "stop": ["END", "\n\n"],
        "stop_token_ids": [9, 8],
        "min_tokens": 3,
        "frequency_penalty": -1.5,
        "presence_penalty": 1.5,
        "repetition_penalty": 1.25,
        "logit_bias": {"5": -100, "6": 2.5},
        "cache_salt": "tenant",
        "priority": -4,
        "user": "somebody",
        "skip_special_tokens": False,
        "include_stop_str_in_output": True,
    }
    async with http.post("/v1/completions", json=body) as response:
        assert response.status == 200, await response.text()
    first, second = downstream.received(Generate)
    assert first.sampling == Sampling(
        max_tokens=9,
        temperature=0.5,
        top_k=7,
        top_p=0.25,
        min_p=0.125,
        frequency_penalty=-1.5,
        presence_penalty=1.5,
        repetition_penalty=1.25,
        seed=2**64 - 1,
        logit_bias=((5, -100.0), (6, 2.5)),
        min_tokens=3,
        stop_token_ids=(2, 9, 8),
    )
    assert second.sampling.seed == 0, "the seed of the second choice is one more, in 64 bits"
    assert (first.namespace, first.priority, first.reply_to, first.detokenizer) == ("/tenant", -4, "t", "d")
    await downstream.until(lambda: len(downstream.received(Track)) == 2)
    tracks = {track.id: track for track in downstream.received(Track)}
    assert tracks[first.id] == Track(
        id=first.id,
        reply_to="t",
        context=columns.int32([5, 6, 7]),
        stop=("END", "\n\n"),
        include_stop=True,
        stop_token_ids=(2, 9, 8),
        skip_special_tokens=False,
        max_tokens=9,
        prompt_len=3,
    )


async def test_ignore_eos_and_defaults(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    async with http.post("/v1/completions", json={"prompt": "hi", "ignore_eos": True, "temperature": None}) as response:
        assert response.status == 200
    [generate] = downstream.received(Generate)
    assert generate.sampling.stop_token_ids == ()
    assert (generate.sampling.max_tokens, generate.sampling.temperature) == (16, 1.0)


async def test_answers_without_seed_differ_in_seed(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    for _ in range(2):
        async with http.post("/v1/completions", json={"prompt": "hi"}) as response:
            assert response.status == 200
    assert len({generate.sampling.seed for generate in downstream.received(Generate)}) == 2


async def test_max_completion_tokens_outranks_max_tokens(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    body = {"messages": HI, "max_tokens": 5, "max_completion_tokens": 6}
    async with http.post("/v1/chat/completions", json=body) as response:
        assert response.status == 200
    [generate] = downstream.received(Generate)
    assert generate.sampling.max_tokens == 6


async def test_live_record_is_written_with_the_request(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    async with http.post("/v1/completions", json={"prompt": "hi"}) as response:
        assert response.status == 200
    [generate] = downstream.received(Generate)
    from shared.protocol import decode

    live = await downstream.bus.hash(downstream.bus.names.live)
    assert decode(live[str(generate.id)]) == generate


async def length(downstream: Downstream, generate: Generate) -> None:
    await downstream.texts(generate, (0, [10], "a", Finish.NONE, None), (1, [11], "b", Finish.LENGTH, None))


async def test_texts_without_admitted_and_length(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    downstream.script = length
    async with http.post("/v1/completions", json={"prompt": "hi", "max_tokens": 2}) as response:
        body = await response.json()
    stops = {"stop_reason": None, "matched_stop": None}
    assert body["choices"] == [{"index": 0, "text": "ab", "logprobs": None, "finish_reason": "length", **stops}]


async def redelivered(downstream: Downstream, generate: Generate) -> None:
    """What a restarted detokenizer does: it repeats rows."""
    await downstream.admit(generate, 1)
    rows = [(i, [10 + i], text, Finish.NONE, None) for i, text in enumerate("abcd")]
    await downstream.texts(generate, *rows[:3])
    await downstream.texts(generate, rows[0])
    await downstream.admit(generate, 9)
    await downstream.texts(generate, *rows[1:])
    await downstream.texts(generate, (4, [2], "", Finish.STOP, 2))
    await downstream.texts(generate, (4, [2], "", Finish.STOP, 2))


async def test_repeated_rows_are_dropped(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    downstream.script = redelivered
    async with http.post("/v1/completions", json={"prompt": "hi"}) as response:
        body = await response.json()
    assert body["choices"][0]["text"] == "abcd"
    assert body["usage"]["completion_tokens"] == 5
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == 1


async def gap(downstream: Downstream, generate: Generate) -> None:
    await downstream.texts(generate, (0, [10], "a", Finish.NONE, None))
    await downstream.texts(generate, (2, [12], "c", Finish.NONE, None))


async def everything(downstream: Downstream, generate: Generate) -> None:
    await downstream.texts_from_start(generate, (0, [10, 11, 12], "abc", Finish.LENGTH, None))


async def test_text_that_is_missing_is_asked_for(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    downstream.script, downstream.again = gap, everything
    data = await stream(http, "/v1/completions", {"prompt": "hi"})
    events = [json.loads(event.removeprefix("data: ")) for event in data.decode().strip().split("\n\n")[:-1]]
    assert [event["choices"][0]["text"] for event in events] == ["a", "bc", ""]
    assert data.endswith(b"data: [DONE]\n\n")
    [first, *_], asked = downstream.received(Generate), downstream.received(Track)
    assert [(track.id, track.again) for track in asked] == [(first.id, False), (first.id, True)]


async def test_text_that_nobody_has_any_more_ends_a_stream_with_an_error_event(
    http: aiohttp.ClientSession, downstream: Downstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenizer_svc.asking.PATIENCE_S", 1.5)
    monkeypatch.setattr("tokenizer_svc.asking.AGAIN_S", 0.1)
    downstream.script = gap
    data = await stream(http, "/v1/completions", {"prompt": "hi"})
    *_, last = data.decode().strip().split("\n\n")
    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert "after token 1 was lost" in error["message"]
    assert b"[DONE]" not in data
    await downstream.until(lambda: len(downstream.aborted) == 1)
    assert len(downstream.received(Track)) > 2, "it was asked for more than once"


async def worker_error(downstream: Downstream, generate: Generate) -> None:
    await downstream.texts(generate, (0, [10], "a", Finish.NONE, None))
    await downstream.fail(generate, Failure.WORKER, "the device is gone")


async def test_failure_in_the_middle_is_an_error_for_openais_client(
    client: openai.AsyncOpenAI, downstream: Downstream
) -> None:
    downstream.script = worker_error
    chunks = await client.completions.create(model="toy", prompt="hi", stream=True)
    assert (await anext(chunks)).choices[0].text == "a"
    with pytest.raises(openai.APIError, match="the device is gone"):
        await anext(chunks)
