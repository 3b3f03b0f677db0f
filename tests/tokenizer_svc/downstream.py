"""The rest of the system as the front door sees it, played by the test over the real streams."""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from shared import columns
from shared.bus import Bus, Reader
from shared.config import WORKER
from shared.grammar import Compiled, Rejected, decode
from shared.metrics import exposition
from shared.protocol import (
    Abort,
    Aborted,
    AbortMany,
    Admitted,
    Failed,
    Failure,
    Finish,
    Flush,
    Flushed,
    Generate,
    Hello,
    Message,
    ModelCard,
    Pause,
    Paused,
    Resume,
    Texts,
    Track,
    Vector,
    encode,
)
from shared.registry import BEAT_S, Pulse, Registry, Role, State
from shared.scores import TokenScores, packed

CARD = ModelCard(
    model="toy",
    architecture="llama",
    dtype="float32",
    device="cpu",
    vocab_size=320,
    context_length=200,
    page_size=16,
    num_pages=100,
    max_running=64,
    chunk_tokens=256,
)
ROOMY = msgspec.structs.replace(CARD, context_length=4000, num_pages=1000, structured=True)
"""The same with grammars, and with room for what a model is told of its tools."""

Script = Callable[["Downstream", Generate], Awaitable[None]]


class Downstream:
    """Scheduler, worker and detokenizer in one: reads what is announced and answers by a script."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.script: Script = hello_world
        self.again: Script = silent  # for who asks for its text again
        self.generates: dict[int, Generate] = {}
        self.messages: list[Message] = []  # all that came on `requests` and `detok`, in order
        self.card = CARD
        self.others_waiting = 0  # requests of other front doors, as the scheduler says
        self._characters: Counter[int] = Counter()
        self._registry = Registry(bus)
        self._news = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._states = {
            (Role.SCHEDULER, "s"): State.READY,
            (Role.WORKER, WORKER): State.READY,
            (Role.DETOKENIZER, "d"): State.READY,
        }

    async def start(self) -> None:
        names = self.bus.names
        await self.bus.transaction().put(names.model, WORKER, encode(Hello(1, self.card))).commit()
        await self.beat()
        for replica in ("d", "d2"):
            self._spawn(self._follow(Reader(self.bus, [names.detok(replica)])))
        self._spawn(self._follow(Reader(self.bus, [names.requests])))
        self._spawn(self._pulse())

    async def stop(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def set_state(self, role: Role, replica: str, state: State | None) -> None:
        """Change what a process says of itself; None: it is gone."""
        if state is None:
            self._states.pop((role, replica), None)
            await self.bus.transaction().remove(self.bus.names.alive, [f"{role}:{replica}"]).commit()
        else:
            self._states[role, replica] = state
        await self.beat()

    async def beat(self) -> None:
        metrics = exposition(CollectorRegistry())
        for (role, replica), state in self._states.items():
            waiting = self.others_waiting if role is Role.SCHEDULER else 0
            await self._registry.beat(Pulse(role, replica, 1, time.time(), state, waiting=waiting), metrics)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what was received fulfils a condition."""
        async with asyncio.timeout(20), self._news:
            await self._news.wait_for(condition)

    def received(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.messages if isinstance(message, kind)]

    @property
    def aborted(self) -> set[int]:
        return {abort.id for abort in self.received(Abort)}

    # --- answers

    async def say(self, replica: str, message: Message) -> None:
        await self.bus.append(self.bus.names.texts(replica), message)

    async def admit(self, generate: Generate, cached: int = 0) -> None:
        await self.say(generate.reply_to, Admitted(columns.uint64([generate.id]), columns.int32([cached])))

    async def fail(self, generate: Generate, failure: Failure, message: str = "no") -> None:
        await self.say(generate.reply_to, Failed(generate.id, failure, message))

    async def texts(
        self,
        generate: Generate,
        *rows: tuple[int, Sequence[int], str, Finish, str | int | None],
        forced: Sequence[int] = (),
    ) -> None:
        """One Texts entry for one request; a row is (first, tokens, text, finish, matched)."""
        offsets: list[int] = []
        for row in rows:
            offsets.append(self._characters[generate.id])
            self._characters[generate.id] += len(row[2])
        message = texts(*((generate.id, *row) for row in rows), offsets=offsets, forced=forced)
        await self.say(generate.reply_to, message)

    async def texts_from_start(
        self, generate: Generate, *rows: tuple[int, Sequence[int], str, Finish, str | int | None]
    ) -> None:
        """The same for a request whose text is sent once more."""
        del self._characters[generate.id]
        await self.texts(generate, *rows)

    async def grammar(self, generate: Generate) -> Compiled:
        """What the worker does first for a constrained request: wait until its grammar is there."""
        asked = generate.sampling.grammar
        assert asked is not None
        async with asyncio.timeout(20):
            while (data := await self.bus.value(self.bus.names.grammar(asked.key))) is None:
                await asyncio.sleep(0.005)
        return decode(data)

    # --- inside

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)

    async def _pulse(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            await self.beat()

    async def _follow(self, reader: Reader) -> None:
        while True:
            for entry in await reader.next(block_ms=200):
                await self._take(entry.message)

    async def _take(self, message: Message) -> None:
        match message:
            case Generate(id) if id in self.generates:
                pass  # announced again
            case Track(again=True):
                generate = self.generates[message.id]
                self._spawn(self.again(self, msgspec.structs.replace(generate, reply_to=message.reply_to)))
            case Generate():
                self.generates[message.id] = message
                self._spawn(self._play(message))
            case Abort(id, True, why) if id in self.generates:
                await self.say(self.generates[id].reply_to, Aborted(id, why))
            case AbortMany(_, name, why):
                for generate in self.generates.values():
                    if name is None or name in generate.names:
                        await self.say(generate.reply_to, Aborted(generate.id, why))
            case Pause(nonce, reply_to, mode):
                await self.say(reply_to, Paused(nonce, mode))
            case Resume(nonce, reply_to):
                await self.say(reply_to, Paused(nonce, None))
            case Flush(nonce, reply_to):
                await self.say(reply_to, Flushed(nonce, 7))
            case _:
                pass
        async with self._news:
            self.messages.append(message)
            self._news.notify_all()

    async def _play(self, generate: Generate) -> None:
        await self.script(self, generate)


Row = tuple[int, int, Sequence[int], str, Finish, str | int | None]


def texts(*rows: Row, offsets: Sequence[int] = (), forced: Sequence[int] = ()) -> Texts:
    """A Texts entry; a row is (id, first, tokens, text, finish, matched).

    ``offsets``: where its text begins, 0 by default. ``forced``: how many of the tokens up to its end were.
    """
    ids, firsts, tokens, words, finishes, matched = zip(*rows, strict=True) if rows else ((),) * 6
    return Texts(
        ids=columns.uint64(ids),
        firsts=columns.int32(firsts),
        counts=columns.int32(len(row) for row in tokens),
        tokens=columns.int32(token for row in tokens for token in row),
        texts=tuple(words),
        finishes=columns.uint8(finishes),
        matched=tuple(matched),
        offsets=columns.int32(offsets or [0] * len(rows)),
        forced=columns.int32(forced),
    )


async def hello_world(downstream: Downstream, generate: Generate) -> None:
    """Three tokens, of which the last ends the answer and has no text."""
    await downstream.admit(generate, cached=2)
    if generate.sampling.pooling is not None or generate.sampling.scoring is not None:
        return await downstream.say(generate.reply_to, _measured(generate))
    await downstream.texts(generate, (0, [10], "Hello", Finish.NONE, None))
    await downstream.texts(generate, (1, [11], " wörld", Finish.NONE, None), (2, [2], "", Finish.STOP, 2))
    return None


def _measured(generate: Generate) -> Texts:
    """A vector, and the scores of one token as likely as any."""
    sampling = generate.sampling
    tokens = [10][: sampling.max_tokens]
    found = texts((generate.id, 0, tokens, "Hello" if tokens else "", Finish.LENGTH, None))
    if sampling.pooling is not None:
        values = array("f", [3.0, 4.0]).tobytes()
        found = msgspec.structs.replace(found, vectors=(Vector(generate.id, values),))
    if sampling.scoring is not None:
        likely = math.log(1 / 320)
        top = tuple((token, likely) for token in range(sampling.scoring.top))
        score = TokenScores(len(generate.input_ids) // 4, likely, 1, top, (likely,) * len(sampling.scoring.ids))
        found = msgspec.structs.replace(found, scores=(packed(generate.id, [score]),))
    return found


async def obedient(downstream: Downstream, generate: Generate) -> None:
    """An answer that is computed but for its first token, then waits for its grammar."""
    await downstream.admit(generate)
    if generate.sampling.grammar is not None:
        compiled = await downstream.grammar(generate)
        if isinstance(compiled, Rejected):  # the scheduler says so of a row that ended in an error
            return await downstream.fail(generate, Failure.WORKER, compiled.message)
    await downstream.texts(generate, (0, [10, 11, 2], "Hello", Finish.STOP, 2), forced=[2])
    return None


async def endless(downstream: Downstream, generate: Generate) -> None:
    """An answer that has started and goes on."""
    await downstream.admit(generate)
    await downstream.texts(generate, (0, [10], "once", Finish.NONE, None))


async def admitted_only(downstream: Downstream, generate: Generate) -> None:
    """A prompt that is being computed."""
    await downstream.admit(generate)


async def silent(downstream: Downstream, generate: Generate) -> None:
    """A request in the queue."""
