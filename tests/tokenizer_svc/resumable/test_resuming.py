"""Streams that are cut and go on elsewhere: the same events, byte for byte."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from shared.protocol import Abort, Generate, Track, Untrack
from tests.tokenizer_svc.downstream import Downstream, silent
from tests.tokenizer_svc.resumable.conftest import WORDS, Doors, Story, event_id, events, read_events
from tokenizer_svc.limits import Limits
from tokenizer_svc.resumable.entries import Placed
from tokenizer_svc.resumable.service import RedisLogs

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
RESPONSES = "/v1/responses"  # which has its own word for what is in the background
HI: list[dict[str, str]] = [{"role": "user", "content": "hi"}]
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"messages": HI, "stream_options": {"include_usage": True}}),
    (CHAT, {"messages": HI, "n": 2}),
    (TEXT, {"prompt": ["a", "b"]}),
    ("/generate", {"text": "a"}),
    ("/generate", {"text": ["a", "b"]}),
    ("/v1/messages", {"messages": HI, "max_tokens": 50}),
    (RESPONSES, {"input": "hi"}),
]
PREFIXES = {CHAT: "chatcmpl-", TEXT: "cmpl-", "/generate": "gen-", "/v1/messages": "msg_", RESPONSES: "resp_"}
RESUMABLE = {"stream": True, "resumable": True}


async def rest(web: aiohttp.ClientSession, url: str, last: str) -> list[bytes]:
    """The events after one, from any door."""
    answer_id = last.rpartition(":")[0]
    headers = {"Last-Event-ID": last}
    async with asyncio.timeout(20), web.get(f"{url}/v1/streams/{answer_id}", headers=headers) as response:
        assert response.status == 200, await response.read()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        return events(await response.read())


async def refused(response: aiohttp.ClientResponse, status: int) -> dict[str, Any]:
    body = await response.json()
    assert response.status == status, body
    return body["error"]


@pytest.mark.parametrize(("path", "body"), REQUESTS)
async def test_cut_at_any_byte(
    doors: Doors, downstream: Downstream, web: aiohttp.ClientSession, path: str, body: dict[str, Any]
) -> None:
    downstream.script = downstream.again = Story()
    first, second = await doors.start("t1"), await doors.start("t2")
    async with web.post(first + path, json=body | RESUMABLE) as response:
        whole = await response.read()
    answer_id = event_id(events(whole)[0]).removesuffix(":1")
    assert answer_id.encode() in events(whole)[0].split(b"data: ")[1]
    assert [event_id(event) for event in events(whole)] == [
        f"{answer_id}:{ordinal}" for ordinal in range(1, len(events(whole)) + 1)
    ]
    resumed: dict[str, list[bytes]] = {}
    for position in range(len(whole) + 1):
        seen = events(whole[:position])
        last = event_id(seen[-1]) if seen else f"{answer_id}:0"
        if last not in resumed:
            resumed[last] = await rest(web, second, last)
        assert seen + resumed[last] == events(whole)


@pytest.mark.parametrize(("path", "body"), REQUESTS)
@pytest.mark.parametrize("said", [0, 1, 5])
async def test_cut_while_it_is_told(
    doors: Doors, downstream: Downstream, web: aiohttp.ClientSession, path: str, body: dict[str, Any], said: int
) -> None:
    """The client leaves in the middle, comes back to another door, and waits there for what is still to come."""
    story = downstream.script = downstream.again = Story(said)
    first, second = await doors.start("t1"), await doors.start("t2")
    response = await web.post(first + path, json=body | RESUMABLE)
    seen = events(await read_events(response, 1)) if said else []
    response.close()
    [generate, *_] = downstream.received(Generate)
    last = event_id(seen[-1]) if seen else f"{PREFIXES[path]}{generate.id:016x}:0"
    waiting = asyncio.create_task(rest(web, second, last))
    await asyncio.sleep(0.1)
    story.go_on()
    elsewhere = seen + await waiting
    assert elsewhere == await rest(web, first, f"{last.rpartition(':')[0]}:0")
    assert not downstream.aborted
    assert {generate.grace_s for generate in downstream.received(Generate)} == {60}


async def test_the_same_post_goes_on(doors: Doors, downstream: Downstream, web: aiohttp.ClientSession) -> None:
    downstream.script = downstream.again = Story()
    first, second = await doors.start("t1"), await doors.start("t2")
    body = {"messages": HI, "stream": True}
    async with web.post(first + CHAT, json=body, headers={"X-Resumable": "true"}) as response:
        whole = events(await response.read())
    headers = {"Last-Event-ID": event_id(whole[3])}
    async with web.post(second + CHAT, json=body, headers=headers) as response:
        assert events(await response.read()) == whole[4:]
    async with web.post(second + CHAT, json={"stream": True, "messages": HI, **RESUMABLE}, headers=headers) as response:
        assert events(await response.read()) == whole[4:]
    async with web.post(second + CHAT, json=body | {"temperature": 0.5}, headers=headers) as response:
        assert (await refused(response, 400))["code"] == "another_request"
    async with web.post(second + TEXT, json={"prompt": "a", **RESUMABLE}, headers=headers) as response:
        assert (await refused(response, 400))["code"] == "another_request"
    assert len(downstream.generates) == 1


async def test_the_writer_is_killed(doors: Doors, downstream: Downstream, web: aiohttp.ClientSession) -> None:
    story = downstream.script = downstream.again = Story(5)
    first, second = await doors.start("t1"), await doors.start("t2")
    body = {"messages": HI, "n": 2, "stream_options": {"include_usage": True}} | RESUMABLE
    response = await web.post(first + CHAT, json=body)
    seen = events(await read_events(response, 12))
    assert len(seen) == 12  # two roles, and five words for each
    await doors.kill("t1")
    waiting = asyncio.create_task(rest(web, second, event_id(seen[6])))
    await downstream.until(lambda: len(downstream.received(Generate)) == 4)
    again = downstream.received(Generate)[2:]
    assert {generate.reply_to for generate in again} == {"t2"}
    assert [track.again for track in downstream.received(Track)] == [False, False, True, True]
    assert not downstream.aborted
    story.go_on()
    events_of_all = seen[:7] + await waiting
    assert events_of_all[:12] == seen
    texts = ["", ""]
    for event in events_of_all[:-1]:
        for choice in json.loads(event.split(b"data: ", 1)[1])["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
    assert texts == ["".join(WORDS)] * 2
    usage = json.loads(events_of_all[-2].split(b"data: ", 1)[1])["usage"]
    assert (usage["completion_tokens"], usage["prompt_tokens_details"]["cached_tokens"]) == (22, 3)
    assert events_of_all[-1].endswith(b"data: [DONE]\n\n")
    assert not downstream.received(Abort)


async def test_an_orderly_stop_leaves_it_to_others(
    doors: Doors, downstream: Downstream, web: aiohttp.ClientSession
) -> None:
    """Where it takes longer than the stop may: no error in the log, no abort, and the rest elsewhere."""
    story = downstream.script = downstream.again = Story(2)
    first, second = await doors.start("t1", drain_timeout=0.1), await doors.start("t2")
    response = await web.post(first + TEXT, json={"prompt": "a", **RESUMABLE})
    seen = events(await read_events(response, 2))
    await doors.stop("t1")
    await downstream.until(lambda: len(downstream.received(Generate)) == 2)
    assert not downstream.aborted
    story.go_on()
    left = await rest(web, second, event_id(seen[-1]))
    assert [event_id(event) for event in left] == [
        f"{event_id(seen[0])[:-2]}:{ordinal}" for ordinal in range(3, 3 + len(left))
    ]
    assert left[-1].endswith(b"[DONE]\n\n")
    assert b"error" not in b"".join(left)


async def test_read_where_it_is_being_taken_over(
    doors: Doors, downstream: Downstream, web: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes between the first look at a log and its claim reads on to the end."""
    claim = RedisLogs.claim
    claiming, go_on = asyncio.Event(), asyncio.Event()

    async def slow(logs: RedisLogs, id: int, placed: Placed) -> bool:
        claiming.set()
        await go_on.wait()
        return await claim(logs, id, placed)

    monkeypatch.setattr(RedisLogs, "claim", slow)
    story = downstream.script = downstream.again = Story(2)
    first, second = await doors.start("t1"), await doors.start("t2")
    response = await web.post(first + TEXT, json={"prompt": "a", **RESUMABLE})
    seen = events(await read_events(response, 2))
    await doors.kill("t1")
    await claiming.wait()
    waiting = asyncio.create_task(rest(web, second, event_id(seen[-1])))
    await asyncio.sleep(0.1)
    go_on.set()
    await downstream.until(lambda: len(downstream.received(Generate)) == 2)
    story.go_on()
    assert (await waiting)[-1].endswith(b"[DONE]\n\n")


