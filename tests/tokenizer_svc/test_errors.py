"""Every way to be refused: status, OpenAI's error object, and a message that helps."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import aiohttp
import openai
import pytest

from shared.protocol import Failure, Generate
from shared.registry import Role, State
from tests.tokenizer_svc.conftest import StartDoor, until_ready
from tests.tokenizer_svc.downstream import Downstream, endless

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
NATIVE = "/generate"
HI = [{"role": "user", "content": "hi"}]


async def refused(response: aiohttp.ClientResponse, status: int) -> dict[str, Any]:
    """The error object of a refusal, checked for its shape."""
    body = await response.json()
    assert response.status == status, body
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert response.headers["X-Request-Id"]
    return body["error"]


BAD_VALUES: list[tuple[str, dict[str, Any], str, str]] = [
    # path, body, param, part of the message
    (CHAT, {"messages": []}, "messages", "empty"),
    (CHAT, {}, "messages", "missing"),
    (CHAT, {"messages": "hi"}, "messages", "Expected `array`"),
    (CHAT, {"messages": [{"content": "hi"}]}, "messages[0].role", "missing"),
    (CHAT, {"messages": [{"role": "user", "content": 7}]}, "messages[0].content", "int"),
    (CHAT, {"messages": [*HI, {"role": "user"}]}, "messages[1].content", "missing"),
    (CHAT, {"messages": [{"role": "wizard", "content": "hi"}]}, "messages[0].role", "developer"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text", "missing"),
    (CHAT, {"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type", "missing"),
    (CHAT, {"messages": HI * 5000}, "messages", "at most 4096"),
    (CHAT, {"messages": HI, "chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages", "own"),
    (CHAT, {"messages": HI, "stream_options": {"include_usage": True}}, "stream_options", "stream to true"),
    (CHAT, {"messages": HI, "max_completion_tokens": 0}, "max_completion_tokens", "at least 1"),
    (TEXT, {}, "prompt", "missing"),
    (TEXT, {"prompt": ""}, "prompt", "empty"),
    (TEXT, {"prompt": []}, "prompt", "empty"),
    (TEXT, {"prompt": [[]]}, "prompt[0]", "empty"),
    (TEXT, {"prompt": ["a", ""]}, "prompt[1]", "empty"),
    (TEXT, {"prompt": ["a", 5]}, "prompt", "mixes"),
    (TEXT, {"prompt": [5, [6]]}, "prompt", "mixes"),
    (TEXT, {"prompt": [5, -1]}, "prompt", "vocabulary of 320"),
    (TEXT, {"prompt": [[5], [320]]}, "prompt[1]", "vocabulary of 320"),
    (TEXT, {"prompt": [5, True]}, "prompt[1]", "bool"),
    (TEXT, {"prompt": ["a"] * 129}, "prompt", "at most 128"),
    (TEXT, {"prompt": ["a"] * 3, "n": 64}, "prompt", "at most 128"),
    (TEXT, {"prompt": "a", "cache_salt": "x" * 513}, "cache_salt", "at most 512"),
    (TEXT, {"prompt": "a", "user": "x" * 513}, "user", "at most 512"),
    (TEXT, {"prompt": "a", "priority": 2**31}, "priority", "between"),
    (TEXT, {"prompt": "a", "timeout": 0}, "timeout", "greater than 0"),
    (CHAT, {"messages": HI, "timeout": -1}, "timeout", "greater than 0"),
    (CHAT, {"messages": HI, "timeout": "soon"}, "timeout", "str"),
    (NATIVE, {"text": "a", "timeout": 86401}, "timeout", "at most 86400"),
    (NATIVE, {}, "text", "either"),
    (NATIVE, {"text": "a", "input_ids": [5]}, "text", "either"),
    (NATIVE, {"text": []}, "text", "empty"),
    (NATIVE, {"text": ""}, "text", "empty"),
    (NATIVE, {"input_ids": []}, "input_ids", "empty"),
    (NATIVE, {"input_ids": [5, [6]]}, "input_ids", "mixes"),
    (NATIVE, {"input_ids": [5, 999]}, "input_ids", "vocabulary"),
    (NATIVE, {"text": ["a", "b"], "sampling_params": [{}]}, "sampling_params", "1 entries for 2"),
    (NATIVE, {"text": "a", "sampling_params": {"temperature": "x"}}, "sampling_params.temperature", "str"),
    (NATIVE, {"text": "a", "sampling_params": {"max_new_tokens": -1}}, "sampling_params.max_new_tokens", "at least 0"),
    (NATIVE, {"text": ["a"], "sampling_params": [{"top_p": 2}]}, "sampling_params[0].top_p", "at most 1"),
]

BAD_SAMPLING: list[tuple[str, Any, str]] = [
    ("max_tokens", -5, "at least 0"),
    ("max_tokens", "many", "str"),
    ("max_tokens", 1.5, "float"),
    ("max_tokens", True, "bool"),
    ("temperature", -0.1, "between 0 and 2"),
    ("temperature", 2.1, "between 0 and 2"),
    ("temperature", "hot", "str"),
    ("temperature", True, "bool"),
    ("top_p", 0, "greater than 0"),
    ("top_p", 1.01, "at most 1"),
    ("top_k", -2, "between -1"),
    ("top_k", 2**31, "between -1"),
    ("min_p", 1.5, "between 0 and 1"),
    ("n", 0, "between 1 and 64"),
    ("n", 65, "between 1 and 64"),
    ("seed", 2**64, "between"),
    ("seed", -(2**63) - 1, "between"),
    ("seed", 10**30, "between"),
    ("frequency_penalty", 2.5, "between -2 and 2"),
    ("presence_penalty", -2.5, "between -2 and 2"),
    ("repetition_penalty", 0, "between 0.01 and 10"),
    ("repetition_penalty", 11, "between 0.01 and 10"),
    ("stop", [""], "empty"),
    ("stop", ["x"] * 17, "at most 16"),
    ("stop", "x" * 257, "at most 256"),
    ("stop[0]", [5.5], "float"),
    ("stop", [-5], "between 0"),
    ("stop", [5] * 129, "at most 128"),
    ("stop_token_ids", [-1], "between 0"),
    ("stop_token_ids", [5] * 129, "at most 128"),
    ("logit_bias", {"320": 1}, "below 320"),
    ("logit_bias", {"-1": 1}, "below 320"),
    ("logit_bias", {"x": 1}, "below 320"),
    ("logit_bias", {"5": 101}, "between -100 and 100"),
    ("logit_bias", [5], "array"),
    ("min_tokens", 17, "more than the 16"),
    ("min_tokens", -1, "between 0"),
    ("stream", "yes", "str"),
    ("model", 5, "int"),
]


async def test_bad_values_are_refused_by_name(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    cases = BAD_VALUES + [
        (TEXT, {"prompt": "hi", name.partition("[")[0]: value}, name, part) for name, value, part in BAD_SAMPLING
    ]
    for path, body, param, part in cases:
        async with http.post(path, json=body) as response:
            error = await refused(response, 400)
        where = (path, json.dumps(body)[:200], error)
        assert error["type"] == "invalid_request_error", where
        assert error["param"] == param, where
        assert part in error["message"], where
    assert not downstream.generates, "nothing of it reaches the scheduler"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b'{"prompt": "a", "temperature": NaN}',
        b'{"prompt": "a", "temperature": Infinity}',
        b'{"prompt": "a", "temperature": 1e999}',
        b'{"prompt": "\xff"}',
        b'{"prompt": "\\ud800"}',
        b"[" * 100_000,
        b'{"prompt": "a"} trailing',
    ],
)
@pytest.mark.parametrize("path", [CHAT, TEXT, NATIVE])
async def test_broken_bodies(http: aiohttp.ClientSession, path: str, data: bytes) -> None:
    async with http.post(path, data=data) as response:
        assert (await refused(response, 400))["type"] == "invalid_request_error"


@pytest.mark.parametrize("chunked", [True, False])
async def test_large_bodies_get_413(http: aiohttp.ClientSession, chunked: bool) -> None:
    async def parts() -> Any:
        for _ in range(11):
            yield b"x" * 2**20

    async with http.post(CHAT, data=parts() if chunked else io.BytesIO(b"x" * (11 * 2**20))) as response:
        assert "10 MiB" in (await refused(response, 413))["message"]


async def test_a_body_just_below_the_limit_is_read(http: aiohttp.ClientSession) -> None:
    body = json.dumps({"prompt": "ab " * (3 * 2**20)}).encode()
    async with http.post(TEXT, data=io.BytesIO(body)) as response:
        error = await refused(response, 400)
    assert error["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("path", "body", "numbers", "param"),
    [
        (TEXT, {"prompt": [5] * 200}, ("200",), "prompt"),
        (TEXT, {"prompt": [5] * 1000}, ("200", "1000"), "prompt"),
        (TEXT, {"prompt": [5] * 150, "max_tokens": 51}, ("200", "150", "51"), "prompt"),
        (CHAT, {"messages": HI, "max_tokens": 10**9}, ("200", "15", str(10**9)), "messages"),
        (CHAT, {"messages": [{"role": "user", "content": "xyz " * 1000}]}, ("200",), "messages"),
        (NATIVE, {"input_ids": [5] * 201}, ("200", "201"), "input_ids"),
    ],
)
async def test_over_long_prompts(
    http: aiohttp.ClientSession, path: str, body: dict[str, Any], numbers: tuple[str, ...], param: str
) -> None:
    async with http.post(path, json=body) as response:
        error = await refused(response, 400)
    assert (error["code"], error["param"]) == ("context_length_exceeded", param)
    assert "maximum context length" in error["message"]
    assert "is longer than the model's context length" in error["message"]
    assert all(number in error["message"] for number in numbers)


async def test_a_default_length_never_exceeds_the_context(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    async with http.post(TEXT, json={"prompt": [5] * 195}) as response:
        assert response.status == 200
    [generate] = downstream.received(Generate)
    assert generate.sampling.max_tokens == 5


@pytest.mark.parametrize("path", [CHAT, TEXT, NATIVE])
async def test_unknown_model(http: aiohttp.ClientSession, path: str) -> None:
    async with http.post(path, json={"model": "gpt-9", "prompt": "a", "text": "a", "messages": HI}) as response:
        error = await refused(response, 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "'toy'" in error["message"]


async def test_unknown_paths_and_methods(http: aiohttp.ClientSession) -> None:
    async with http.get("/v2/nothing") as response:
        assert "/v2/nothing" in (await refused(response, 404))["message"]
    async with http.get(CHAT) as response:
        assert "POST" in (await refused(response, 405))["message"]
        assert response.headers["Allow"] == "POST"
    async with http.get("/v1/models/other") as response:
        assert (await refused(response, 404))["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (Failure.QUEUE_FULL, 429, "queue_full"),
        (Failure.TOO_LARGE, 400, "context_length_exceeded"),
        (Failure.TIMEOUT, 408, "timeout"),
        (Failure.POISONOUS, 500, "poisonous_request"),
        (Failure.WORKER, 500, "internal_error"),
        (Failure.UNAVAILABLE, 503, "service_unavailable"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_failures_have_their_status_even_in_streams(
    http: aiohttp.ClientSession, downstream: Downstream, failure: Failure, status: int, code: str, stream: bool
) -> None:
    async def fail(downstream: Downstream, generate: Generate) -> None:
        await downstream.fail(generate, failure, "the reason")

    downstream.script = fail
    async with http.post(CHAT, json={"messages": HI, "stream": stream}) as response:
        error = await refused(response, status)
        assert ("Retry-After" in response.headers) == (status in {429, 503})
    assert (error["message"], error["code"]) == ("the reason", code)


@pytest.mark.parametrize(("path", "body"), [(CHAT, {"messages": HI}), (TEXT, {"prompt": "a"}), (NATIVE, {"text": "a"})])
async def test_a_timeout_becomes_the_deadline_of_every_choice(
    http: aiohttp.ClientSession, downstream: Downstream, path: str, body: dict[str, Any]
) -> None:
    several = {"sampling_params": {"n": 2}} if path == NATIVE else {"n": 2}
    async with http.post(path, json={**body, **several, "timeout": 2.5}) as response:
        assert response.status == 200
    async with http.post(path, json=body) as response:
        assert response.status == 200
    *asked, unhurried = downstream.received(Generate)
    assert [generate.deadline - generate.arrived for generate in asked] == [pytest.approx(2.5)] * 2
    assert unhurried.deadline == 0


async def test_a_timeout_in_the_middle_of_a_stream_is_its_last_event(
    http: aiohttp.ClientSession, downstream: Downstream
) -> None:
    async def too_slow(downstream: Downstream, generate: Generate) -> None:
        await endless(downstream, generate)
        await downstream.fail(generate, Failure.TIMEOUT, "too late")

    downstream.script = too_slow
    async with http.post(TEXT, json={"prompt": "a", "stream": True, "timeout": 1}) as response:
        assert response.status == 200
        events = (await response.text()).strip().split("\n\n")
    assert json.loads(events[-1].removeprefix("data: "))["error"] == {
        "message": "too late",
        "type": "timeout_error",
        "param": None,
        "code": "timeout",
    }


async def test_one_refused_choice_refuses_the_request(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    refused_ids: list[int] = []

    async def last_only(downstream: Downstream, generate: Generate) -> None:
        if len(downstream.generates) == 3 and not refused_ids:
            refused_ids.append(generate.id)
            await downstream.fail(generate, Failure.QUEUE_FULL)

    downstream.script = last_only
    async with http.post(TEXT, json={"prompt": "a", "n": 3}) as response:
        await refused(response, 429)
    await downstream.until(lambda: len(downstream.aborted) == 2)
    assert downstream.aborted == downstream.generates.keys() - set(refused_ids)


async def test_errors_through_openais_client(client: openai.AsyncOpenAI, downstream: Downstream) -> None:
    async def full(downstream: Downstream, generate: Generate) -> None:
        await downstream.fail(generate, Failure.QUEUE_FULL)

    downstream.script = full
    with pytest.raises(openai.RateLimitError):
        await client.completions.create(model="toy", prompt="a")
    with pytest.raises(openai.NotFoundError):
        await client.completions.create(model="other", prompt="a")
    with pytest.raises(openai.BadRequestError) as caught:
        await client.completions.create(model="toy", prompt="a", temperature=9)
    assert caught.value.param == "temperature"


@pytest.mark.parametrize(("role", "replica"), [(Role.SCHEDULER, "s"), (Role.WORKER, "0"), (Role.DETOKENIZER, "d")])
async def test_503_while_a_process_is_missing(
    http: aiohttp.ClientSession,
    downstream: Downstream,
    role: Role,
    replica: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.hearing.STALE_S", 0.8)
    await until_ready(http)
    await downstream.set_state(role, replica, None)
    async with asyncio.timeout(10):  # requests may still be announced: it may be starting again
        while (await http.get("/ready")).status == 200:
            await asyncio.sleep(0.02)
    async with asyncio.timeout(10):
        while True:
            async with http.post(TEXT, json={"prompt": "a"}) as response:
                if response.status == 503:
                    error = await refused(response, 503)
                    break
            await asyncio.sleep(0.1)
    assert role in error["message"]
    assert int(response.headers["Retry-After"]) > 0
    async with http.get("/ready") as ready:
        assert ready.status == 503
        assert (await ready.json())["missing"] == [f"{role} is not ready"]
    async with http.get("/health") as health:
        assert (health.status, (await health.json())["status"]) == (503, "unready")
    await downstream.set_state(role, replica, State.READY)
    async with asyncio.timeout(10):
        while (await http.get("/ready")).status != 200:
            await asyncio.sleep(0.1)


async def test_503_before_the_worker_said_what_it_serves(
    start_door: StartDoor, downstream: Downstream, url: str
) -> None:
    await downstream.bus.transaction().remove(downstream.bus.names.model, ["0"]).commit()
    await start_door()
    async with aiohttp.ClientSession(url) as http, http.post(TEXT, json={"prompt": "a"}) as response:
        await refused(response, 503)


async def test_request_ids(http: aiohttp.ClientSession) -> None:
    async with http.get("/ping", headers={"X-Request-Id": "trace-1:2"}) as response:
        assert response.headers["X-Request-Id"] == "trace-1:2"
    async with http.get("/ping", headers={"X-Request-Id": "no spaces\tplease"}) as response:
        assert len(response.headers["X-Request-Id"]) == 32
    async with http.post(TEXT, json={"prompt": "a", "stream": True}, headers={"X-Request-Id": "s"}) as response:
        assert response.headers["X-Request-Id"] == "s"


async def test_a_broken_route_is_a_500_in_the_same_shape(
    http: aiohttp.ClientSession, downstream: Downstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("boom")

    downstream.script = endless
    monkeypatch.setattr("tokenizer_svc.openai.resolve", broken)
    async with http.post(TEXT, json={"prompt": "a"}) as response:
        error = await refused(response, 500)
    assert response.headers["X-Request-Id"] in error["message"]
    assert "boom" not in error["message"]
