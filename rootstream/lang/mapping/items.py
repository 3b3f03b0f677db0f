"""What a map gives back: one Item for each that it was given. Knows nothing of how they ran."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, SupportsIndex

import msgspec

from rootstream.lang.calls import CallError, Result, Usage


class Finished(Protocol):
    """A state that can be read: one that ran, or one that a resume file kept."""

    @property
    def returned(self) -> Any: ...

    @property
    def usage(self) -> Usage: ...

    def __getitem__(self, name: str) -> Any: ...

    def text(self) -> str: ...

    def messages(self) -> Sequence[Mapping[str, Any]]: ...

    def meta(self, name: str) -> Result: ...

    def names(self) -> Sequence[str]: ...


class Saved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a resume file keeps of a state. Values are as JSON has them: a model's fields are a dict's."""

    values: dict[str, Any] = {}
    results: dict[str, Result] = {}
    said: str = ""
    conversation: list[dict[str, Any]] | None = None
    returned: Any = None
    usage: Usage = Usage()

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def text(self) -> str:
        return self.said

    def messages(self) -> Sequence[Mapping[str, Any]]:
        if self.conversation is None:
            raise ValueError("there are no roles in this program: use text()")
        return self.conversation

    def meta(self, name: str) -> Result:
        return self.results[name]

    def names(self) -> Sequence[str]:
        return list(self.values)


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one item: a state or an error."""

    index: int
    args: Any
    state: Finished | None = None
    error: Exception | None = None
    seconds: float = 0.0
    usage: Usage = Usage()
    is_restored: bool = False  # from a resume file

    @property
    def is_good(self) -> bool:
        return self.error is None

    @property
    def returned(self) -> Any:
        """What the body returned. Raises the item's error."""
        return self.finished().returned

    def __getitem__(self, name: str) -> Any:
        """A value of its program. Raises the item's error."""
        return self.finished()[name]

    def text(self) -> str:
        """All that was said. Raises the item's error."""
        return self.finished().text()

    def finished(self) -> Finished:
        if self.error is not None:
            raise self.error
        if self.state is None:
            raise CallError(f"item {self.index} has neither a state nor an error")
        return self.state

    def _repr_html_(self) -> str:
        from rootstream.lang.notebook import item_html

        return item_html(self)


class Items(list[Item]):
    """All items of a map, in the order in which they were given."""

    @property
    def errors(self) -> list[Item]:
        return [item for item in self if not item.is_good]

    @property
    def usage(self) -> Usage:
        return sum((item.usage for item in self), Usage())

    def raise_first(self) -> Items:
        """Raise the error of the first that failed; otherwise the same items."""
        for item in self:
            item.finished()
        return self

    def __getitem__(self, place: SupportsIndex | slice, /) -> Any:
        return Items(super().__getitem__(place)) if isinstance(place, slice) else super().__getitem__(place)

    def _repr_html_(self) -> str:
        from rootstream.lang.notebook import items_html

        return items_html(self)


def in_order(items: Iterable[Item]) -> Items:
    return Items(sorted(items, key=lambda item: item.index))