async def test_a_successor_of_the_same_name_goes_on(
    doors: Doors, downstream: Downstream, web: aiohttp.ClientSession
) -> None:
    """And aborts what cannot be resumed."""
    story = downstream.script = downstream.again = Story(3)
    url = await doors.start("t")
    response = await web.post(url + TEXT, json={"prompt": "a", **RESUMABLE})
    seen = events(await read_events(response, 3))
    other = await web.post(url + TEXT, json={"prompt": "b", "stream": True})
    [kept, lost] = downstream.generates
    await doors.kill("t")
    other.close()
    downstream.messages.clear()
    url = await doors.start("t")
    await downstream.until(lambda: bool(downstream.received(Generate)) and lost in downstream.aborted)
    assert kept not in downstream.aborted
    story.go_on()
    whole = seen + await rest(web, url, event_id(seen[-1]))
    assert [event_id(event) for event in whole] == [f"cmpl-{kept:016x}:{n}" for n in range(1, len(whole) + 1)]
    assert b"".join(whole).count(b" fox") == 1


@pytest.mark.parametrize("pending", [0, 2])
async def test_a_writer_that_was_stopped_changes_nothing(
    doors: Doors, downstream: Downstream, web: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, pending: int
) -> None:
    """A process that was stopped, replaced and woken up: it appends nothing, aborts nothing, and its client goes on."""
    story = downstream.script = downstream.again = Story(2)
    first, second = await doors.start("t1"), await doors.start("t2")
    response = await web.post(first + TEXT, json={"prompt": "a", **RESUMABLE})
    seen = await read_events(response, 2)
    gate = await doors.stop_in_its_tracks("t1", monkeypatch)
    story.go_on(2 + pending)  # words that the stopped one has and cannot write
    await downstream.until(lambda: len(downstream.received(Generate)) == 2)
    assert not downstream.aborted
    story.go_on()
    elsewhere = await rest(web, second, event_id(events(seen)[-1]))
    gate.set()
    async with asyncio.timeout(20):
        seen += await response.read()
    assert events(seen)[2:] == elsewhere
    assert not downstream.received(Abort)
    assert not downstream.received(Untrack)


