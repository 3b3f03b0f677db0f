"""What the scheduler has to tell others besides plans, collected over a round."""

from __future__ import annotations

from typing import NamedTuple

from shared import columns
from shared.protocol import Admitted, Restated, ToFrontDoor


class Reply(NamedTuple):
    """A message for the tokenizer_svc replica that holds a connection."""

    to: str
    message: ToFrontDoor


class Outgoing(NamedTuple):
    """One round's worth, to be made known together and before the round's plans."""

    replies: list[Reply]
    started: list[int]  # requests that started: from here on the step log holds their tokens
    ended: list[int]  # requests that are live no more
    restated: list[Restated]  # for the step log


class Outbox:
    """Collects until drained."""

    def __init__(self) -> None:
        self._admitted: dict[str, tuple[list[int], list[int]]] = {}
        self._replies: list[Reply] = []
        self._started: list[int] = []
        self._ended: list[int] = []
        self._restated: list[Restated] = []

    def reply(self, to: str, message: ToFrontDoor) -> None:
        self._replies.append(Reply(to, message))

    def started(self, id: int, to: str, cached: int | None) -> None:
        """A request started; ``cached`` tokens if its owner has not been told yet."""
        self._started.append(id)
        if cached is not None:
            ids, tokens = self._admitted.setdefault(to, ([], []))
            ids.append(id)
            tokens.append(cached)

    def ended(self, id: int) -> None:
        self._ended.append(id)

    def restate(self, restated: Restated) -> None:
        self._restated.append(restated)

    @property
    def empty(self) -> bool:
        return not (self._admitted or self._replies or self._started or self._ended or self._restated)

    def drain(self) -> Outgoing:
        """Everything collected: who started first, one message for each destination."""
        admitted = [
            Reply(to, Admitted(columns.uint64(ids), columns.int32(cached)))
            for to, (ids, cached) in self._admitted.items()
        ]
        outgoing = Outgoing(admitted + self._replies, self._started, self._ended, self._restated)
        self._restated = []
        self._admitted, self._replies, self._started, self._ended = {}, [], [], []
        return outgoing
