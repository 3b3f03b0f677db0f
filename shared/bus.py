"""Typed access to the streams: append, read from a cursor, trim.

Every stream entry has one field holding one encoded message. Writes are retried through a
reconnect, so delivery is at least once; readers drop duplicates by (request id, token index) or seq.
An entry that is no message goes to the `dead` stream and the reader goes on.

Knows nothing of what the messages mean; connections are in line.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import redis.asyncio as redis
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, OutOfMemoryError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared import protocol
from shared.cursors import START
from shared.line import Command, Line

log = structlog.get_logger("bus")

_FIELD = b"m"
_MULTI, _EXEC = ("MULTI",), ("EXEC",)
_PATIENCE_S = 30.0  # how long a write waits for Redis to come back
_SILENCE_S = 10.0  # without a reply that is due, a connection counts as lost
_TRANSIENT = (ConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, OutOfMemoryError)
_DEAD_LETTERS = 1000

T = TypeVar("T")


class Unavailable(RuntimeError):
    """Redis could not be reached for as long as the caller was willing to wait."""


class Entry(NamedTuple):
    """One message as read: which stream, its entry id, and the decoded message."""

    stream: str
    id: str
    message: protocol.Message


class Names:
    """Names of streams and keys, all under one prefix, so that several services can share a Redis."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.live = f"{prefix}:live"
        self.requests = f"{prefix}:requests"
        self.model = f"{prefix}:model"
        self.epoch = f"{prefix}:epoch"
        self.alive = f"{prefix}:alive"
        self.metrics = f"{prefix}:metrics"
        self.dead = f"{prefix}:dead"
        self.mark = f"{prefix}:mark"
        self.pause = f"{prefix}:pause"
        self.resumable = f"{prefix}:resumable"
        self.readers = f"{prefix}:readers"

    def plans(self, worker: str) -> str:
        return f"{self.prefix}:plans:{worker}"

    def steps(self, worker: str) -> str:
        return f"{self.prefix}:steps:{worker}"

    def detok(self, replica: str) -> str:
        return f"{self.prefix}:detok:{replica}"

    def texts(self, replica: str) -> str:
        return f"{self.prefix}:texts:{replica}"

    def grammar(self, key: str) -> str:
        return f"{self.prefix}:grammar:{key}"

    def context(self, name: str) -> str:
        return f"{self.prefix}:context:{name}"

    def contexts(self, tenant: str) -> str:
        return f"{self.prefix}:contexts:{tenant}"

    def answer(self, id: int) -> str:
        return f"{self.prefix}:answer:{id:016x}"


