"""Our server as backend, against a toy server that fails in every way we know."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import uvloop

from rootstream.lang.backends.openai import OpenAI
from rootstream.lang.backends.server import Server, new_id
from rootstream.lang.calls import Call, CallError, Outcome
from rootstream.lang.parts import Gen, Part, Select, Text
from tests.rootstream.lang import toy_model
from tests.rootstream.lang.toy_server import Cut, Lose, Refusal, ToyServer, serving


@pytest.fixture
def toy() -> ToyServer:
    return ToyServer()


@pytest_asyncio.fixture
async def server(toy: ToyServer) -> AsyncIterator[Server]:
    async with serving(toy) as url:
        server = Server(url, patience=5)
        yield server
        await server.close()


def call(*parts: Part | str, **fields: Any) -> Call:
    whole = tuple(Text(part) if isinstance(part, str) else part for part in parts)
    return Call(id=fields.pop("id", None) or new_id(), parts=whole, **fields)


def expected(text: str, **gen: Any) -> str:
    return toy_model.generate(text, gen).text


async def child(server: Server, history: str, parent: str, text: str, **fields: Any) -> Outcome:
    """Go on from a parent whose text is known."""
    made = call(text, Gen(name="x"), parent=parent, history=lambda: (Text(history),), **fields)
    return await server.run(made)


async def test_a_call_sends_its_parts_and_reads_their_results(server: Server, toy: ToyServer) -> None:
    choices = ("one", "two", "three")
    parts = ("Say: ", Gen(name="x", max_tokens=3), " then ", Select(name="y", choices=choices))
    outcome = await server.run(call(*parts, group="g"))
    x, y = outcome.results
    assert x.text == expected("Say: ", max_tokens=3)
    assert (x.name, x.part, x.completion_tokens) == ("x", 1, len(x.text.split()))
    assert y.part == 3
    assert y.scores == tuple(toy_model.scores(f"Say: {x.text} then ", choices))
    assert y.text == choices[y.index or 0]
    assert outcome.usage.completion_tokens == x.completion_tokens
    (body,) = toy.of("/v1/contexts")
    assert body["parts"][1] == {"type": "gen", "name": "x", "max_tokens": 3}
    assert body["group"] == "g"
    assert "stream" not in body


async def test_a_child_sends_its_delta_only(server: Server, toy: ToyServer) -> None:
    root = call("A long story. " * 50, prefill=True)
    await server.run(root)
    outcome = await child(server, "", root.id, "And then")
    assert outcome.results[0].text == expected("A long story. " * 50 + "And then")
    assert toy.bodies[1]["parts"] == [{"type": "text", "text": "And then"}, {"type": "gen", "name": "x"}]
    assert toy.bodies[0]["prefill"] is True


async def test_a_name_that_is_used_again_is_another_one_on_the_wire(server: Server, toy: ToyServer) -> None:
    parts = ("a", Gen(name="x"), "b", Gen(name="x.3"), "c", Gen(name="x"), "d", Select(name="x.5", choices=("e",)))
    outcome = await server.run(call(*parts))
    assert [result.name for result in outcome.results] == ["x", "x.3", "x", "x.5"]
    names = [part["name"] for part in toy.bodies[0]["parts"] if "name" in part]
    assert names == ["x", "x.3", "x.5", "x.5.7"]


async def test_tools_are_sent_with_the_root_alone(server: Server, toy: ToyServer) -> None:
    tools = ({"type": "function", "function": {"name": "f"}},)
    root = call("x", tools=tools)
    await server.run(root)
    await child(server, "x", root.id, "y", tools=tools)
    assert toy.bodies[0]["tools"] == list(tools)
    assert "tools" not in toy.bodies[1]


@pytest.mark.parametrize("stream", [False, True])
async def test_pieces_are_told_once_and_add_up(stream: bool, server: Server, toy: ToyServer) -> None:
    told: dict[int, str] = {}

    def on_piece(part: int, text: str) -> None:
        told[part] = told.get(part, "") + text

    made = call("Go", Gen(name="x"), ", ", Select(name="y", choices=("a", "b")), stream=stream)
    outcome = await server.run(made, on_piece)
    assert told == ({result.part: result.text for result in outcome.results} if stream else {})


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_is_cut_at_any_byte_is_asked_for_again(
    stream: bool, server: Server, toy: ToyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rootstream.lang.backends.retrying.FIRST_S", 0.001)
    told: list[str] = []
    for after in [*range(0, 120, 7), *range(120, 900, 41)]:
        told.clear()
        toy.faults.append(Cut(after))
        before = toy.computed
        made = call(f"Cut {after}", Gen(name="x", max_tokens=6), stream=stream)
        outcome = await server.run(made, lambda _, text: told.append(text))
        assert outcome.results[0].text == expected(f"Cut {after}", max_tokens=6)
        assert toy.computed == before + 1, "the second attempt is answered with what the first one made"
        if stream:
            assert "".join(told) == outcome.results[0].text


@pytest.mark.parametrize("status", [429, 502, 503])
async def test_passing_refusals_are_waited_for(status: int, server: Server, toy: ToyServer) -> None:
    toy.faults += [Refusal(status), Refusal(status, {"Retry-After": "0.2"})]
    began = asyncio.get_running_loop().time()
    made = call("Hello", Gen(name="x"))
    outcome = await server.run(made)
    assert outcome.results[0].text == expected("Hello")
    assert asyncio.get_running_loop().time() - began >= 0.2
    first, *others = toy.bodies
    assert others == [first, first]


async def test_other_refusals_are_final_and_say_what_the_server_said(server: Server, toy: ToyServer) -> None:
    toy.faults.append(Refusal(400, code="invalid", message="parts[1].regex: an open bracket"))
    with pytest.raises(CallError, match=r"parts\[1\]\.regex: an open bracket \(HTTP 400\)") as raised:
        await server.run(call("Hello", Gen(name="x", regex="(")))
    assert (raised.value.status, raised.value.code) == (400, "invalid")
    assert len(toy.bodies) == 1


async def test_patience_has_an_end(toy: ToyServer) -> None:
    toy.faults += [Refusal(503)] * 50
    async with serving(toy) as url:
        server = Server(url, patience=0.3)
        with pytest.raises(CallError, match="not now") as raised:
            await server.run(call("Hello", Gen(name="x")))
        assert raised.value.status == 503
        await server.close()


async def test_a_wait_that_would_outlast_the_call_is_not_begun(server: Server, toy: ToyServer) -> None:
    toy.faults.append(Refusal(429, {"Retry-After": "100"}))
    began = asyncio.get_running_loop().time()
    with pytest.raises(CallError) as raised:
        await server.run(call("Hello", Gen(name="x"), timeout=4.0))
    assert raised.value.status == 429
    assert asyncio.get_running_loop().time() - began < 2


async def test_a_call_out_of_time_fails_and_is_released(server: Server, toy: ToyServer) -> None:
    toy.delay = 30
    made = call("Hello", Gen(name="x"), timeout=0.1)
    with pytest.raises(CallError, match=r"within 0\.1 s") as raised:
        await server.run(made)
    assert raised.value.code == "timeout"
    toy.delay = 0
    await server.close()
    assert made.id in toy.released
    assert toy.cancelled == 1


async def test_cancelling_closes_the_connection_and_releases_the_call(server: Server, toy: ToyServer) -> None:
    toy.delay = 30
    made = call("Hello", Gen(name="x"))
    task = asyncio.create_task(server.run(made))
    while not toy.running:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while toy.running:
        await asyncio.sleep(0.01)
    toy.delay = 0
    await server.run(call("Next", Gen(name="x")))
    assert made.id in toy.released


async def test_a_lost_parent_is_sent_again_once_for_all_its_children(server: Server, toy: ToyServer) -> None:
    root = call("A story.", prefill=True)
    await server.run(root)
    toy.faults.append(Lose())
    outcomes = await asyncio.gather(*(child(server, "A story.", root.id, f" End {n}") for n in range(100)))
    for n, outcome in enumerate(outcomes):
        assert outcome.results[0].text == expected(f"A story. End {n}")
    replays = [body for body in toy.bodies[1:] if body["parts"] == [{"type": "text", "text": "A story."}]]
    assert len(replays) == 1
    before = len(toy.bodies)
    await child(server, "A story.", root.id, " Late")
    assert len(toy.bodies) == before + 1, "the new name is known by now"


async def test_a_parent_that_is_lost_again_is_sent_again(server: Server, toy: ToyServer) -> None:
    root = call("A story.")
    await server.run(root)
    for _ in range(3):
        toy.faults.append(Lose())
        outcome = await child(server, "A story.", root.id, " End")
        assert outcome.results[0].text == expected("A story. End")
    await server.release([root.id])
    await server.close()
    assert root.id in toy.released
    assert len(toy.released) == 2, "with the name under which it was made the last time"


async def test_a_call_that_releases_its_lost_parent(server: Server, toy: ToyServer) -> None:
    root = call("A story.")
    await server.run(root)
    toy.faults.append(Lose())
    outcome = await child(server, "A story.", root.id, " End", release=(root.id,), keep=False)
    assert outcome.results[0].text == expected("A story. End")


async def test_who_waits_for_a_parent_may_leave_without_harm_to_others(server: Server, toy: ToyServer) -> None:
    root = call("A story.")
    await server.run(root)
    toy.contexts.clear()
    toy.delay = 0.1
    first = asyncio.create_task(child(server, "A story.", root.id, " One"))
    second = asyncio.create_task(child(server, "A story.", root.id, " Two"))
    await asyncio.sleep(0.15)
    first.cancel()
    assert (await second).results[0].text == expected("A story. Two")
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_releases_travel_with_the_next_call_or_by_themselves(server: Server, toy: ToyServer) -> None:
    await server.release(["a", "b"])
    await server.run(call("x", release=("c",)))
    assert toy.bodies[0]["release"] == ["c", "a", "b"]
    await server.release([f"id{n}" for n in range(150)])
    while len(toy.released) < 153:
        await asyncio.sleep(0.02)
    assert [len(body["release"]) for body in toy.bodies[1:]] == [100, 50]
    assert all(body["parts"] == [] and "id" not in body for body in toy.bodies[1:])


async def test_what_a_failed_call_was_to_release_is_not_forgotten(server: Server, toy: ToyServer) -> None:
    toy.faults.append(Refusal(400))
    with pytest.raises(CallError):
        await server.run(call("x", release=("a",)))
    await server.close()
    assert toy.released == ["a"]


async def test_release_never_raises_for_a_server_that_is_away() -> None:
    server = Server("http://127.0.0.1:1", patience=0.1)
    await server.release(["a"])
    await server.close()


async def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    server = Server(url, patience=0.2)
    with pytest.raises(CallError, match=r"no server answers at 127\.0\.0\.1") as raised:
        await server.run(call("x"))
    assert raised.value.code == "connection"


async def test_a_server_without_contexts_is_told_from_ours() -> None:
    from aiohttp import web

    runner = web.AppRunner(web.Application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server = Server(f"http://127.0.0.1:{runner.addresses[0][1]}")
    with pytest.raises(CallError, match="use OpenAI"):
        await server.run(call("x"))
    await server.close()
    await runner.cleanup()


async def test_the_key_goes_with_every_call_and_its_absence_is_explained() -> None:
    toy = ToyServer(key="right")
    async with serving(toy) as url:
        knows, asks = Server(url, "right"), Server(url, "wrong")
        await knows.run(call("x"))
        with pytest.raises(CallError, match="ROOTSTREAM_API_KEY"):
            await asks.run(call("x"))
        await knows.close()
        await asks.close()


async def test_extra_fields_and_raw_answers(toy: ToyServer) -> None:
    seen: list[tuple[Any, Any]] = []
    async with serving(toy) as url:
        server = Server(url, extra={"user": "u", "priority": 3}, on_answer=lambda *pair: seen.append(pair))
        await server.run(call("x"))
        await server.close()
    assert (toy.bodies[0]["user"], toy.bodies[0]["priority"]) == ("u", 3)
    ((request, answer),) = seen
    assert request["priority"] == 3
    assert answer["object"] == "context"


@pytest.mark.parametrize("extra", [{"parts": []}, {"id": "x"}])
def test_extra_cannot_replace_what_the_language_says(extra: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="set by the language"):
        Server("http://127.0.0.1:1", extra=extra)


def test_server_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOTSTREAM_URL", "http://elsewhere:1/v1/")
    assert Server().url == "http://elsewhere:1"
    monkeypatch.delenv("ROOTSTREAM_URL")
    assert Server().url == "http://127.0.0.1:30000"
    assert Server("https://given").url == "https://given"


def test_it_works_in_one_loop_after_another_though_nobody_closes_it() -> None:
    """The end of a loop takes its connections along: else Python warns, which is an error here."""
    toy = ToyServer()
    servers = [Server("http://127.0.0.1:1"), OpenAI("http://127.0.0.1:1", dialect="unknown", model="m")]

    async def once() -> None:
        async with serving(toy) as url:
            for server in servers:
                server._asker._address = server._asker._address._replace(port=int(url.rpartition(":")[2]))
                await server.run(call("x", Gen(name="x")))

    for _ in range(2):
        asyncio.run(once())
        uvloop.run(once())
    gc.collect()
    assert len(toy.of("/v1/contexts")) == len(toy.of("/v1/completions")) == 4


async def test_tokens_are_counted(server: Server) -> None:
    assert await server.count_tokens("one two three") == 3
