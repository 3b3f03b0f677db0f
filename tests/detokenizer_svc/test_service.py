"""The detokenizer process's loop on a real server: what it writes, and that a restart repeats it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from detokenizer_svc import service
from shared.bus import Bus
from shared.config import WORKER, Settings
from shared.protocol import Abort, Finish, Opened, Step, Texts, Track
from shared.registry import Role
from shared.service import Context
from tests.detokenizer_svc.log import Row, Text, rows, step, track
from tests.toy import make_toy_model, toy_tokenizer

REPLICA = "detokenizer-0"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("toy"))


@contextlib.asynccontextmanager
async def running(bus: Bus, model: Path, cache: Path) -> AsyncGenerator[Context]:
    """A detokenizer that dies without any goodbye when the block ends."""
    settings = Settings(model=str(model), replica=REPLICA, cache_dir=cache)
    context = Context(Role.DETOKENIZER, settings, bus)
    task = asyncio.create_task(service.serve(context))
    try:
        yield context
    finally:
        task.cancel()
        await context.cancel_tasks()
        await asyncio.gather(task, return_exceptions=True)
        assert context.failure is None


async def eventually(question: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await question():
            await asyncio.sleep(0.02)


async def texts(bus: Bus, replica: str = "t") -> list[Text]:
    entries = await bus.range(bus.names.texts(replica))
    return [row for entry in entries if isinstance(entry.message, Texts) for row in rows(entry.message)]


async def write_steps(bus: Bus, steps: Iterable[Step | Opened]) -> None:
    for message in steps:
        await bus.append(bus.names.steps(WORKER), message)


async def test_tracks_then_tokens_then_text(bus: Bus, model: Path, tmp_path: Path) -> None:
    ids = toy_tokenizer().encode("the quick brown fox\nand more").ids
    request = track(7, stop=("\nand",))
    async with running(bus, model, tmp_path):
        await bus.append(bus.names.detok(REPLICA), request)
        await write_steps(bus, [Opened(epoch=1, incarnation=1)])
        await write_steps(bus, (step(Row(7, first, [token])) for first, token in enumerate(ids)))

        async def done() -> bool:
            return any(row.finish is not Finish.NONE for row in await texts(bus))

        await eventually(done)
    found = await texts(bus)
    assert "".join(row.text for row in found) == "the quick brown fox"
    assert (found[-1].finish, found[-1].matched) == (Finish.STOP, "\nand")
    assert [entry.message for entry in await bus.range(bus.names.requests)] == [Abort(id=7)]


async def test_a_restart_in_the_middle_repeats_the_same_rows(bus: Bus, model: Path, tmp_path: Path) -> None:
    rng = random.Random(1)
    tokenizer = toy_tokenizer()
    contents = {i: tokenizer.encode(f"request {i} says: the lazy dog, é 世界 {i * 77}").ids for i in range(1, 9)}
    steps: list[Step] = []
    position = dict.fromkeys(contents, 0)
    while open_ids := [i for i in contents if position[i] < len(contents[i])]:
        cells: list[Row] = []
        for i in rng.sample(open_ids, rng.randint(1, len(open_ids))):
            first, end = position[i], min(len(contents[i]), position[i] + rng.randint(1, 3))
            finish = Finish.LENGTH if end == len(contents[i]) else Finish.NONE
            cells.append(Row(i, first, contents[i][first:end], finish))
            position[i] = end
        steps.append(step(*cells))
    writes = bus.transaction()
    for i in contents:
        writes.append(bus.names.detok(REPLICA), track(i))
    await writes.commit()

    half = len(steps) // 2
    async with running(bus, model, tmp_path):
        await write_steps(bus, steps[:half])

        async def begun() -> bool:
            return len(await texts(bus)) > 4

        await eventually(begun)
    before = await texts(bus)
    await write_steps(bus, steps[half:])
    async with running(bus, model, tmp_path):

        async def finished() -> bool:
            return {row.id for row in await texts(bus) if row.finish is Finish.LENGTH} == set(contents)

        await eventually(finished)

    everything = await texts(bus)
    again = everything[len(before) :]
    assert set(before) <= set(again)
    for i, ids in contents.items():
        mine = sorted({row for row in everything if row.id == i}, key=lambda row: row.first)
        assert [token for row in mine for token in row.tokens] == ids
        assert "".join(row.text for row in mine) == tokenizer.decode(ids)


async def test_finished_requests_free_their_log(
    bus: Bus, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_TRIM_S", 0.02)
    monkeypatch.setattr(service, "_SWEEP_S", 0.05)
    async with running(bus, model, tmp_path) as context:
        await (
            bus.transaction()
            .put(bus.names.live, "2", b"")
            .append(bus.names.detok(REPLICA), track(1))
            .append(bus.names.detok(REPLICA), track(2))
            .commit()
        )
        await write_steps(bus, [step(Row(1, 0, [70]), Row(2, 0, [70]))])

        async def text_of_both() -> bool:
            return {row.id for row in await texts(bus)} == {1, 2}

        await eventually(text_of_both)
        await bus.transaction().remove(bus.names.live, ["1"]).commit()  # without a word in the log
        last = await bus.append(bus.names.steps(WORKER), step(Row(2, 1, [71], Finish.LENGTH)))

        async def free() -> bool:
            return context.watermark == last

        await eventually(free)


async def test_the_watermark_stays_where_an_unfinished_request_began(
    bus: Bus, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_TRIM_S", 0.02)
    detok, steps = bus.names.detok(REPLICA), bus.names.steps(WORKER)
    async with running(bus, model, tmp_path) as context:
        begin = await bus.append(steps, step(Row(5, 0, [70])))

        async def seen(watermark: str) -> bool:
            return context.watermark == watermark

        await eventually(lambda: seen(begin))
        tracks: list[Track] = [track(1), track(2)]
        for each in tracks:
            await bus.append(detok, each)
        last = await bus.append(steps, step(Row(1, 0, [70]), Row(2, 0, [70], Finish.LENGTH)))

        async def both() -> bool:
            return len(await texts(bus)) == 2

        await eventually(both)
        assert context.watermark == begin
        ended = await bus.append(steps, step(Row(1, 1, [70], Finish.LENGTH)))
        await eventually(lambda: seen(ended))
        assert last != ended