class Transaction:
    """Writes collected now and made together, in order and atomically, by ``await commit()``."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._commands: list[Command] = []

    def append(self, stream: str, message: Any) -> Transaction:
        """Add a message to a stream."""
        self._commands.append(("XADD", stream, "*", _FIELD, protocol.encode(message)))
        return self

    def trim(self, stream: str, min_id: str, *, exactly: bool = False) -> Transaction:
        """Forget entries before ``min_id``, which no reader needs, as the caller knows. Some stay, unless exactly."""
        self._commands.append(("XTRIM", stream, "MINID", "=" if exactly else "~", min_id))
        return self

    def expire(self, key: str, seconds: int) -> Transaction:
        """Let a key go by itself after some time without another call."""
        self._commands.append(("EXPIRE", key, seconds))
        return self

    def put(self, key: str, field: str, value: bytes) -> Transaction:
        """Set one field of a hash."""
        self._commands.append(("HSET", key, field, value))
        return self

    def remove(self, key: str, fields: Iterable[str]) -> Transaction:
        """Delete fields of a hash."""
        fields = tuple(fields)
        if fields:
            self._commands.append(("HDEL", key, *fields))
        return self

    def command(self, *parts: Any) -> Transaction:
        """Any other write."""
        self._commands.append(parts)
        return self

    def __len__(self) -> int:
        return len(self._commands)

    async def commit(self, patience: float = _PATIENCE_S) -> list[Any]:
        """Make the writes. Returns one reply per write (an entry id for an append).

        Raises Unavailable when Redis stays away for ``patience`` seconds.
        """
        if not self._commands:
            return []

        replies = await self._bus.patiently(self._attempt, patience)
        return [reply.decode() if isinstance(reply, bytes) else reply for reply in replies]

    async def _attempt(self) -> list[Any]:
        line = self._bus.writing
        if len(self._commands) == 1:
            return await line.call(self._commands)
        replies = (await line.call([_MULTI, *self._commands, _EXEC]))[-1]
        for reply in replies:
            if isinstance(reply, RedisError):
                raise reply
        return replies


class Bus:
    """Connections to one Redis-compatible server, and the names in use on it.

    One is shared by all that does not block (``writing``); every reader has one of its own.
    """

    def __init__(self, client: Any, prefix: str) -> None:
        self.client: Any = client  # redis.asyncio.Redis, whose annotations mix up bytes and text
        self.names = Names(prefix)
        self.doubted = asyncio.Event()  # set when a connection was opened, or somebody misses data: see continuity.py
        self._lines: list[Line] = []
        self.writing = self.line()

    @classmethod
    def connect(cls, url: str, prefix: str) -> Bus:
        """Open (lazily) a pool to ``redis://…``, ``rediss://…`` or ``unix:///path``."""
        client: Any = redis.Redis.from_url(
            url,
            socket_timeout=None,  # blocking reads outlast the library's default of 5 s
            socket_connect_timeout=5,
            retry=Retry(NoBackoff(), 0),  # retrying is done here, where it can be seen
            protocol=2,
            health_check_interval=0,
        )
        return cls(client, prefix)

    async def close(self) -> None:
        for line in self._lines:
            await line.close()
        await self.client.aclose()

    def line(self) -> Line:
        """A connection for one user, such as a reader that blocks."""
        line = Line(self.client.connection_pool, self.doubted.set)
        self._lines.append(line)
        return line

    async def append(self, stream: str, message: Any, patience: float = _PATIENCE_S) -> str:
        """Add one message to a stream and return its entry id."""
        [entry_id] = await self.transaction().append(stream, message).commit(patience)
        return entry_id

    def transaction(self) -> Transaction:
        return Transaction(self)

    async def ask(self, *commands: Command, patience: float = _PATIENCE_S) -> list[Any]:
        """Send commands in one write and return their replies, as they come: bytes, numbers, lists."""
        return await self.patiently(lambda: self.writing.call(commands), patience)

    async def range(self, stream: str, start: str = "-", count: int | None = None) -> list[Entry]:
        """Entries from ``start`` on, without waiting."""
        limit = () if count is None else ("COUNT", count)
        [rows] = await self.ask(("XRANGE", stream, start, "+", *limit))
        return self.decoded(stream, rows)

    async def last_id(self, stream: str) -> str:
        """The id of the newest entry, START where there is none."""
        [rows] = await self.ask(("XREVRANGE", stream, "+", "-", "COUNT", 1))
        return rows[0][0].decode() if rows else START

    async def trim(self, stream: str, min_id: str) -> None:
        """Forget entries before ``min_id``: the caller knows that no reader needs them."""
        await self.transaction().trim(stream, min_id).commit()

    async def forget(self, key: str, patience: float = _PATIENCE_S) -> None:
        """Delete a stream or hash."""
        await self.ask(("DEL", key), patience=patience)

    async def hash(self, key: str) -> dict[str, bytes]:
        """A whole hash."""
        [found] = await self.ask(("HGETALL", key))
        return pairs(found)

    async def value(self, key: str, patience: float = _PATIENCE_S) -> bytes | None:
        """What a plain key holds, None where there is nothing."""
        [found] = await self.ask(("GET", key), patience=patience)
        return found

    async def keep(self, key: str, value: bytes, seconds: int, patience: float = _PATIENCE_S) -> None:
        """Write a plain key that goes by itself after some time."""
        await self.ask(("SET", key, value, "EX", seconds), patience=patience)

    async def prolong(self, keys: Sequence[str], seconds: int, patience: float = _PATIENCE_S) -> set[str]:
        """Let plain keys stay for some time from now on; returns those that are not there."""
        commands = [("EXPIRE", key, seconds) for key in keys]
        replies = await self.ask(*commands, patience=patience) if keys else []
        return {key for key, there in zip(keys, replies, strict=True) if not there}

    async def present(self, key: str, fields: Sequence[str]) -> set[str]:
        """Which of these fields a hash has."""
        found = await self.ask(*(("HEXISTS", key, field) for field in fields)) if fields else []
        return {field for field, exists in zip(fields, found, strict=True) if exists}

    async def next_epoch(self, worker: str) -> int:
        """A number larger than any before it, even if Redis lost its data: max(counter, unix ms)."""
        field = f"{self.names.epoch}:{worker}"
        [count] = await self.ask(("INCR", field))
        epoch = max(count, time.time_ns() // 1_000_000)
        await self.ask(("SET", field, epoch))
        return epoch

    async def patiently(self, attempt: Callable[[], Awaitable[T]], patience: float = _PATIENCE_S) -> T:
        """Run ``attempt`` until Redis answers and has room; at most ``patience`` seconds, then Unavailable."""
        deadline = time.monotonic() + patience
        delay = 0.02
        why = ""
        while True:
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    return await attempt()
            except TimeoutError as error:
                raise Unavailable(f"Redis does not answer within {patience:g} s{why}") from error
            except _TRANSIENT as error:
                why = f": {error}"
                if time.monotonic() + delay > deadline:
                    raise Unavailable(f"Redis does not answer: {error}") from error
                await asyncio.sleep(delay)
                delay = min(delay * 2, 0.5)

    def decoded(self, stream: str, rows: Iterable[tuple[bytes, list[bytes]]]) -> list[Entry]:
        """Rows of a stream as messages; what is no message is set aside."""
        entries: list[Entry] = []
        for entry_id, fields in rows:
            try:
                message = protocol.decode(fields[1] if fields[0] == _FIELD else b"")
            except protocol.ProtocolError as error:
                log.error("bad entry set aside", stream=stream, entry=entry_id.decode(), error=str(error))
                task = asyncio.ensure_future(self._set_aside(stream, entry_id, fields))
                task.add_done_callback(lambda done: done.exception())
                continue
            entries.append(Entry(stream, entry_id.decode(), message))
        return entries

    async def _set_aside(self, stream: str, entry_id: bytes, fields: list[bytes]) -> None:
        letter = (*fields, "stream", stream, "entry", entry_id)
        await self.writing.call([("XADD", self.names.dead, "MAXLEN", _DEAD_LETTERS, "*", *letter)])


def pairs(flat: Sequence[bytes]) -> dict[str, bytes]:
    """A hash as it comes, fields and values in turn."""
    return {field.decode(): value for field, value in zip(flat[::2], flat[1::2], strict=True)}


class Reader:
    """Reads several streams from explicit cursors, for as long as the process lives.

    Entries of one call keep the order in which the streams were named, then their own order: name a
    stream that announces (`detok`) before the one that depends on it (`steps`).
    """

    def __init__(self, bus: Bus, streams: Iterable[str], cursors: Mapping[str, str] | None = None) -> None:
        self._bus = bus
        self._line = bus.line()
        self.cursors: dict[str, str] = dict.fromkeys(streams, START) | dict(cursors or {})
        self._order = {stream: position for position, stream in enumerate(self.cursors)}

    async def next(self, block_ms: int = 5000, only: str | None = None) -> list[Entry]:
        """New entries, or none after ``block_ms`` (0: at once). A lost connection counts as nothing new.

        With ``only`` the other streams are left alone this time.
        """
        cursors = self.cursors
        asked = cursors if only is None else {only: cursors[only]}
        wait = ("BLOCK", block_ms) if block_ms > 0 else ()
        command = ("XREAD", *wait, "STREAMS", *asked, *asked.values())
        try:
            async with asyncio.timeout(block_ms / 1000 + _SILENCE_S):
                [reply] = await self._line.call((command,))
        except TimeoutError:
            log.warning("redis is silent, reading again from the cursor")
            await self._line.close()
            return []
        except _TRANSIENT as error:
            log.warning("redis away, reading again from the cursor", error=str(error))
            await asyncio.sleep(0.1)
            return []
        except asyncio.CancelledError:
            await self._line.close()  # nobody should have to wait for the end of what blocks there
            raise
        entries: list[Entry] = []
        for stream, rows in reply or ():
            entries += self._bus.decoded(stream.decode(), rows)
        if len(cursors) > 1:
            entries.sort(key=lambda entry: self._order[entry.stream])  # stable: each stream keeps its order
        for entry in entries:
            cursors[entry.stream] = entry.id
        return entries
