"""The logs of answers on the streams' server: one stream per answer, and two hashes over all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from redis.exceptions import RedisError, ResponseError

from shared.bus import Bus, Transaction, Unavailable
from shared.line import Command
from tokenizer_svc.api_error import ApiError, unavailable
from tokenizer_svc.resumable.entries import (
    BEFORE_ALL,
    FIRST,
    Entry,
    Owner,
    Place,
    Placed,
    Record,
    Unreadable,
    decode,
    decode_owner,
    encode,
)
from tokenizer_svc.resumable.log import Appended

log = structlog.get_logger("resumable")

_FIELD = b"m"
_PAGE = 500  # entries read at once
_FOLLOW_MS = 100  # how long who starts to follow a log may wait for its turn
_PATIENCE_S = 5.0
_RETRY_AFTER_S = 5
_FOREVER_S = 1e9
_FULL_S = 0.5  # between attempts while the server takes no writes
_TOMBSTONE_S = 3600  # how long a writer may be stopped and still learn that its log was deleted


class RedisLogs:
    """Logs over a bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._names = bus.names
        self._line = bus.line()

    def announce(self, writes: Transaction, record: Record) -> None:
        """Begin a log together with what its request is announced by."""
        key = self._names.answer(record.id)
        writes.command("XADD", key, str(FIRST), _FIELD, encode(record))
        writes.command("EXPIRE", key, record.keep_s)
        writes.put(self._names.resumable, f"{record.id:016x}", encode(record.owner))

    async def read(self, id: int, after: Place) -> list[Placed]:
        found: list[Placed] = []
        start = after
        while True:
            command = ("XRANGE", self._names.answer(id), f"({start}", "+", "COUNT", _PAGE)
            [rows] = await self._ask(command)
            found += _placed(rows)
            if len(rows) < _PAGE:
                return found
            start = Place.parse(rows[-1][0].decode())

    async def append(self, id: int, placed: Placed, length: int) -> Appended:
        key = self._names.answer(id)
        add = ("XADD", key, "NOMKSTREAM", str(placed.place), _FIELD, encode(placed.entry))
        while True:
            try:
                [written, count] = await self._bus.ask(add, ("XLEN", key), patience=_FOREVER_S)
                break
            except ResponseError as error:
                if _is_behind(error):  # or it was sent twice, since the connection was lost after the first time
                    return Appended.DONE if await self._top(key) == placed.place else Appended.FENCED
                log.warning("the server takes no writes, trying again", error=str(error))
                await asyncio.sleep(_FULL_S)
        return Appended.LOST if written is None or count != length else Appended.DONE

    async def claim(self, id: int, placed: Placed) -> bool:
        key = self._names.answer(id)
        add = ("XADD", key, "NOMKSTREAM", str(placed.place), _FIELD, encode(placed.entry))
        try:
            [written] = await self._ask(add)
        except ResponseError as error:
            if not _is_behind(error):
                raise
            [rows] = await self._ask(("XREVRANGE", key, "+", "-", "COUNT", 1))
            return _placed(rows) == [placed]
        return written is not None

    async def restore(self, id: int, entries: Sequence[Placed], seconds: int) -> None:
        key = self._names.answer(id)
        writes = self._bus.transaction().command("DEL", key)
        for place, entry in entries:
            writes.command("XADD", key, str(place), _FIELD, encode(entry))
        await self._surely(writes.expire(key, seconds))

    async def close(self, id: int, seconds: int) -> None:
        field = f"{id:016x}"
        writes = self._bus.transaction().expire(self._names.answer(id), seconds)
        await self._surely(writes.remove(self._names.resumable, [field]).remove(self._names.readers, [field]))

    async def delete(self, id: int, placed: Placed) -> None:
        key, field = self._names.answer(id), f"{id:016x}"
        writes = self._bus.transaction()
        writes.command("DEL", key)
        writes.command("XADD", key, str(placed.place), _FIELD, encode(placed.entry))
        writes.expire(key, _TOMBSTONE_S)
        await self._commit(writes.remove(self._names.resumable, [field]).remove(self._names.readers, [field]))

    async def prolong(self, ids: Sequence[int], seconds: int) -> None:
        if ids:
            await self._ask(*(("EXPIRE", self._names.answer(id), seconds) for id in ids))

    def doubt(self) -> None:
        self._bus.doubted.set()

    async def missing(self, ids: Sequence[int]) -> set[int]:
        found = await self._ask(*(("EXISTS", self._names.answer(id)) for id in ids)) if ids else []
        return {id for id, exists in zip(ids, found, strict=True) if not exists}

    async def follow(self, cursors: Mapping[int, Place]) -> dict[int, list[Placed]]:
        ids = {self._names.answer(id): id for id in cursors}
        places = [str(place) for place in cursors.values()]
        command = ("XREAD", "COUNT", _PAGE, "BLOCK", _FOLLOW_MS, "STREAMS", *ids, *places)
        try:
            [reply] = await self._line.call((command,))
        except RedisError as error:
            log.warning("redis away, following again from the cursors", error=str(error))
            await asyncio.sleep(_FOLLOW_MS / 1000)
            return {}
        return {ids[key.decode()]: _placed(rows) for key, rows in reply or ()}

    async def own(self, id: int, owner: Owner) -> None:
        await self._surely(self._bus.transaction().put(self._names.resumable, f"{id:016x}", encode(owner)))

    async def owned(self) -> dict[int, Owner]:
        found: dict[int, Owner] = {}
        [flat] = await self._ask(("HGETALL", self._names.resumable))
        for field, value in zip(flat[::2], flat[1::2], strict=True):
            try:
                found[int(field, 16)] = decode_owner(value)
            except Unreadable:  # written by another release
                continue
        return found

    async def note_readers(self, ids: Sequence[int], now: float) -> None:
        writes = self._bus.transaction()
        for id in ids:
            writes.put(self._names.readers, f"{id:016x}", str(now).encode())
        await self._commit(writes)

    async def last_read(self, id: int) -> float:
        [found] = await self._ask(("HGET", self._names.readers, f"{id:016x}"))
        return float(found or 0)

    async def _ask(self, *commands: Command) -> list[Any]:
        try:
            return await self._bus.ask(*commands, patience=_PATIENCE_S)
        except Unavailable as error:
            raise _away() from error

    async def _commit(self, writes: Transaction) -> None:
        try:
            await writes.commit(_PATIENCE_S)
        except Unavailable as error:
            raise _away() from error

    async def _surely(self, writes: Transaction) -> None:
        while True:
            try:
                await writes.commit(_FOREVER_S)
                return
            except RedisError as error:
                log.warning("the server takes no writes, trying again", error=str(error))
                await asyncio.sleep(_FULL_S)

    async def _top(self, key: str) -> Place:
        [rows] = await self._bus.ask(("XREVRANGE", key, "+", "-", "COUNT", 1), patience=_FOREVER_S)
        return Place.parse(rows[0][0].decode()) if rows else BEFORE_ALL


def _away() -> ApiError:
    return unavailable("the streams cannot be reached: try again in a few seconds", _RETRY_AFTER_S)


def _is_behind(error: ResponseError) -> bool:
    """Whether an entry was refused because its id is not beyond the last one."""
    return "equal or smaller" in str(error)


def _placed(rows: Sequence[Any]) -> list[Placed]:
    found: list[Placed] = []
    for entry_id, fields in rows:
        try:
            entry: Entry = decode(fields[1])
        except Unreadable as error:
            log.error("an entry that cannot be read ends its log", entry=entry_id.decode(), error=str(error))
            break
        found.append(Placed(Place.parse(entry_id.decode()), entry))
    return found
