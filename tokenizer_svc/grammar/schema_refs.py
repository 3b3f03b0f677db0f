"""Where a schema's parts lie: JSON pointers, and the references between them. Knows nothing of what keywords mean.

Only references into the schema itself are followed: nothing is ever fetched.
Source: RFC 6901 (JSON pointers), JSON Schema 2020-12 core, section 8.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.schema_json import Json

ROOT = "#"
_OLD_DRAFTS = ("draft-04", "draft-06", "draft-07", "2019-09")


class Place(NamedTuple):
    """A value in the document, and the pointer to it, in one spelling."""

    pointer: str
    value: Json


def below(pointer: str, *tokens: str | int) -> str:
    """The pointer to something inside of what ``pointer`` points to."""
    escaped = (str(token).replace("~", "~0").replace("/", "~1") for token in tokens)
    return "/".join((pointer, *escaped))


class Document:
    """A schema as a whole: what its references are relative to."""

    def __init__(self, root: Json) -> None:
        self.root = root
        identifier = root.get("$id") if isinstance(root, dict) else None
        self._base = identifier.partition("#")[0] if isinstance(identifier, str) else ""
        draft = root.get("$schema") if isinstance(root, dict) else None
        self.is_old = isinstance(draft, str) and any(old in draft for old in _OLD_DRAFTS)  # without prefixItems

    def follow(self, reference: str, pointer: str) -> Place:
        """The target of the ``$ref`` at ``pointer``. Raises GrammarError where it is not in this document."""
        base, _, fragment = reference.partition("#")
        if base not in ("", self._base) or (fragment and not fragment.startswith("/")):
            raise GrammarError(
                f"$ref {reference!r} at {pointer} is not supported: "
                "only JSON pointers into the schema itself are followed (#/$defs/name)"
            )
        place = Place(ROOT, self.root)
        for escaped in unquote(fragment).split("/")[1:]:
            place = self._step(place, escaped.replace("~1", "/").replace("~0", "~"), reference, pointer)
        if not isinstance(place.value, bool | dict):
            raise GrammarError(f"$ref {reference!r} at {pointer} does not lead to a schema")
        return place

    def _step(self, place: Place, token: str, reference: str, pointer: str) -> Place:
        value = place.value
        if isinstance(value, dict) and token in value:
            if place.pointer != ROOT and isinstance(value.get("$id"), str):
                raise GrammarError(f"$ref {reference!r} at {pointer} crosses the $id at {place.pointer}")
            return Place(below(place.pointer, token), value[token])
        if isinstance(value, list) and token.isascii() and token.isdecimal() and int(token) < len(value):
            return Place(below(place.pointer, int(token)), value[int(token)])
        raise GrammarError(f"$ref {reference!r} at {pointer} leads nowhere: there is no {token!r} at {place.pointer}")
