"""The client, and the benchmark's load against any server of OpenAI's wire format."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from rootstream.bench import run, workloads
from rootstream.bench.figures import Timeline, summarize
from rootstream.bench.load import Dialect
from rootstream.bench.workloads import Completion, Conversation, Structured, Workload
from rootstream.client import Client, NoServer, Refused
from tests.rootstream.commands import command
from tests.rootstream.openai_server import EchoServer, serving

# --- client ------------------------------------------------------------------------------------


async def test_events_of_a_stream_end_at_done() -> None:
    server = EchoServer()
    async with serving(server) as url, Client(url + "/v1/") as client:
        body = {"messages": [{"role": "user", "content": "one two"}], "stream": True}
        events = [event async for event in client.stream("/v1/chat/completions", body)]
    assert [event["choices"][0]["delta"]["content"] for event in events[:-2]] == ["one ", "two "]
    assert events[-1]["usage"]["completion_tokens"] == 2


async def test_errors_carry_the_servers_message() -> None:
    server = EchoServer()
    server.fail_with = "too long by 3"
    async with serving(server) as url, Client(url) as client:
        with pytest.raises(Refused, match="too long by 3") as caught:
            await client.post("/v1/completions", {})
        assert caught.value.status == 400
        with pytest.raises(Refused, match="404"):
            await client.get("/nothing/here")


async def test_no_server_is_told_apart() -> None:
    async with Client("http://127.0.0.1:9") as client:
        with pytest.raises(NoServer, match=r"127\.0\.0\.1:9"):
            await client.get("/v1/models")


async def test_closing_a_stream_disconnects() -> None:
    server = EchoServer()
    async with serving(server) as url, Client(url) as client:
        body = {"messages": [{"role": "user", "content": "forever"}], "stream": True}
        async with contextlib.aclosing(client.stream("/v1/chat/completions", body)) as events:
            async for _ in events:
                break
        await asyncio.wait_for(server.disconnected.wait(), 20)


# --- workloads and figures ---------------------------------------------------------------------


@given(st.sampled_from(workloads.names()), st.integers(0, 1000), st.integers(300, 200_000))
def test_workloads_are_functions_of_their_seed(name: str, seed: int, vocab_size: int) -> None:
    workload = workloads.make(name, seed=seed, vocab_size=vocab_size)
    assert workload == workloads.make(name, seed=seed, vocab_size=vocab_size)
    assert workload.requests != workloads.make(name, seed=seed + 1, vocab_size=vocab_size).requests
    for prompt in prompts(workload):
        assert all(0 <= token < vocab_size for token in prompt)


def prompts(workload: Workload) -> list[list[int]]:
    """Those of token ids."""
    found = [request.prompt for request in workload.requests if isinstance(request, Completion)]
    return [prompt for prompt in found if not isinstance(prompt, str)]


def test_workloads_have_their_named_shapes() -> None:
    made = {name: workloads.make(name) for name in workloads.names()}
    shared = prompts(made["shared-prefix"])
    assert (len(shared), made["shared-prefix"].concurrency) == (32, 8)
    assert {len(prompt) for prompt in shared} == {1532}
    assert len({tuple(prompt[:1500]) for prompt in shared}) == 1
    assert len({tuple(prompt[1500:]) for prompt in shared}) == 32
    distinct = prompts(made["distinct"])
    assert {len(prompt) for prompt in distinct} == {256}
    assert len({tuple(prompt[:2]) for prompt in distinct}) == len(distinct)
    assert made["single"].concurrency == 1
    assert {(len(r.prompt), r.max_tokens) for r in made["single"].requests if isinstance(r, Completion)} == {(128, 128)}
    chats = [request for request in made["chat"].requests if isinstance(request, Conversation)]
    assert (len(chats), {len(chat.questions) for chat in chats}) == (8, {4})
    structured = [request for request in made["json"].requests if isinstance(request, Structured)]
    assert (len(structured), made["json"].concurrency) == (8, 4)
    Draft202012Validator.check_schema(workloads.ORDER_SCHEMA)


def test_worded_workloads_keep_lengths_and_shared_prefixes() -> None:
    worded = workloads.worded(workloads.make("shared-prefix"))
    texts = [request.prompt for request in worded.requests if isinstance(request, Completion)]
    assert {len(text.split()) for text in texts if isinstance(text, str)} == {1532}
    assert len({tuple(text.split()[:1500]) for text in texts if isinstance(text, str)}) == 1
    assert len(set(map(str, texts))) == 32
    chat = workloads.make("chat")
    assert workloads.worded(chat) == chat


def test_figures_by_hand() -> None:
    timelines = [
        Timeline(0.0, [0.1, 0.2, 0.3], 0.4, prompt_tokens=10, cached_tokens=0, completion_tokens=3),
        Timeline(1.0, [1.3, 1.4, 1.6], 2.0, prompt_tokens=30, cached_tokens=20, completion_tokens=3),
        Timeline(1.0, [], 1.5, 0, 0, 0, error="refused"),
    ]
    figures = summarize(timelines)
    assert (figures.requests, figures.failed, figures.seconds) == (3, 1, 2.0)
    assert (figures.requests_per_s, figures.tokens_per_s, figures.cache_hit_rate) == (1.0, 3.0, 0.5)
    assert figures.ttft_p50 == pytest.approx(200)
    assert figures.itl_p50 == pytest.approx(100)
    assert figures.per_token == pytest.approx(125)


def test_figures_of_nothing_are_nothing() -> None:
    figures = summarize([Timeline(0.0, [], 1.0, 0, 0, 0, error="x")])
    assert figures.failed == 1
    assert math.isnan(figures.ttft_p50)
    assert run.as_json({"w": figures})["w"]["ttft_p50"] is None


async def test_a_measured_server_sees_the_workload(capsys: pytest.CaptureFixture[str]) -> None:
    server = EchoServer(crowd=8)
    async with serving(server) as url:
        results = await run.measure(url, run.Plan(seed=3, warm_up=0))
    assert server.flushes == 5
    assert server.most_running == 8
    assert [figures.requests for figures in results.values()] == [32, 32, 4, 32, 8]
    assert results["shared-prefix"].prompt_tokens == 32 * 1532
    assert results["shared-prefix"].completion_tokens == 32 * 48
    assert results["single"].cache_hit_rate == 0.5
    assert not any(figures.failed for figures in results.values())
    last_turn = max((body for body in server.bodies if "messages" in body), key=lambda body: len(body["messages"]))
    assert [message["role"] for message in last_turn["messages"]] == ["system", *["user", "assistant"] * 3, "user"]
    assert "shared-prefix" in capsys.readouterr().out


async def test_refused_requests_are_counted_not_hidden() -> None:
    server = EchoServer()
    async with serving(server) as url, Client(url) as client:
        server.fail_with = "no"
        timelines = await run.send(client, "echo", workloads.make("single"))
    assert [timeline.error for timeline in timelines] == ["no (HTTP 400)"] * 4


async def test_only_answers_of_a_given_length_ignore_the_end() -> None:
    server = EchoServer()
    async with serving(server) as url, Client(url) as client:
        for name in ("single", "chat", "json"):
            await run.send(client, "echo", workloads.make(name))
    for body in server.bodies:
        assert body.get("ignore_eos", False) is not ("response_format" in body)
    formats = [body["response_format"] for body in server.bodies if "response_format" in body]
    assert {format["json_schema"]["name"] for format in formats} == {"answer"}
    assert all(format["json_schema"]["schema"] == workloads.ORDER_SCHEMA for format in formats)


async def test_a_server_is_asked_in_its_own_dialect() -> None:
    dialect = Dialect(
        always={"repeat_penalty": 1.0},
        whole_length={"logit_bias": {"2": -100}},
        response_format=lambda schema: {"type": "json_object", "schema": schema},
        tells_usage=False,
    )
    server = EchoServer()
    async with serving(server) as url, Client(url) as client:
        free = await run.send(client, "echo", workloads.make("single"), dialect)
        obeying = await run.send(client, "echo", workloads.make("json"), dialect)
    assert all(body["repeat_penalty"] == 1.0 and "stream_options" not in body for body in server.bodies)
    assert [body.get("logit_bias") for body in server.bodies] == [{"2": -100}] * 4 + [None] * 8
    assert [body.get("response_format", {}).get("type") for body in server.bodies] == [None] * 4 + ["json_object"] * 8
    assert {timeline.completion_tokens for timeline in free} == {128}  # pieces counted
    assert [len(timeline.text.split()) for timeline in obeying] == [t.completion_tokens for t in obeying]


# --- the commands, as processes ------------------------------------------------------------------


async def test_bench_writes_json(tmp_path: Path) -> None:
    async with serving(EchoServer()) as url:
        output = tmp_path / "deep" / "figures.json"
        code, out, _ = await command("bench", "single", "--url", url, "--output", str(output))
    assert code == 0
    assert "single" in out
    assert "distinct" not in out
    report = json.loads(output.read_text())
    assert report["workloads"]["single"]["completion_tokens"] == 4 * 128


async def test_a_key_goes_with_every_request(tmp_path: Path) -> None:
    server = EchoServer(key="secret-of-alice")
    async with serving(server) as url:
        given = await command("chat", "--url", url, "--api-key", "secret-of-alice", stdin=b"hello")
        known = await command("bench", "single", "--url", url, ROOTSTREAM_API_KEY="secret-of-alice")
    assert given == (0, "hello \n", "")
    assert known[0] == 0


async def test_a_missing_key_is_told_apart() -> None:
    async with serving(EchoServer(key="secret-of-alice")) as url:
        for words in (("chat",), ("bench", "single")):
            code, _, err = await command(*words, "--url", url, ROOTSTREAM_API_KEY="MARKER-of-bob")
            assert code == 2
            assert "ROOTSTREAM_API_KEY or give --api-key" in err
            assert "MARKER" not in err
