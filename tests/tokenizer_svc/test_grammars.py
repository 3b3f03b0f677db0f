"""Grammars of requests: announced before they are compiled, compiled once, in children that do not disturb others."""

from __future__ import annotations

import asyncio
import contextlib
import time

import aiohttp
import msgspec
import psutil
import pytest

from shared.grammar import Dfa, Guidance, Rejected, decode, encode
from shared.protocol import Failure, Generate, ModelCard
from shared.service import Context
from tests.tokenizer_svc.conftest import StartDoor
from tests.tokenizer_svc.downstream import CARD, Downstream, Script, admitted_only, obedient, silent
from tests.tokenizer_svc.grammar.test_pool import children
from tests.tokenizer_svc.structured import CHAT, TEXT, compiles, post, samples
from tests.tokenizer_svc.test_errors import refused
from tests.tokenizer_svc.test_structure import asked
from tokenizer_svc.grammar.compile import compile_spec
from tokenizer_svc.grammar.limits import LIMITS
from tokenizer_svc.grammar.spec import GrammarSpec, Kind

SLOW = "(a|b)*a(a|b){13}"  # some tenths of a second
ENDLESS = "(a|b)*a(a|b){40}"
UNBOUNDED = msgspec.structs.replace(LIMITS, nfa_states=2**40, dfa_states=2**40, nfa_moves=2**60, compile_wall_s=60)


@pytest.fixture
def card() -> ModelCard:
    return msgspec.structs.replace(CARD, structured=True)


@pytest.fixture
def script() -> Script:
    return obedient


async def test_a_request_is_announced_before_its_grammar_is_compiled(
    http: aiohttp.ClientSession, downstream: Downstream
) -> None:
    await post(http, CHAT[0], CHAT[1] | {"regex": "warm"})
    name = downstream.bus.names.grammar(asked({"regex": SLOW}).key)
    posting = asyncio.create_task(http.post(TEXT[0], json=TEXT[1] | {"regex": SLOW, "stream": True}))
    await downstream.until(lambda: len(downstream.generates) == 2)
    assert not await downstream.bus.client.exists(name), "its prompt may be computed meanwhile"
    assert not posting.done(), "the headers wait for the verdict"
    async with await posting as response:
        assert response.status == 200
        assert await downstream.bus.client.exists(name)
        assert (await response.read()).endswith(b"data: [DONE]\n\n")


