"""Logs on a real server: places in order, one writer at a time, nothing lost and nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from shared.bus import Bus
from tokenizer_svc.resumable.entries import (
    BEFORE_ALL,
    FIRST,
    GONE,
    Announced,
    Claim,
    End,
    Gone,
    LoggedPiece,
    Owner,
    Place,
    Placed,
    Progress,
    Record,
    Started,
    encode,
)
from tokenizer_svc.resumable.log import Appended
from tokenizer_svc.resumable.service import RedisLogs
from tokenizer_svc.resumable.writer import next_term

ID = 0x5FEDCBA987654321
OWNER = Owner("t1", 1)
RECORD = Record(
    answer_id=f"cmpl-{ID:016x}",
    path="/v1/completions",
    body=b"{}",
    tenant="",
    client="",
    owner=OWNER,
    detokenizer="d",
    model="toy",
    arrived=1.0,
    stream=True,
    background=False,
    shares_id=True,
    grace_s=60,
    keep_s=600,
    sequences=(Announced(ID, 0, 3, b"", b""),),
)


def said(text: str) -> Progress:
    return Progress(2.0, (LoggedPiece(0, text, b"\n\0\0\0", 0, None, 1, 0, 0),))


@pytest_asyncio.fixture
async def logs(bus: Bus) -> AsyncIterator[RedisLogs]:
    logs = RedisLogs(bus)
    writes = bus.transaction()
    logs.announce(writes, RECORD)
    await writes.commit()
    yield logs


async def write(logs: RedisLogs, texts: Sequence[str], place: Place, length: int) -> Place:
    for text in texts:
        place, length = place.next, length + 1
        assert await logs.append(ID, Placed(place, said(text)), length) is Appended.DONE
    return place


async def test_read_in_pages(logs: RedisLogs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenizer_svc.resumable.service._PAGE", 7)
    words = [str(number) for number in range(30)]
    await write(logs, words, FIRST, 1)
    whole = await logs.read(ID, BEFORE_ALL)
    assert whole == [Placed(FIRST, RECORD), *(Placed(Place(1, 1 + n), said(word)) for n, word in enumerate(words))]
    for position in range(len(whole)):
        assert await logs.read(ID, whole[position].place) == whole[position + 1 :]
    assert await logs.read(7, BEFORE_ALL) == []


async def test_followed(logs: RedisLogs) -> None:
    place = await write(logs, ["a"], FIRST, 1)
    assert await logs.follow({ID: FIRST, 7: BEFORE_ALL}) == {ID: [Placed(place, said("a"))]}
    waiting = asyncio.create_task(logs.follow({ID: place}))
    await asyncio.sleep(0.02)
    await write(logs, ["b"], place, 2)
    assert await waiting == {ID: [Placed(place.next, said("b"))]}


async def test_one_of_many_takes_over(logs: RedisLogs) -> None:
    """And the writer before it can append no more, though it has not noticed."""
    place = await write(logs, ["a", "b"], FIRST, 1)
    claims = [Placed(next_term(place), Claim(Owner("t", number), "d")) for number in range(10)]
    won = await asyncio.gather(*(logs.claim(ID, claim) for claim in claims))
    assert won.count(True) == 1
    [*_, last] = await logs.read(ID, BEFORE_ALL)
    assert last == claims[won.index(True)]
    assert await logs.append(ID, Placed(place.next, said("c")), 4) is Appended.FENCED
    assert await write(logs, ["c"], last.place, 4) == Place(2, 1)


async def test_claimed_while_the_writer_goes_on(logs: RedisLogs) -> None:
    """What it appended before the claim stands."""
    place = await write(logs, ["a"], FIRST, 1)
    await write(logs, ["b"], place, 2)
    claim = Placed(next_term(place), Claim(OWNER, "d"))
    assert await logs.claim(ID, claim)
    assert [placed.entry for placed in await logs.read(ID, place)] == [said("b"), claim.entry]


async def test_sent_twice(logs: RedisLogs) -> None:
    """The connection is lost between writing and reply: who sends again has written once."""
    placed = Placed(FIRST.next, said("a"))
    assert await logs.append(ID, placed, 2) is Appended.DONE
    assert await logs.append(ID, placed, 2) is Appended.DONE
    claim = Placed(next_term(placed.place), Claim(OWNER, "d"))
    assert await logs.claim(ID, claim)
    assert await logs.claim(ID, claim)
    assert len(await logs.read(ID, BEFORE_ALL)) == 3


async def test_lost_and_restored(logs: RedisLogs, bus: Bus) -> None:
    place = await write(logs, ["a", "b", "c"], FIRST, 1)
    whole = await logs.read(ID, BEFORE_ALL)
    await bus.ask(("XDEL", bus.names.answer(ID), str(place)))
    whole.append(Placed(place.next, said("d")))
    assert await logs.append(ID, whole[-1], len(whole)) is Appended.LOST
    await logs.restore(ID, whole, 60)
    assert await logs.read(ID, BEFORE_ALL) == whole
    await bus.ask(("DEL", bus.names.answer(ID)))
    whole.append(Placed(whole[-1].place.next, End(3.0)))
    assert await logs.append(ID, whole[-1], len(whole)) is Appended.LOST
    assert await logs.missing([ID]) == {ID}
    await logs.restore(ID, whole, 60)
    assert await logs.read(ID, BEFORE_ALL) == whole
    assert await logs.missing([ID]) == set()


async def test_deleted(logs: RedisLogs) -> None:
    place = await write(logs, ["a"], FIRST, 1)
    await logs.own(ID, OWNER)
    await logs.delete(ID, Placed(GONE, Gone()))
    assert await logs.append(ID, Placed(place.next, said("b")), 3) is Appended.FENCED
    assert not await logs.claim(ID, Placed(next_term(place), Claim(OWNER, "d")))
    assert await logs.owned() == {}
    assert await logs.read(ID, BEFORE_ALL) == [Placed(GONE, Gone())]


async def test_who_writes_and_who_reads(logs: RedisLogs, bus: Bus) -> None:
    assert await logs.owned() == {ID: OWNER}
    await logs.own(ID, Owner("t2", 7))
    assert await logs.owned() == {ID: Owner("t2", 7)}
    assert await logs.last_read(ID) == 0
    await logs.note_readers([ID], 12.5)
    assert await logs.last_read(ID) == 12.5
    await logs.close(ID, 60)
    assert await logs.owned() == {}
    assert await bus.hash(bus.names.readers) == {}
    [left] = await bus.ask(("TTL", bus.names.answer(ID)))
    assert 0 < left <= 60


async def test_a_full_server(logs: RedisLogs, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits until writes are taken again."""
    monkeypatch.setattr("tokenizer_svc.resumable.service._FULL_S", 0.01)
    [_, before] = (await bus.ask(("CONFIG", "GET", "maxmemory")))[0]
    await bus.ask(("CONFIG", "SET", "maxmemory", 1))
    try:
        waiting = asyncio.create_task(logs.append(ID, Placed(FIRST.next, Started(1.0)), 2))
        await asyncio.sleep(0.05)
        assert not waiting.done()
    finally:
        await bus.ask(("CONFIG", "SET", "maxmemory", before))
    assert await waiting is Appended.DONE


async def test_an_entry_of_another_release(logs: RedisLogs, bus: Bus) -> None:
    """What comes before it can be read."""
    await write(logs, ["a"], FIRST, 1)
    await bus.ask(
        ("XADD", bus.names.answer(ID), "1-2", "m", b"\x91\xcc\xff"),
        ("XADD", bus.names.answer(ID), "1-3", "m", encode(End(1.0))),
    )
    assert [placed.entry for placed in await logs.read(ID, FIRST)] == [said("a")]
