"""Which live requests belong together, by their word: a fork's branches, a map's items.

A group has started as soon as one of its requests has been a row, and is forgotten when none is live. Knows nothing
of the queue, which lets requests of a group that has started go sooner.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Group:
    """Live requests of one tenant that gave the same name."""

    tenant: str
    name: str
    live: int = 0
    started: bool = False


class Groups:
    """The groups that have live requests."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], Group] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def joins(self, tenant: str, name: str) -> Group | None:
        """A request is announced; without a name it is in no group."""
        if not name:
            return None
        group = self._groups.get((tenant, name))
        if group is None:
            group = self._groups[tenant, name] = Group(tenant, name)
        group.live += 1
        return group

    def leaves(self, group: Group | None) -> None:
        """A request has ended."""
        if group is None:
            return
        group.live -= 1
        if not group.live:
            del self._groups[group.tenant, group.name]