async def test_nobody_comes_back(doors: Doors, downstream: Downstream, web: aiohttp.ClientSession) -> None:
    """After the grace period the request is aborted; what there is of the answer can still be read."""
    downstream.script = downstream.again = Story(3)
    url = await doors.start("t", resume_grace=0.1)
    response = await web.post(url + TEXT, json={"prompt": "a", **RESUMABLE})
    seen = events(await read_events(response, 3))
    response.close()
    await downstream.until(lambda: bool(downstream.aborted) and bool(downstream.received(Untrack)))
    left = await rest(web, url, event_id(seen[-1]))
    assert b'"finish_reason":"abort"' in left[0]
    assert left[-1].endswith(b"data: [DONE]\n\n")


async def test_who_reads_elsewhere_keeps_it_going(
    doors: Doors, downstream: Downstream, web: aiohttp.ClientSession
) -> None:
    story = downstream.script = downstream.again = Story(3)
    first, second = await doors.start("t1", resume_grace=0.5), await doors.start("t2")
    response = await web.post(first + TEXT, json={"prompt": "a", **RESUMABLE})
    seen = events(await read_events(response, 3))
    response.close()
    waiting = asyncio.create_task(rest(web, second, event_id(seen[-1])))
    await asyncio.sleep(1.2)
    assert not downstream.aborted
    story.go_on()
    assert (await waiting)[-1].endswith(b"data: [DONE]\n\n")


