"""Responses that are kept: found, folded, and continued. Knows logs of answers, and nothing of HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tokenizer_svc.answers import Answer
from tokenizer_svc.api_error import ApiError, invalid
from tokenizer_svc.engine import Engine
from tokenizer_svc.responses_api.answers import ResponseAnswers
from tokenizer_svc.responses_api.items import REFERENCE, Item, items_of
from tokenizer_svc.responses_api.kept import listed, read_kept, response_of
from tokenizer_svc.responses_api.shapes import Response
from tokenizer_svc.resumable.entries import End
from tokenizer_svc.resumable.fold import Fold, error_of
from tokenizer_svc.resumable.resumables import Resumables
from tokenizer_svc.resumable.tail import Tail
from tokenizer_svc.resuming import rendering_of

_NOT_FOUND = 404
_UNFINISHED = ("queued", "in_progress", "failed")


class Stored(NamedTuple):
    """A response as of now, and all that went into it."""

    response: Response
    input: list[Item]
    answer: Answer

    @property
    def conversation(self) -> list[Item]:
        return [*self.input, *(msgspec.to_builtins(item) for item in self.response.output)]


class StoredResponses:
    """The responses of all tenants. Methods raise ApiError 503 where the logs cannot be reached."""

    def __init__(self, engine: Engine, resumables: Resumables) -> None:
        self._engine = engine
        self._resumables = resumables

    async def find(self, id: str, tenant: str) -> Tail:
        """The log of a tenant's response. Raises ApiError 404."""
        try:
            if not id.startswith(ResponseAnswers.prefix):
                raise _missing(id, self._engine.limits.response_keep_s)
            tail = await self._resumables.find(id, tenant)
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise
            raise _missing(id, self._engine.limits.response_keep_s) from error
        await self._resumables.refresh(tail)
        return tail

    def read(self, tail: Tail) -> Stored:
        """What a log says by now."""
        fold = Fold(tail.record)
        rendering, _ = rendering_of(fold, self._engine)
        assert isinstance(rendering, ResponseAnswers)
        for placed in tail.entries:
            for piece in fold.take(placed.entry):
                rendering.piece(piece)
        match fold.ended:
            case End(fault=fault) if fault is not None:
                rendering.fail(error_of(fault))
            case _:
                pass
        is_queued = not fold.is_started and fold.ended is None
        kept = read_kept(msgspec.json.decode(tail.record.body))
        own = items_of(kept.request["input"], self._engine.limits)
        items = [*kept.history, *listed(own, tail.record.answer_id)]
        return Stored(rendering.response("queued" if is_queued else None), items, fold.answer)

    async def history(self, previous: str | None, tenant: str) -> list[Item]:
        """The conversation that a response ended. Raises ApiError 400 where there is none to continue."""
        if previous is None:
            return []
        try:
            stored = self.read(await self.find(previous, tenant))
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise
            message = f"previous_response_id: {error.body.message}"
            raise invalid(message, "previous_response_id", "previous_response_not_found") from error
        if stored.response.status in _UNFINISHED:
            message = f"{previous} is {stored.response.status}: only a response that has ended can be continued"
            raise invalid(message, "previous_response_id", "previous_response_not_complete")
        return stored.conversation

    async def resolved(self, items: Sequence[Item], tenant: str) -> list[Item]:
        """The items with those in the place of references that are meant. Raises ApiError 404."""
        return [await self._item(item, index, tenant) for index, item in enumerate(items)]

    async def _item(self, item: Item, index: int, tenant: str) -> Item:
        if item["type"] != REFERENCE:
            return item
        id = str(item.get("id"))[:100]
        if (answer_id := response_of(id)) is not None:
            for candidate in self.read(await self.find(answer_id, tenant)).conversation:
                if candidate["id"] == id:
                    return candidate
        path = f"input[{index}].id"
        raise ApiError(_NOT_FOUND, f"{path}: there is no item {id!r} of yours here", param=path, code="not_found")


def _missing(id: str, keep_s: int) -> ApiError:
    kept = f"responses are kept for {keep_s} s unless store is false" if keep_s else "this server keeps no responses"
    return ApiError(_NOT_FOUND, f"Response with id {id[:100]!r} not found: {kept}", code="not_found")
