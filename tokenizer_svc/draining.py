"""An orderly stop of a front door: nobody is let in any more, and who is in may stay until the answer is over.

Knows nothing of streams; of HTTP as far as sockets go.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from typing import Protocol

import structlog

from tokenizer_svc.listening import Listener

log = structlog.get_logger("front door")

_LOOK_S = 0.05
_LAST_S = 2.0  # for first requests that are under way on connections that are there
_REFUSAL_S = 0.5  # for those, where all they get is a refusal


class Draining(Protocol):
    """What is known of a front door that ends."""

    @property
    def open_answers(self) -> int:
        """How many answers somebody is still being sent."""
        ...

    @property
    def has_substitute(self) -> bool:
        """Whether another front door takes requests."""
        ...

    def refuse(self) -> None:
        """Admit nobody any more."""
        ...

    def cut(self, message: str) -> None:
        """End the answers that are left with an error, which the client is told."""
        ...


async def drain(door: Draining, listeners: Sequence[Listener], patience: float) -> None:
    """Until no answer is left, at most ``patience`` seconds.

    Where there is another front door, the port is left to it at once, and who is connected by then is still served:
    once more, since responses close their connections. Where there is none, whoever comes is told to come again, until
    there is one or no answer is left.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    if door.open_answers:
        log.info("finishing answers", open=door.open_answers, seconds=patience)
    left_at: float | None = None
    while True:
        if left_at is None and door.has_substitute:
            await leave(listeners)
            left_at = loop.time()
        if left_at is None:
            door.refuse()
        expects = left_at is not None and loop.time() < left_at + _LAST_S
        expects = expects and any(listener.connections.new for listener in listeners)
        busy = door.open_answers or any(listener.connections.busy for listener in listeners)
        if not (expects or busy) or loop.time() >= deadline:
            break
        await asyncio.sleep(_LOOK_S)
    door.refuse()
    if left_at is None and await leave(listeners):
        await asyncio.sleep(min(_REFUSAL_S, patience))
    if door.open_answers:
        log.warning("answers cut short", open=door.open_answers, seconds=patience)
        door.cut("the server is stopping: send the request again")


async def leave(listeners: Sequence[Listener]) -> int:
    """Stop listening and lose nobody: connections that the kernel has made already, and would reset, are taken.

    Returns how many those were.
    """
    loop = asyncio.get_running_loop()
    waiting = 0
    for server, serve, _ in listeners:
        sockets = [socket.socket(fileno=os.dup(listener.fileno())) for listener in server.sockets]
        server.close()
        for listener in sockets:
            with listener, contextlib.suppress(BlockingIOError):
                listener.setblocking(False)
                while True:
                    connection = listener.accept()[0]
                    waiting += 1
                    connection.setblocking(False)
                    with contextlib.suppress(OSError):  # it has left
                        await loop.connect_accepted_socket(serve, connection)
    return waiting