async def test_an_ordinary_stream_has_no_ids_and_cannot_be_resumed(
    doors: Doors, downstream: Downstream, web: aiohttp.ClientSession
) -> None:
    url = await doors.start("t")
    async with web.post(url + CHAT, json={"messages": HI, "stream": True}) as response:
        whole = events(await response.read())
    assert not any(event.startswith(b"id:") for event in whole)
    answer_id = json.loads(whole[0].removeprefix(b"data: "))["id"]
    async with web.get(f"{url}/v1/streams/{answer_id}") as response:
        assert "resumable" in (await refused(response, 404))["message"]


async def test_refusals(doors: Doors, downstream: Downstream, web: aiohttp.ClientSession) -> None:
    downstream.script = downstream.again = Story()
    url = await doors.start("t")
    async with web.post(url + TEXT, json={"prompt": "a", **RESUMABLE}) as response:
        whole = events(await response.read())
    answer_id, _, count = event_id(whole[-1]).partition(":")
    at = f"{url}/v1/streams/{answer_id}"
    assert await rest(web, url, f"{answer_id}:{count}") == []
    cases: list[tuple[str, dict[str, str], int, str]] = [
        (at, {"Last-Event-ID": f"{answer_id}:{int(count) + 1}"}, 400, f"{count} events"),
        (at, {"Last-Event-ID": "17"}, 400, "id of an event"),
        (at, {"Last-Event-ID": "cmpl-0000000000000001:3"}, 400, "not of"),
        (f"{at}?last_event_id=x", {}, 400, "last_event_id"),
        (f"{at}?wait=soon", {}, 400, "wait"),
        (f"{url}/v1/streams/cmpl-0000000000000001", {}, 404, "no answer"),
        (f"{url}/v1/streams/chat{answer_id}", {}, 404, "no answer"),
        (f"{url}/v1/streams/..", {}, 404, ""),
    ]
    for where, headers, status, message in cases:
        async with web.get(where, headers=headers) as response:
            assert message in (await refused(response, status))["message"]
    async with web.get(f"{at}?last_event_id={answer_id}:2") as response:
        assert events(await response.read()) == whole[2:]
    async with web.post(url + TEXT, json={"prompt": "a", "resumable": True}) as response:
        assert "stream to true" in (await refused(response, 400))["message"]
    async with web.post(url + TEXT, json={"prompt": "a", "n": 17, **RESUMABLE}) as response:
        assert "at most 16" in (await refused(response, 400))["message"]
    async with web.post(url + TEXT, json={"prompt": "a"}, headers={"X-Resumable": "maybe"}) as response:
        assert "true or false" in (await refused(response, 400))["message"]
    async with web.post(url + TEXT, json={"prompt": "a", "resumable": "yes"}) as response:
        assert (await refused(response, 400))["param"] == "resumable"


