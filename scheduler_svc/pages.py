"""The page pool: which KV pages are free.

A page is an int below ``num_pages``. Knows nothing of what pages hold or who took them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable


def page_array(pages: Iterable[int] = ()) -> array[int]:
    """Pages as a packed int32 array: what is stored in the tree and copied whole into messages."""
    return array("i", pages)


class PagePool:
    """A stack of free pages: the page given back last is taken first, while it is still warm."""

    def __init__(self, num_pages: int) -> None:
        self.num_pages = num_pages
        self._free = page_array(range(num_pages - 1, -1, -1))

    @property
    def available(self) -> int:
        return len(self._free)

    def take(self, count: int) -> array[int]:
        """Take ``count`` pages, all or nothing. Raises ValueError when fewer are free."""
        if count > len(self._free):
            raise ValueError(f"{count} pages wanted, {len(self._free)} free")
        if count <= 0:
            return page_array()
        taken = self._free[-count:]
        del self._free[-count:]
        return taken

    def give(self, pages: array[int]) -> None:
        """Give pages back."""
        self._free.extend(pages)

    def check(self, owned: Iterable[int]) -> None:
        """Prove that every page is either free or in ``owned``, and only once. Raises AssertionError."""
        everything = sorted([*self._free, *owned])
        if everything != list(range(self.num_pages)):
            raise AssertionError(f"pages lost or owned twice: {len(everything)} found, {self.num_pages} exist")
