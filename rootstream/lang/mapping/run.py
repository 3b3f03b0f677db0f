"""Runs one program over many items: as many at once as are asked for, whatever their number.

A worker for each place takes the next item, runs it and hands it on; nobody gets further ahead than whoever takes the
results. Knows nothing of states beyond what an Item needs, and nothing of how a program runs.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sized
from contextlib import ExitStack, aclosing
from contextvars import Context
from pathlib import Path
from typing import Any, NamedTuple

from rootstream.lang.calls import Backend, Call, CallError
from rootstream.lang.mapping.items import Finished, Item
from rootstream.lang.mapping.journal import Journal
from rootstream.lang.mapping.keys import Keys
from rootstream.lang.mapping.progress import Progressing
from rootstream.lang.mapping.warming import PEEKED, Grouped, first_call, warm
from rootstream.lang.tracing.observing import traced_context, unobserved

CONCURRENCY = 64


class Mapped(NamedTuple):
    """What runs for each item."""

    name: str
    body: Callable[..., Any]  # of whose source a resume file takes note
    run: Callable[[Backend, int, Any], Awaitable[Finished]]  # an item by its number, and as it was given
    options: dict[str, Any]  # that change what comes out


class Wish(NamedTuple):
    """How to go about it."""

    concurrency: int = CONCURRENCY
    progress: bool = False
    resume: Path | None = None
    key: Callable[[Any], str] | None = None
    warm: bool = True
    trace: str | Path | None = None


class _Task(NamedTuple):
    """An item that is to run, or has run before."""

    number: int
    args: Any
    key: str | None


Given = Iterable[Any] | AsyncIterable[Any]


async def amap_iter(mapped: Mapped, items: Given, backend: Backend, wish: Wish) -> AsyncGenerator[Item]:
    """Items as they are done. Of an iterator only a few more are taken than have been handed on.

    Raises UserError for a resume file that cannot be used, and whatever the iterator raises.
    """
    if wish.concurrency < 1:
        raise ValueError(f"concurrency is the number of items at once, not {wish.concurrency}")
    total = len(items) if isinstance(items, Sized) else None
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(wish.resume)) if wish.resume is not None else None
        progress = stack.enter_context(Progressing(mapped.name, total, shown=wish.progress))
        context = stack.enter_context(traced_context(wish.trace))
        running = _Running(
            mapped, _taken(items, Keys(mapped.body, mapped.options, wish.key), journal), backend, journal
        )
        async with aclosing(running.items(wish, total, context)) as done:
            async for item in done:
                progress.add(item)
                yield item


class _Running:
    """One map under way."""

    def __init__(self, mapped: Mapped, tasks: AsyncIterator[_Task], backend: Backend, journal: Journal | None) -> None:
        self._mapped = mapped
        self._tasks = tasks
        self._turn = asyncio.Lock()  # whose turn it is to take the next
        self._peeked: list[_Task] = []
        self._group = uuid.uuid4().hex
        self._own = backend
        self._backend = Grouped(backend, self._group)
        self._journal = journal

    async def items(self, wish: Wish, total: int | None, context: Context) -> AsyncGenerator[Item]:
        warmed = await self._warmed() if wish.warm and total != 1 else None
        workers = min(wish.concurrency, total) if total is not None else wish.concurrency
        done: asyncio.Queue[Item | BaseException | None] = asyncio.Queue(workers)
        working: list[asyncio.Task[None]] = []
        try:
            working += [context.run(asyncio.create_task, self._work(done)) for _ in range(workers)]
            left = workers
            while left:
                match await done.get():
                    case None:
                        left -= 1
                    case Item() as item:
                        yield item
                    case error:
                        raise error
        finally:
            for worker in working:
                worker.cancel()
            await asyncio.gather(*working, return_exceptions=True)
            if warmed is not None:
                await self._own.release([warmed])

    async def _warmed(self) -> str | None:
        """Look at the first items, and have computed what they share."""
        while len(self._peeked) < PEEKED and (task := await anext(self._tasks, None)) is not None:
            self._peeked.append(task)
        fresh = [task for task in self._peeked if self._journal is None or (task.key or "") not in self._journal]
        calls: list[Call] = []
        with unobserved():
            for task in fresh:
                call = await first_call(lambda backend, task=task: self._mapped.run(backend, task.number, task.args))
                calls += [call] if call is not None else []
        return await warm(self._own, self._group, calls) if len(calls) == len(fresh) else None

    async def _work(self, done: asyncio.Queue[Item | BaseException | None]) -> None:
        try:
            while (task := await self._next()) is not None:
                await done.put(await self._one(task))
            await done.put(None)
        except Exception as error:  # noqa: BLE001 - it is raised where the items are taken
            await done.put(error)

    async def _next(self) -> _Task | None:
        async with self._turn:
            return self._peeked.pop(0) if self._peeked else await anext(self._tasks, None)

    async def _one(self, task: _Task) -> Item:
        index, args, key = task
        if self._journal is not None and key is not None and (known := self._journal.item(key, index, args)):
            return known
        began = time.perf_counter()
        try:
            state = await self._mapped.run(self._backend, index, args)
        except asyncio.CancelledError:
            if (running := asyncio.current_task()) is not None and running.cancelling():
                raise
            error: Exception = CallError("the program was cancelled by its own body")
            item = Item(index=index, args=args, error=error, seconds=time.perf_counter() - began)
        except Exception as error:  # noqa: BLE001 - an item's fault is the item's
            item = Item(index=index, args=args, error=error, seconds=time.perf_counter() - began)
        else:
            seconds = time.perf_counter() - began
            item = Item(index=index, args=args, state=state, seconds=seconds, usage=state.usage)
        if self._journal is not None and key is not None:
            self._journal.add(key, item)
        return item


async def _taken(items: Given, keys: Keys, journal: Journal | None) -> AsyncIterator[_Task]:
    index = 0
    async for args in _each(items):
        yield _Task(index, args, keys.of(args) if journal is not None else None)
        index += 1


async def _each(items: Given) -> AsyncIterator[Any]:
    if isinstance(items, AsyncIterable):
        async for args in items:
            yield args
    else:
        for args in items:
            yield args