async def test_the_same_grammar_is_compiled_once_for_all(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    await asyncio.gather(*(post(http, TEXT[0], TEXT[1] | {"regex": SLOW}) for _ in range(64)))
    assert len(downstream.generates) == 64
    assert await compiles(http) == 1
    await post(http, TEXT[0], TEXT[1] | {"regex": SLOW})
    found = await samples(http)
    assert found["rootstream_http_grammar_compiles_total regex dfa"] == 1
    assert found["rootstream_http_grammar_compile_seconds_count"] == 1
    assert found["rootstream_http_constrained_requests_total regex"] == 65
    assert found["rootstream_http_grammar_hits_total memory"] >= 1


async def test_a_catastrophic_grammar_is_a_400_within_the_limit_and_disturbs_nobody(
    start_door: StartDoor, downstream: Downstream, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenizer_svc.service.LIMITS", msgspec.structs.replace(UNBOUNDED, compile_s=0.6))
    await start_door()
    async with aiohttp.ClientSession(url) as http:
        await post(http, TEXT[0], TEXT[1] | {"regex": "warm", "user": "a"})
        slow = asyncio.create_task(http.post(TEXT[0], json=TEXT[1] | {"regex": ENDLESS, "user": "b"}))
        waits: list[float] = []
        number = 0
        while not slow.done():
            begun = time.perf_counter()
            await post(http, TEXT[0], TEXT[1] | {"regex": f"x{{{number % 50 + 1}}}", "user": "a"})
            waits.append(time.perf_counter() - begun)
            number += 1
        async with await slow as response:
            error = await refused(response, 400)
        assert error["message"] == "regex: takes more than 0.6 s to compile: make it smaller"
        assert len(waits) > 10
        assert sorted(waits)[len(waits) // 2] < 0.5
        async with http.post(TEXT[0], json=TEXT[1] | {"regex": ENDLESS}) as response:
            assert "0.6 s" in (await refused(response, 400))["message"], "known now, without trying"
        assert (await samples(http))["rootstream_http_grammar_compiles_total regex timeout"] == 1


async def test_a_grammar_that_exhausts_the_memory_is_a_400(
    start_door: StartDoor, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = msgspec.structs.replace(UNBOUNDED, compile_s=20, compile_bytes=160 * 2**20)
    monkeypatch.setattr("tokenizer_svc.service.LIMITS", limits)
    await start_door()
    async with aiohttp.ClientSession(url) as http:
        async with http.post(TEXT[0], json=TEXT[1] | {"regex": "(a{1,1000}b){1,1000}"}) as response:
            assert "160 MiB" in (await refused(response, 400))["message"]
        await post(http, TEXT[0], TEXT[1] | {"regex": "a"})


async def test_rejections_are_forgotten_after_a_while(
    http: aiohttp.ClientSession, downstream: Downstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenizer_svc.grammars._REJECTED_S", 1)
    name = downstream.bus.names.grammar(asked({"regex": "(a"}).key)
    for expected in (1, 1, 2):
        if expected == 2:
            await asyncio.sleep(1.1)
            assert not await downstream.bus.client.exists(name)
        async with http.post(TEXT[0], json=TEXT[1] | {"regex": "(a"}) as response:
            await refused(response, 400)
        assert await compiles(http) == expected
        assert isinstance(decode(await downstream.bus.client.get(name)), Rejected)


@pytest.mark.parametrize("good", [True, False])
async def test_what_another_front_door_found_out_is_used(
    http: aiohttp.ClientSession, downstream: Downstream, good: bool
) -> None:
    spec = GrammarSpec(Kind.REGEX, "a+" if good else "(a")
    await downstream.bus.keep(downstream.bus.names.grammar(spec.key), encode(compile_spec(spec, LIMITS)), 100)
    async with http.post(TEXT[0], json=TEXT[1] | {"regex": spec.text}) as response:
        assert response.status == (200 if good else 400)
    assert len(downstream.generates) == (1 if good else 0)
    found = await samples(http)
    assert found["rootstream_http_grammar_hits_total redis"] == 1
    assert await compiles(http) == 0


async def test_what_is_no_grammar_is_compiled_again(http: aiohttp.ClientSession, downstream: Downstream) -> None:
    name = downstream.bus.names.grammar(asked({"regex": "a"}).key)
    await downstream.bus.keep(name, b"rubbish", 100)
    downstream.script = silent
    posting = asyncio.create_task(http.post(TEXT[0], json=TEXT[1] | {"regex": "a"}))
    async with asyncio.timeout(20):
        while await downstream.bus.client.get(name) == b"rubbish":
            await asyncio.sleep(0.01)
    assert isinstance(decode(await downstream.bus.client.get(name)), Dfa)
    posting.cancel()


async def test_the_grammars_of_live_answers_are_kept_and_put_back(
    start_door: StartDoor, downstream: Downstream, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenizer_svc.service._GRAMMARS_S", 0.1)
    await start_door()
    downstream.script = admitted_only
    client = downstream.bus.client
    name = downstream.bus.names.grammar(asked({"grammar": 'start: "a"'}).key)
    async with aiohttp.ClientSession(url) as http:
        posting = asyncio.create_task(http.post(TEXT[0], json=TEXT[1] | {"grammar": 'start: "a"'}))
        async with asyncio.timeout(20):
            while not await client.exists(name):
                await asyncio.sleep(0.01)
            await client.expire(name, 5)
            while await client.ttl(name) < 3000:
                await asyncio.sleep(0.01)
            await client.delete(name)
            while not await client.exists(name):
                await asyncio.sleep(0.01)
        assert isinstance(decode(await client.get(name)), Guidance)
        posting.cancel()
        await downstream.until(lambda: bool(downstream.aborted))
        await client.delete(name)
        await asyncio.sleep(0.3)
        assert not await client.exists(name), "nobody obeys it any more"
        downstream.script = obedient
        await post(http, TEXT[0], TEXT[1] | {"grammar": 'start: "a"'})
        assert await compiles(http) == 1, "it was still in memory"


async def test_what_is_crowded_out_of_memory_does_not_stay_in_redis_for_long(
    start_door: StartDoor, downstream: Downstream, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenizer_svc.grammars._CACHE_BYTES", 4000)
    await start_door()
    ttl, names = downstream.bus.client.ttl, downstream.bus.names
    async with aiohttp.ClientSession(url) as http:
        for number in range(1, 9):
            await post(http, TEXT[0], TEXT[1] | {"regex": f"a{{{number}}}"})
        keys = [names.grammar(asked({"regex": f"a{{{number}}}"}).key) for number in range(1, 9)]
        async with asyncio.timeout(10):
            while await ttl(keys[0]) > 60:
                await asyncio.sleep(0.01)
        assert await ttl(keys[-1]) > 3500


async def test_an_abort_does_not_wait_for_a_compile(
    start_door: StartDoor, downstream: Downstream, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenizer_svc.service.LIMITS", msgspec.structs.replace(UNBOUNDED, compile_s=60))
    await start_door()
    downstream.script = silent
    async with aiohttp.ClientSession(url) as http:
        posting = asyncio.create_task(http.post(TEXT[0], json=TEXT[1] | {"regex": ENDLESS}))
        await downstream.until(lambda: len(downstream.generates) == 1)
        [id] = downstream.generates
        await post(http, "/abort_request", {"rid": f"cmpl-{id:016x}"})
        async with await posting as response:
            assert (await response.json())["choices"][0]["finish_reason"] == "abort"


async def test_a_compile_that_nobody_waits_for_is_not_begun(
    start_door: StartDoor, downstream: Downstream, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenizer_svc.service.LIMITS", msgspec.structs.replace(LIMITS, children=1))
    await start_door()
    downstream.script = silent
    async with aiohttp.ClientSession(url) as http:
        first = asyncio.create_task(http.post(TEXT[0], json=TEXT[1] | {"regex": SLOW}))
        await downstream.until(lambda: len(downstream.generates) == 1)
        second = asyncio.create_task(http.post(TEXT[0], json=TEXT[1] | {"regex": SLOW + "x"}))
        await downstream.until(lambda: len(downstream.generates) == 2)
        second.cancel()
        await downstream.until(lambda: len(downstream.aborted) == 1)
        downstream.script = obedient
        await post(http, TEXT[0], TEXT[1] | {"regex": "quick"})
        assert await compiles(http) == 2
        first.cancel()


async def test_a_child_that_dies_for_no_reason_is_a_500(
    start_door: StartDoor, downstream: Downstream, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenizer_svc.service.LIMITS", msgspec.structs.replace(UNBOUNDED, compile_s=20))
    await start_door()
    async with aiohttp.ClientSession(url) as http:
        await post(http, TEXT[0], TEXT[1] | {"regex": "warm"})
        posting = asyncio.create_task(http.post(TEXT[0], json=TEXT[1] | {"regex": ENDLESS}))
        while not posting.done():  # it is tried twice
            for child in children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if child.cpu_times().user > 0.4:  # its imports take less
                        child.terminate()
            await asyncio.sleep(0.02)
        async with await posting as response:
            assert "send the request again" in (await refused(response, 500))["message"]
        await downstream.until(lambda: len(downstream.aborted) == 1)
        await post(http, TEXT[0], TEXT[1] | {"regex": "a"})


async def test_a_worker_that_knows_first_does_not_hide_the_reason(
    start_door: StartDoor, downstream: Downstream, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another front door may leave its rejection before this one has its own."""

    async def fail_at_once(downstream: Downstream, generate: Generate) -> None:
        await downstream.fail(generate, Failure.WORKER, "some words of the worker")

    monkeypatch.setattr("tokenizer_svc.service.LIMITS", msgspec.structs.replace(UNBOUNDED, compile_s=0.4))
    await start_door()
    downstream.script = fail_at_once
    async with aiohttp.ClientSession(url) as http:
        async with http.post(TEXT[0], json=TEXT[1] | {"regex": ENDLESS, "stream": True}) as response:
            assert (await refused(response, 400))["code"] == "invalid_grammar"
        async with http.post(TEXT[0], json=TEXT[1] | {"regex": "good"}) as response:
            assert (await refused(response, 500))["message"] == "some words of the worker"


async def test_a_full_queue_is_told_without_waiting_for_a_compile(
    http: aiohttp.ClientSession, downstream: Downstream
) -> None:
    async def full(downstream: Downstream, generate: Generate) -> None:
        await downstream.fail(generate, Failure.QUEUE_FULL)

    await post(http, TEXT[0], TEXT[1] | {"regex": "warm"})
    downstream.script = full
    async with http.post(TEXT[0], json=TEXT[1] | {"regex": SLOW}) as response:
        await refused(response, 429)
    assert not await downstream.bus.client.exists(downstream.bus.names.grammar(asked({"regex": SLOW}).key))


async def test_an_orderly_stop_leaves_no_process(
    start_door: StartDoor, downstream: Downstream, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenizer_svc.service._STOP_GRACE_S", 0.1)
    door: Context = await start_door()
    async with aiohttp.ClientSession(url) as http:
        await post(http, TEXT[0], TEXT[1] | {"regex": "warm"})
        left = children()
        assert left
        posting = asyncio.create_task(http.post(TEXT[0], json=TEXT[1] | {"regex": SLOW}))
        await downstream.until(lambda: len(downstream.generates) == 2)
        door.stopping.set()
        async with asyncio.timeout(10):
            while any(child.is_running() for child in left):
                await asyncio.sleep(0.01)
        posting.cancel()
