"""Load tools too big to be installed for this: the requests that they sent, byte for byte, and how they read answers.

Recorded with a proxy between the tools and `rootstream serve`: vLLM 0.32.0 (``vllm bench serve``), SGLang 0.5.23
(``sglang.bench_serving``), aiperf 0.13.0. What each reads is said in vllm/benchmarks/lib/endpoint_request_func.py and
serve.py, sglang/benchmark/serving.py, and aiperf/endpoints. Only the port in `Host` is another one here.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest

from tests.clients.exchanges import events
from tests.clients.recorder import Recorder
from tests.clients.serving import MODEL

TOKENS = 4
VLLM = "Accept: */*|Accept-Encoding: gzip, deflate|User-Agent: Python/3.11 aiohttp/3.14.5"
SGLANG = VLLM
AIPERF = (
    "User-Agent: aiperf/0.13.0|X-Request-ID: 6b4ac402-9ac5-443c-b064-00f84ab07813|"
    "X-Correlation-ID: de554faa-6efc-4c5a-a2d8-1b479eb35367|Accept: {accept}|Content-Type: application/json|"
    "X-Session-Affinity: de554faa-6efc-4c5a-a2d8-1b479eb35367"
)
AIPERF_STREAM = AIPERF.format(accept="text/event-stream")
AIPERF_MESSAGES = AIPERF_STREAM.replace("Accept:", "anthropic-version: 2023-06-01|Accept:")
VLLM_COMPLETION = (
    f"""{{"model": "{MODEL}", "prompt": " Infrared Treating cartsLeans", "repetition_penalty": 1.0, "max_tokens": 4, """
    """"logprobs": null, "stream": true, "stream_options": {"include_usage": true}, "ignore_eos": true}"""
)
VLLM_CHAT = (
    f"""{{"model": "{MODEL}", "messages": [{{"role": "user", "content": [{{"type": "text", """
    """"text": " Infrared Treating cartsLeans"}]}], "max_completion_tokens": 4, "stream": true, """
    """"stream_options": {"include_usage": true}, "ignore_eos": true}"""
)
VLLM_RESPONSE = (
    f"""{{"model": "{MODEL}", "input": " Infrared Treating cartsLeans", "max_output_tokens": 4, "stream": true, """
    """"store": false, "ignore_eos": true}"""
)
VLLM_EMBEDDING = f"""{{"model": "{MODEL}", "input": " Infrared Treating cartsLeans", "truncate_prompt_tokens": -1}}"""
VLLM_TOKENS = f"""{{"model": "{MODEL}", "prompt": " Infrared Treating cartsLeans", "add_special_tokens": false}}"""
SGLANG_GENERATE = (
    """{"text": " Ho occupationalMeanwhilecvICE", "sampling_params": {"temperature": 0.0, "max_new_tokens": 4, """
    """"ignore_eos": true}, "stream": true, "lora_path": null, "return_logprob": false, """
    """"return_routed_experts": false, "logprob_start_len": -1}"""
)
SGLANG_COMPLETION = (
    f"""{{"model": "{MODEL}", "prompt": " Ho occupationalMeanwhilecvICE", "best_of": 1, "max_tokens": 4, """
    """"stream": true, "temperature": 0.0, "ignore_eos": true}"""
)
SGLANG_CHAT = (
    f"""{{"model": "{MODEL}", "messages": [{{"role": "user", "content": " Ho occupationalMeanwhilecvICE"}}], """
    """"max_completion_tokens": 4, "stream": true, "temperature": 0.0, "ignore_eos": true}"""
)
SGLANG_EMBEDDING = f"""{{"input": " Ho occupationalMeanwhilecvICE", "model": "{MODEL}"}}"""
AIPERF_CHAT = (
    f"""{{"messages":[{{"role":"user","content":" Of one poor scru"}}],"model":"{MODEL}","stream":true,"""
    """"max_completion_tokens":4,"ignore_eos":true,"stream_options":{"include_usage":true}}"""
)
AIPERF_COMPLETION = (
    f"""{{"prompt":" Lay by and spent with","model":"{MODEL}","stream":true,"max_tokens":4,"ignore_eos":true,"""
    """"stream_options":{"include_usage":true}}"""
)
AIPERF_RESPONSE = (
    f"""{{"input":[{{"role":"user","content":" WOOER O very","type":"message"}}],"model":"{MODEL}","stream":true,"""
    """"max_output_tokens":4,"ignore_eos":true}"""
)
AIPERF_MESSAGE = (
    f"""{{"model":"{MODEL}","messages":[{{"role":"user","content":" awe the world Did lose"}}],"max_tokens":4,"""
    """"stream":true,"ignore_eos":true}"""
)
AIPERF_EMBEDDING = f"""{{"model":"{MODEL}","input":[" had rather have a handful"]}}"""


class Read(NamedTuple):
    """What a tool made of an answer."""

    pieces: int  # times at which it notes a token
    completion_tokens: int | None
    prompt_tokens: int | None


def ask(recorder: Recorder, method: str, path: str, headers: str, body: str = "") -> bytes:
    """The body of the answer to a request of exactly these bytes; it must be a 200."""
    host, port = recorder.url.removeprefix("http://").split(":")
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}:{port}", *headers.split("|")]
    if body:
        lines.append(f"Content-Length: {len(body.encode())}")
        if "Content-Type" not in headers:
            lines.append("Content-Type: application/json")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall("\r\n".join((*lines, "", body)).encode())
        with connection.makefile("rb") as answer:
            status = answer.readline()
            fields = dict(line.decode().lower().strip().split(": ", 1) for line in iter(answer.readline, b"\r\n"))
            if "content-length" in fields:
                found = answer.read(int(fields["content-length"]))
            else:
                found = b""
                while size := int(answer.readline(), 16):
                    found += answer.read(size)
                    answer.readline()
    assert b" 200 " in status, (status, found)
    return found


def chunks(answer: bytes) -> list[Any]:
    """Data of all events but the last of OpenAI's streams."""
    return [json.loads(event.data) for event in events(answer) if event.data != "[DONE]"]


def usage_last(answer: bytes, text: Callable[[dict[str, Any]], str | None]) -> Read:
    """A choice in each chunk, or else usage: vLLM's way, which aiperf's equals."""
    pieces, usage = 0, {}
    for chunk in chunks(answer):
        if choices := chunk.get("choices"):
            pieces += text(choices[0]) is not None
        else:
            usage = chunk["usage"]
    return Read(pieces, usage.get("completion_tokens"), usage.get("prompt_tokens"))


def of_chat(answer: bytes) -> Read:
    return usage_last(answer, lambda choice: choice["delta"].get("content") or None)


def of_completion(answer: bytes) -> Read:
    return usage_last(answer, lambda choice: choice["text"] or None)


def of_completion_without_usage(answer: bytes) -> Read:
    """SGLang's tool, which asks for no usage, looks for text in the first choice of every chunk."""
    texts: Sequence[str] = [chunk["choices"][0]["text"] for chunk in chunks(answer)]
    assert not any(chunk.get("usage") for chunk in chunks(answer))
    return Read(sum(map(bool, texts)), None, None)


def of_chat_without_usage(answer: bytes) -> Read:
    found = chunks(answer)
    assert not any(chunk.get("usage") for chunk in found)
    return Read(sum(bool(chunk["choices"][0]["delta"].get("content")) for chunk in found), None, None)


def of_generate(answer: bytes) -> Read:
    """Text so far, and how many tokens that is; a piece is what has more tokens than the one before."""
    counts = [chunk["meta_info"]["completion_tokens"] for chunk in chunks(answer) if chunk["text"]]
    assert counts == sorted(counts)
    prompts = {chunk["meta_info"]["prompt_tokens"] for chunk in chunks(answer)}
    return Read(len(set(counts)), counts[-1], max(prompts))


def of_response(answer: bytes) -> Read:
    found = chunks(answer)
    assert not any(chunk["type"] in ("error", "response.failed") for chunk in found)
    pieces = sum(chunk["type"] == "response.output_text.delta" and bool(chunk["delta"]) for chunk in found)
    [usage] = [c["response"]["usage"] for c in found if c["type"] in ("response.completed", "response.incomplete")]
    return Read(pieces, usage["output_tokens"], usage["input_tokens"])


def of_message(answer: bytes) -> Read:
    found = chunks(answer)
    pieces = sum(chunk["type"] == "content_block_delta" and bool(chunk["delta"]["text"]) for chunk in found)
    [first] = [chunk["message"]["usage"] for chunk in found if chunk["type"] == "message_start"]
    [last] = [chunk["usage"] for chunk in found if chunk["type"] == "message_delta"]
    return Read(pieces, last["output_tokens"], first["input_tokens"])


@pytest.mark.parametrize(
    ("headers", "path", "body", "read", "has_usage"),
    [
        pytest.param(VLLM, "/v1/completions", VLLM_COMPLETION, of_completion, True, id="vllm"),
        pytest.param(VLLM, "/v1/chat/completions", VLLM_CHAT, of_chat, True, id="vllm openai-chat"),
        pytest.param(VLLM, "/v1/responses", VLLM_RESPONSE, of_response, True, id="vllm openai-responses"),
        pytest.param(SGLANG, "/generate", SGLANG_GENERATE, of_generate, True, id="sglang"),
        pytest.param(
            SGLANG, "/v1/completions", SGLANG_COMPLETION, of_completion_without_usage, False, id="sglang sglang-oai"
        ),
        pytest.param(
            SGLANG, "/v1/chat/completions", SGLANG_CHAT, of_chat_without_usage, False, id="sglang sglang-oai-chat"
        ),
        pytest.param(AIPERF_STREAM, "/v1/chat/completions", AIPERF_CHAT, of_chat, True, id="aiperf chat"),
        pytest.param(AIPERF_STREAM, "/v1/completions", AIPERF_COMPLETION, of_completion, True, id="aiperf completions"),
        pytest.param(AIPERF_STREAM, "/v1/responses", AIPERF_RESPONSE, of_response, True, id="aiperf responses"),
        pytest.param(AIPERF_MESSAGES, "/v1/messages", AIPERF_MESSAGE, of_message, True, id="aiperf messages"),
    ],
)
def test_a_streamed_answer(
    recorder: Recorder, headers: str, path: str, body: str, read: Callable[[bytes], Read], has_usage: bool
) -> None:
    found = read(ask(recorder, "POST", path, headers, body))
    assert 1 <= found.pieces <= TOKENS
    assert found.completion_tokens == (TOKENS if has_usage else None)
    assert found.prompt_tokens is None or found.prompt_tokens >= 4


@pytest.mark.parametrize(
    ("headers", "body"),
    [(VLLM, VLLM_EMBEDDING), (SGLANG, SGLANG_EMBEDDING), (AIPERF.format(accept="application/json"), AIPERF_EMBEDDING)],
    ids=["vllm", "sglang", "aiperf"],
)
def test_vectors(recorder: Recorder, headers: str, body: str) -> None:
    answer = json.loads(ask(recorder, "POST", "/v1/embeddings", headers, body))
    assert len(answer["data"]) == 1
    assert answer["data"][0]["embedding"]
    assert answer["usage"]["prompt_tokens"] >= 4


def test_what_is_asked_beside_the_load(recorder: Recorder) -> None:
    """The model's names, of which vLLM's tool takes the second for its tokenizer; the server; an empty cache."""
    [model] = json.loads(ask(recorder, "GET", "/v1/models", VLLM))["data"]
    assert (model["id"], model["root"]) == (MODEL, MODEL)
    assert model["max_model_len"] > 0
    assert json.loads(ask(recorder, "POST", "/tokenize", VLLM, VLLM_TOKENS))["count"] == 5
    assert b"# TYPE" in ask(recorder, "GET", "/metrics", VLLM)
    assert json.loads(ask(recorder, "GET", "/server_info", "User-Agent: python-requests/2.34.2|Accept: */*"))["version"]
    empty = "User-Agent: python-requests/2.34.2|Accept-Encoding: gzip, deflate|Accept: */*|Content-Length: 0"
    for path in ("/flush_cache?timeout=60.0", "/reset_prefix_cache"):
        assert json.loads(ask(recorder, "POST", path, empty))["success"]
