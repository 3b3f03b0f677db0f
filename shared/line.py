"""One connection to a Redis-compatible server: commands leave in one write, replies come back in order.

redis-py opens it, with all of its handshakes (TLS, passwords, database numbers); what follows is hiredis on the bare
transport. Between a redis-py pipeline and that lies most of the CPU time of a process that does little
else: see "Streams" in docs/benchmarks.md. Knows nothing of streams, and does not retry.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import hiredis
from redis.asyncio.connection import DefaultParser
from redis.exceptions import ConnectionError, InvalidResponse, ReadOnlyError, RedisError

Command = tuple[Any, ...]


class Line:
    """A connection that opens itself when needed and may be shared: replies find the call they belong to.

    A call that is cancelled leaves its replies to be read and dropped; a call under way when the connection is lost
    raises ConnectionError, and nobody knows whether it took effect.
    """

    def __init__(self, pool: Any, on_open: Callable[[], None] = lambda: None) -> None:
        self._pool = pool  # redis-py's, for its settings only
        self._on_open = on_open
        self._turn = asyncio.Lock()
        self._opened: Any = None  # redis-py's connection
        self._conversation: _Conversation | None = None

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Send all, return all replies; the first reply that is an error is raised instead.

        Raises what redis-py raises. A connection that is lost is opened again by the next call.
        """
        conversation = self._conversation
        if conversation is None or conversation.lost:
            conversation = await self._open()
        replies = await conversation.send(commands)
        for reply in replies:
            if isinstance(reply, RedisError):
                if isinstance(reply, ReadOnlyError):  # a replica now: who is asked next may have a new address
                    await self.close()
                raise reply
        return replies

    async def close(self) -> None:
        """Let go of the connection: calls under way fail, the next one opens it again."""
        opened, self._opened = self._opened, None
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            conversation.end("closed")
        if opened is not None:
            await opened.disconnect(nowait=True)

    async def _open(self) -> _Conversation:
        async with self._turn:
            if self._conversation is not None and not self._conversation.lost:
                return self._conversation  # by another call, meanwhile
            await self.close()
            opened = self._pool.make_connection()
            try:
                await opened.connect()
            except BaseException:  # also when cancelled
                await opened.disconnect(nowait=True)
                raise
            transport = opened._writer.transport  # noqa: SLF001 - there is no public way to a transport
            conversation = _Conversation(transport)
            transport.set_protocol(conversation)  # all replies of the handshake are read, none is under way
            self._opened, self._conversation = opened, conversation
            self._on_open()
            return conversation


class _Call(NamedTuple):
    future: asyncio.Future[list[Any]]
    wanted: int  # replies


class _Conversation(asyncio.Protocol):
    """An open transport, and the calls that wait for replies on it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.lost = False
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._parser = hiredis.Reader(protocolError=InvalidResponse, replyError=DefaultParser.parse_error)
        self._calls: deque[_Call] = deque()
        self._replies: list[Any] = []

    def send(self, commands: Sequence[Command]) -> asyncio.Future[list[Any]]:
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self._calls.append(_Call(future, len(commands)))
        packed = [hiredis.pack_command(command) for command in commands]
        self._transport.write(packed[0] if len(packed) == 1 else b"".join(packed))
        return future

    def end(self, why: str) -> None:
        """Close, and fail the calls under way."""
        self.lost = True
        self._transport.abort()
        calls, self._calls = self._calls, deque()
        for call in calls:
            if not call.future.done():
                call.future.set_exception(ConnectionError(f"Connection {why}"))

    def data_received(self, data: bytes) -> None:
        parser, replies = self._parser, self._replies
        parser.feed(data)
        try:
            while (reply := parser.gets()) is not False:  # False: not all of it is here yet
                replies.append(reply)
                call = self._calls[0]
                if len(replies) == call.wanted:
                    self._calls.popleft()
                    self._replies = []
                    if not call.future.done():
                        call.future.set_result(replies)
                    replies = self._replies
        except (InvalidResponse, IndexError) as error:  # no Redis, or more replies than were asked for
            self.end(f"is not understood: {error!r}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(f"lost: {exc or 'closed by the server'}")
