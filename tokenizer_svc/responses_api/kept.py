"""What is kept of a response beside its text: the request, and the conversation that it continues.

The conversation is kept whole with each response: one that was kept goes on though those before it are forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from tokenizer_svc.responses_api.items import Item

_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}
_ITEM_ID = re.compile(r"[a-z]+_(?P<response>[0-9a-f]{16})i?[0-9a-f]{4}")


class Kept(msgspec.Struct, frozen=True):
    """The body of a request as it is kept."""

    request: dict[str, Any]
    history: list[Item]


def read_kept(body: dict[str, Any]) -> Kept:
    """Inverse of :func:`as_kept`."""
    return msgspec.convert(body, Kept)


def as_kept(request: dict[str, Any], history: Sequence[Item]) -> dict[str, Any]:
    """A body to be kept."""
    return {"request": request, "history": list(history)}


def response_of(item_id: str) -> str | None:
    """The id of the response that an item belongs to, None where it is of none that was made here."""
    found = _ITEM_ID.fullmatch(item_id)
    return None if found is None else f"resp_{found['response']}"


def listed(items: Sequence[Item], answer_id: str) -> list[Item]:
    """Input items as they are listed: each with an id, messages with parts."""
    unique = answer_id.removeprefix("resp_")
    return [_listed(item, f"{unique}i{index:04x}") for index, item in enumerate(items)]


def _listed(item: Item, unique: str) -> Item:
    kind = item["type"]
    found: Item = {"id": f"{_PREFIXES.get(kind, 'item')}_{unique}", "status": "completed"}
    found |= {name: value for name, value in item.items() if value is not None}
    if kind == "message" and isinstance(text := item.get("content"), str):
        part = {"type": "output_text", "annotations": []} if item.get("role") == "assistant" else {"type": "input_text"}
        found["content"] = [{**part, "text": text}]
    if kind == "reasoning":
        found.setdefault("summary", [])
    return found


class Page(NamedTuple):
    """Which items of a list are wanted."""

    limit: int
    is_ascending: bool
    after: str | None


class Paged(NamedTuple):
    """Some items, and whether there are more."""

    items: list[Item]
    has_more: bool


def paged(items: Sequence[Item], page: Page) -> Paged | None:
    """The items wanted; None where there is none to come after."""
    ordered = list(items) if page.is_ascending else list(reversed(items))
    if page.after is not None:
        places = [index for index, item in enumerate(ordered) if item["id"] == page.after]
        if not places:
            return None
        ordered = ordered[places[0] + 1 :]
    return Paged(ordered[: page.limit], len(ordered) > page.limit)