async def test_another_tenant_finds_nothing(doors: Doors, downstream: Downstream, web: aiohttp.ClientSession) -> None:
    me, you = {"Authorization": "Bearer secret-of-me"}, {"Authorization": "Bearer secret-of-you"}
    downstream.script = downstream.again = Story()
    url = await doors.start("t", api_keys="me:secret-of-me,you:secret-of-you")
    body = {"prompt": "a", **RESUMABLE}
    async with web.post(url + TEXT, json=body, headers=me) as response:
        last = event_id(events(await response.read())[2])
    at = f"{url}/v1/streams/{last.partition(':')[0]}"
    other = you | {"Last-Event-ID": last}
    async with web.get(at, headers=other) as response:
        await refused(response, 404)
    async with web.delete(at, headers=other) as response:
        await refused(response, 404)
    async with web.post(url + TEXT, json=body, headers=other) as response:
        await refused(response, 404)
    async with web.get(at) as response:
        await refused(response, 401)
    async with web.get(at, headers=other | me) as response:
        assert response.status == 200


async def test_deleted(doors: Doors, downstream: Downstream, web: aiohttp.ClientSession) -> None:
    """From another door than the one that writes it: aborted, forgotten, and never written again."""
    downstream.script = downstream.again = Story(3)
    first, second = await doors.start("t1"), await doors.start("t2")
    response = await web.post(first + TEXT, json={"prompt": "a", **RESUMABLE})
    seen = await read_events(response, 3)
    [id] = downstream.generates
    at = f"/v1/streams/cmpl-{id:016x}"
    async with web.delete(second + at) as deleted:
        assert await deleted.json() == {"id": f"cmpl-{id:016x}", "object": "answer.deleted", "deleted": True}
    assert b"was deleted" in seen + await response.read()
    assert downstream.aborted == {id}
    for url in (first, second):
        async with web.get(url + at) as gone:
            await refused(gone, 404)
    assert len(downstream.received(Generate)) == 1


async def test_kept_no_longer_than_it_should(doors: Doors, downstream: Downstream, web: aiohttp.ClientSession) -> None:
    downstream.script = downstream.again = Story()
    url = await doors.start("t", resume_keep=1)
    async with web.post(url + TEXT, json={"prompt": "a", **RESUMABLE}) as response:
        last = event_id(events(await response.read())[-1])
    async with asyncio.timeout(10):
        while True:
            async with web.get(f"{url}/v1/streams/{last.partition(':')[0]}") as response:
                if response.status == 404:
                    break
            await asyncio.sleep(0.1)
    left = await downstream.bus.ask(("KEYS", f"{downstream.bus.names.prefix}:answer:*"))
    assert left == [[]]
    assert await downstream.bus.hash(downstream.bus.names.resumable) == {}
    assert await downstream.bus.hash(downstream.bus.names.readers) == {}


@pytest.mark.parametrize("loss", ["all", "the end"])
async def test_a_log_that_got_lost_is_written_again(
    doors: Doors, downstream: Downstream, web: aiohttp.ClientSession, loss: str
) -> None:
    """The server comes back without its data, or without the last second of it."""
    story = downstream.script = downstream.again = Story(5)
    first, second = await doors.start("t1"), await doors.start("t2")
    response = await web.post(first + TEXT, json={"prompt": "a", **RESUMABLE})
    seen = events(await read_events(response, 5))
    [id] = downstream.generates
    names = downstream.bus.names
    if loss == "all":
        await downstream.bus.ask(("DEL", names.answer(id), names.resumable))
    else:
        [newest] = await downstream.bus.ask(("XREVRANGE", names.answer(id), "+", "-", "COUNT", 2))
        await downstream.bus.ask(("XDEL", names.answer(id), *(entry_id for entry_id, _ in newest)))
    story.go_on()
    whole = seen + events(await response.read())
    assert await rest(web, second, f"{event_id(seen[0])[:-2]}:0") == whole
    assert not downstream.aborted


