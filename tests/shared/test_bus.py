"""The bus on a real server: order, cursors, atomic writes, bad entries, and a server that comes back."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from rootstream.embedded import EmbeddedServer
from shared.bus import Bus, Reader, Unavailable
from shared.cursors import START, entry_key
from shared.protocol import Abort, Flush


@pytest.fixture
def stream(namespace: str) -> str:
    return f"{namespace}:s"


async def test_a_reader_sees_everything_once_and_in_order(bus: Bus, stream: str) -> None:
    for number in range(10):
        await bus.append(stream, Abort(id=number))
    reader = Reader(bus, [stream])
    first = await reader.next(block_ms=10)
    await bus.append(stream, Abort(id=10))
    second = await reader.next(block_ms=1000)
    assert [entry.message for entry in first + second] == [Abort(id=number) for number in range(11)]
    assert await reader.next(block_ms=10) == []


async def test_streams_come_in_the_order_they_were_named(bus: Bus, stream: str) -> None:
    await bus.append(f"{stream}2", Abort(id=1))
    await bus.append(f"{stream}1", Abort(id=2))
    entries = await Reader(bus, [f"{stream}1", f"{stream}2"]).next(block_ms=10)
    assert [entry.stream for entry in entries] == [f"{stream}1", f"{stream}2"]


async def test_a_reader_wakes_up_for_a_new_entry(bus: Bus, stream: str) -> None:
    reader = Reader(bus, [stream])
    waiting = asyncio.create_task(reader.next(block_ms=5000))
    await asyncio.sleep(0.02)
    await bus.append(stream, Abort(id=1))
    [entry] = await asyncio.wait_for(waiting, 2)
    assert entry.message == Abort(id=1)


async def test_a_transaction_writes_all_or_nothing_in_order(bus: Bus, stream: str) -> None:
    replies = (
        await bus.transaction()
        .put(f"{stream}hash", "field", b"value")
        .append(stream, Abort(id=1))
        .remove(f"{stream}hash", [])
        .commit()
    )
    assert len(replies) == 2
    assert await bus.hash(f"{stream}hash") == {"field": b"value"}
    await bus.transaction().remove(f"{stream}hash", ["field", "absent"]).commit()
    assert await bus.hash(f"{stream}hash") == {}
    assert await bus.transaction().commit() == []


async def test_a_write_that_fails_inside_a_transaction_is_raised(bus: Bus, stream: str) -> None:
    await bus.append(stream, Abort(id=1))
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await bus.transaction().append(f"{stream}2", Abort(id=2)).put(stream, "field", b"value").commit()
    await bus.append(stream, Abort(id=3))
    assert len(await bus.range(stream)) == 2


async def test_a_cancelled_read_leaves_no_reply_behind(bus: Bus, stream: str) -> None:
    reader = Reader(bus, [stream])
    waiting = asyncio.create_task(reader.next(block_ms=5000))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await bus.append(stream, Abort(id=1))
    assert [entry.message for entry in await reader.next(block_ms=1000)] == [Abort(id=1)]


async def test_a_bad_entry_is_set_aside_and_reading_goes_on(bus: Bus, stream: str) -> None:
    await bus.client.xadd(stream, {"m": b"\xffjunk"})
    await bus.client.xadd(stream, {"other": b"field"})
    await bus.append(stream, Abort(id=1))
    entries = await Reader(bus, [stream]).next(block_ms=10)
    assert [entry.message for entry in entries] == [Abort(id=1)]
    for _ in range(100):
        letters = await bus.client.xrange(bus.names.dead)
        if len(letters) == 2:
            break
        await asyncio.sleep(0.01)
    assert {letter[b"stream"] for _, letter in letters} == {stream.encode()}


async def test_trimming_keeps_what_is_still_needed(bus: Bus, stream: str) -> None:
    ids = [await bus.append(stream, Abort(id=number)) for number in range(500)]
    await bus.trim(stream, ids[400])
    left = await bus.range(stream)
    assert left[-1].id == ids[-1]
    assert ids[400] in {entry.id for entry in left}
    assert len(left) < 500
    assert await bus.last_id(stream) == ids[-1]
    assert await bus.last_id(f"{stream}none") == START


async def test_epochs_only_grow_even_without_the_counter(bus: Bus) -> None:
    first, second = await bus.next_epoch("w"), await bus.next_epoch("w")
    await bus.client.delete(f"{bus.names.epoch}:w")
    await asyncio.sleep(0.005)
    assert first < second < await bus.next_epoch("w")


def test_entry_ids_compare_as_numbers() -> None:
    assert entry_key(START) < entry_key("9-5") < entry_key("10-0") < entry_key("10-11")


async def test_writes_and_reads_survive_a_server_restart(stream: str) -> None:
    with tempfile.TemporaryDirectory(prefix="rs-") as directory:
        server = EmbeddedServer(Path(directory))
        server.start()
        bus = Bus.connect(server.url, "p")
        reader = Reader(bus, [stream])
        await bus.append(stream, Abort(id=1))
        assert len(await reader.next(block_ms=100)) == 1
        server.stop()
        write = asyncio.create_task(bus.append(stream, Abort(id=2)))
        assert await reader.next(block_ms=100) == []
        await asyncio.to_thread(server.start)
        await asyncio.wait_for(write, 10)
        seen = []
        for _ in range(20):
            seen += await reader.next(block_ms=200)
            if seen:
                break
        assert [entry.message for entry in seen] == [Abort(id=2)]
        server.stop()
        with pytest.raises(Unavailable):
            await bus.append(stream, Flush(nonce=1, reply_to="t"), patience=0.1)
        await bus.close()


async def test_plain_keys_go_by_themselves_unless_prolonged(bus: Bus) -> None:
    first, second = bus.names.grammar("1"), bus.names.grammar("2")
    assert await bus.value(first) is None
    await bus.keep(first, bytes(100_000), 50)
    assert await bus.value(first) == bytes(100_000)
    assert 45 < await bus.client.ttl(first) <= 50
    assert await bus.prolong([first, second], 500) == {second}
    assert await bus.prolong([], 500) == set()
    assert 495 < await bus.client.ttl(first) <= 500
    assert await bus.value(second) is None
