"""Contexts on the streams' server: a plain key for each, and a sorted set for each tenant, by when they were used."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import structlog
from redis.exceptions import ResponseError

from shared.bus import Bus, Unavailable
from shared.line import Command
from shared.protocol import Release
from tokenizer_svc.api_error import ApiError, unavailable
from tokenizer_svc.contexts.budget import Held, Written, surplus
from tokenizer_svc.contexts.store import Claimed, Dropped, Kept, Name, Record
from tokenizer_svc.limits import Limits
from tokenizer_svc.metrics import Metrics

log = structlog.get_logger("contexts")

_CLAIM_S = 10  # after which a claim that nobody renews is void
_DROPPED_S = 30  # for which whoever computes a context can learn that nobody wants it
_PATIENCE_S = 5.0
_RETRY_AFTER_S = 5

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


class RedisContexts:
    """Contexts over a bus."""

    def __init__(self, bus: Bus, limits: Limits, metrics: Metrics) -> None:
        self._bus = bus
        self._key = bus.names.context
        self._limits = limits
        self._metrics = metrics
        self._written = Written(limits.context_bytes)

    async def find(self, name: Name) -> Record | None:
        data = await self._get(name)
        record = _read(data)
        if isinstance(record, Kept) and record.state is not None and data is not None:
            member = Held.member_of(name.id, len(data))
            await self._ask(
                ("EXPIRE", self._key(str(name)), self._limits.context_keep_s),
                ("ZADD", self._bus.names.contexts(name.tenant), "XX", time.time(), member),
            )
        return record

    async def claim(self, name: Name, claim: Claimed) -> Record | None:
        key, data = self._key(str(name)), _encode(claim)
        [written] = await self._ask(("SET", key, data, "NX", "EX", _CLAIM_S))
        if written is not None:
            return None
        record = await self.find(name)
        if record == claim:  # it was sent twice, since the connection was lost after the first time
            return None
        if record is None or isinstance(record, Dropped):
            await self._ask(("SET", key, data, "EX", _CLAIM_S))
            return None
        return record

    async def holds(self, name: Name, claim: Claimed) -> bool:
        found = _read(await self._get(name))
        if found is not None and found != claim:
            return False
        await self._ask(("SET", self._key(str(name)), _encode(claim), "EX", _CLAIM_S))
        return True

    async def unclaim(self, name: Name, claim: Claimed) -> None:
        try:
            [data] = await self._bus.ask(("GET", self._key(str(name))), patience=_PATIENCE_S)
            if _read(data) == claim:
                await self._bus.ask(("DEL", self._key(str(name))), patience=_PATIENCE_S)
        except (Unavailable, ResponseError) as error:
            log.warning("a claim stays until it expires", error=str(error))

    async def keep(self, name: Name, kept: Kept, seconds: int, release: Sequence[Name]) -> None:
        data = _encode(kept)
        index = self._bus.names.contexts(name.tenant)
        writes: list[Command] = [
            ("SET", self._key(str(name)), data, "EX", seconds, "GET"),
            ("ZADD", index, time.time(), Held.member_of(name.id, len(data))),
            ("EXPIRE", index, self._limits.context_keep_s),
        ]
        [before, *_] = await self._ask(*writes)
        self._metrics.contexts.inc()
        self._metrics.context_bytes.inc(len(data))
        if isinstance(_read(before), Dropped):
            release = [*release, name]
        await self.release(release)
        if self._written.is_due(name.tenant, len(data)):
            await self._audit(name.tenant)

    async def release(self, names: Sequence[Name]) -> list[bool]:
        dropped = _encode(Dropped())
        if not names:
            return []
        found = await self._ask(
            *(("SET", self._key(str(name)), dropped, "XX", "EX", _DROPPED_S, "GET") for name in names)
        )
        writes = self._bus.transaction().append(self._bus.names.requests, Release(tuple(map(str, names))))
        were_there: list[bool] = []
        for name, data in zip(names, found, strict=True):
            were_there.append(isinstance(_read(data), Kept))
            if were_there[-1]:
                writes.command("ZREM", self._bus.names.contexts(name.tenant), Held.member_of(name.id, len(data)))
        try:
            await writes.commit(_PATIENCE_S)
        except (Unavailable, ResponseError) as error:
            raise _away(error) from error
        return were_there

    async def _audit(self, tenant: str) -> None:
        """Drop what a tenant has too much of."""
        index = self._bus.names.contexts(tenant)
        [flat] = await self._ask(("ZRANGE", index, 0, -1, "WITHSCORES"))
        held = [Held(member.decode(), float(used)) for member, used in zip(flat[::2], flat[1::2], strict=True)]
        expired, oldest = surplus(held, self._limits.context_bytes, self._limits.context_keep_s, time.time())
        gone = [each.member for each in (*expired, *oldest)]
        if gone:
            await self._ask(("ZREM", index, *gone))
        if oldest:
            self._metrics.contexts_dropped.inc(len(oldest))
            log.warning("contexts of a tenant take too much: the oldest are dropped", contexts=len(oldest))
            await self.release([Name(tenant, each.id) for each in oldest])

    async def _get(self, name: Name) -> bytes | None:
        [data] = await self._ask(("GET", self._key(str(name))))
        return data

    async def _ask(self, *commands: Command) -> list[Any]:
        try:
            return await self._bus.ask(*commands, patience=_PATIENCE_S)
        except (Unavailable, ResponseError) as error:
            raise _away(error) from error


def _away(error: Exception) -> ApiError:
    return unavailable(f"contexts cannot be reached: {error}", _RETRY_AFTER_S)


def _read(data: bytes | None) -> Record | None:
    """None for nothing, and for what another release wrote."""
    try:
        return None if data is None else _decode(data)
    except msgspec.DecodeError:
        return None