async def test_a_log_that_got_lost_is_there_before_anything_is_added(
    doors: Doors, downstream: Downstream, web: aiohttp.ClientSession
) -> None:
    """Who asks for it meanwhile is told to come again, not that there is nothing."""
    story = downstream.script = downstream.again = Story(5)
    first, second = await doors.start("t1"), await doors.start("t2")
    response = await web.post(first + TEXT, json={"prompt": "a", **RESUMABLE})
    seen = events(await read_events(response, 5))
    [id] = downstream.generates
    names = downstream.bus.names
    await downstream.bus.ask(("DEL", names.mark, names.answer(id), names.resumable))
    url = f"{second}/v1/streams/{event_id(seen[0])[:-2]}"
    async with asyncio.timeout(10):
        while True:
            async with web.get(url, headers={"Last-Event-ID": f"{event_id(seen[0])[:-2]}:5"}) as other:
                assert other.status in {200, 503}, await other.read()
                if other.status == 200:
                    story.go_on()
                    told = events(await other.read())
                    break
                assert "Retry-After" in other.headers
    assert events(await response.read()) == told
    assert not downstream.aborted


@pytest.mark.parametrize("is_deleted", [False, True])
async def test_an_answer_that_has_ended_outlives_the_loss_of_all_data(
    doors: Doors, downstream: Downstream, web: aiohttp.ClientSession, is_deleted: bool
) -> None:
    """For as long as somebody who lost its connection near the end may come back; unless it was deleted."""
    downstream.script = downstream.again = Story()
    first, second = await doors.start("t1"), await doors.start("t2")
    async with web.post(first + TEXT, json={"prompt": "a", **RESUMABLE}) as response:
        whole = events(await response.read())
    last = event_id(whole[3])
    url = f"/v1/streams/{last.rpartition(':')[0]}"
    if is_deleted:
        async with web.delete(first + url) as response:
            assert response.status == 200
    [id] = downstream.generates
    names = downstream.bus.names
    await downstream.bus.ask(("DEL", names.mark, names.answer(id), names.resumable))
    async with asyncio.timeout(20):
        while True:
            async with web.get(second + url, headers={"Last-Event-ID": last}) as response:
                if response.status != 503:
                    assert response.status == (404 if is_deleted else 200), await response.read()
                    assert is_deleted or events(await response.read()) == whole[4:]
                    break
            await asyncio.sleep(0.1)


async def test_refused_before_it_starts(doors: Doors, downstream: Downstream, web: aiohttp.ClientSession) -> None:
    """A resumable request that the scheduler refuses gets the refusal's status, as any other."""
    from shared.protocol import Failure

    async def full(downstream: Downstream, generate: Generate) -> None:
        await downstream.fail(generate, Failure.QUEUE_FULL, "2048 requests are waiting")

    downstream.script = full
    url = await doors.start("t")
    async with web.post(url + TEXT, json={"prompt": "a", **RESUMABLE}) as response:
        assert (await refused(response, 429))["code"] == "queue_full"


async def test_larger_than_what_is_kept(
    doors: Doors, downstream: Downstream, web: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "of", lambda settings: Limits(resumable_bytes=200))
    downstream.script = downstream.again = Story()
    url = await doors.start("t")
    async with web.post(url + TEXT, json={"prompt": "a", **RESUMABLE}) as response:
        whole = events(await response.read())
    assert b"is larger than" in whole[-1]
    await downstream.until(lambda: bool(downstream.aborted))


class TestBackground:
    """Submitted now, fetched later."""

    @pytest.mark.parametrize(("path", "body"), [(path, body) for path, body in REQUESTS if path != RESPONSES])
    async def test_a_whole_answer(
        self, doors: Doors, downstream: Downstream, web: aiohttp.ClientSession, path: str, body: dict[str, Any]
    ) -> None:
        body = {name: value for name, value in body.items() if name != "stream_options"}
        story = downstream.script = downstream.again = Story(2)
        first, second = await doors.start("t1", resume_grace=0.1), await doors.start("t2")
        async with web.post(first + path, json=body | {"background": True}) as response:
            ticket = await response.json()
            assert response.status == 202
        assert ticket["status"] == "queued"
        assert ticket["stream_url"] == f"/v1/streams/{ticket['id']}"
        await downstream.until(lambda: bool(downstream.generates))
        assert downstream.received(Generate)[0].grace_s == 600
        async with web.get(f"{second}{ticket['stream_url']}?wait=0.3") as response:
            assert response.status == 202
            assert (await response.json())["status"] == "in_progress"
            assert response.headers["Retry-After"]
        waiting = asyncio.create_task(web.get(f"{second}{ticket['stream_url']}?wait=20"))
        story.go_on()
        response = await waiting
        assert response.status == 200
        later = await response.json()
        assert not downstream.aborted
        async with web.post(second + path, json=body) as response:
            now = await response.json()
        assert _without_names(later) == _without_names(now)

    async def test_a_stream(self, doors: Doors, downstream: Downstream, web: aiohttp.ClientSession) -> None:
        downstream.script = downstream.again = Story()
        first, second = await doors.start("t1"), await doors.start("t2")
        async with web.post(first + CHAT, json={"messages": HI, "stream": True, "background": True}) as response:
            assert response.status == 202
            ticket = await response.json()
        whole = await rest(web, second, f"{ticket['id']}:0")
        async with web.get(first + ticket["stream_url"]) as response:
            assert events(await response.read()) == whole
        assert whole[-1].endswith(b"[DONE]\n\n")

    async def test_cancelled(self, doors: Doors, downstream: Downstream, web: aiohttp.ClientSession) -> None:
        downstream.script = silent
        url = await doors.start("t")
        async with web.post(url + TEXT, json={"prompt": "a", "background": True}) as response:
            ticket = await response.json()
        waiting = asyncio.create_task(web.get(f"{url}{ticket['stream_url']}?wait=20"))
        await asyncio.sleep(0.05)
        async with web.delete(url + ticket["stream_url"]) as response:
            assert response.status == 200
        await refused(await waiting, 404)
        await downstream.until(lambda: len(downstream.aborted) == 1)

    async def test_the_writer_is_killed(self, doors: Doors, downstream: Downstream, web: aiohttp.ClientSession) -> None:
        story = downstream.script = downstream.again = Story(1)
        first, second = await doors.start("t1"), await doors.start("t2")
        async with web.post(first + TEXT, json={"prompt": "a", "background": True}) as response:
            ticket = await response.json()
        await downstream.until(lambda: bool(downstream.generates))
        await doors.kill("t1")
        story.go_on()
        async with web.get(f"{second}{ticket['stream_url']}?wait=20") as response:
            text = (await response.json())["choices"][0]["text"]
        assert text == "".join(WORDS)

    async def test_a_failure(self, doors: Doors, downstream: Downstream, web: aiohttp.ClientSession) -> None:
        from shared.protocol import Failure

        async def fail(downstream: Downstream, generate: Generate) -> None:
            await downstream.fail(generate, Failure.WORKER, "it broke")

        downstream.script = fail
        url = await doors.start("t")
        async with web.post(url + TEXT, json={"prompt": "a", "background": True}) as response:
            ticket = await response.json()
        async with web.get(f"{url}{ticket['stream_url']}?wait=20") as response:
            assert (await refused(response, 500))["message"] == "it broke"


def _without_names(answer: Any) -> Any:
    """An answer without what differs between two requests."""
    if isinstance(answer, list):
        return [_without_names(each) for each in answer]
    kept = {name: value for name, value in answer.items() if name not in ("id", "created", "e2e_latency")}
    return kept | ({"meta_info": _without_names(answer["meta_info"])} if "meta_info" in answer else {})


async def test_aborts_are_the_writers_alone(doors: Doors, downstream: Downstream, web: aiohttp.ClientSession) -> None:
    """An operator's abort ends a resumable answer as any other."""
    downstream.script = downstream.again = Story(2)
    url = await doors.start("t")
    response = await web.post(url + TEXT, json={"prompt": "a", **RESUMABLE})
    await read_events(response, 2)
    [id] = downstream.generates
    async with web.post(f"{url}/abort_request", json={"rid": f"cmpl-{id:016x}"}) as done:
        assert done.status == 200
    assert b'"finish_reason":"abort"' in await response.read()
    assert downstream.received(Abort)[0].notify
