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
_LAST_S = 0.5  # for requests that were under way to us


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

    Where there is another front door, the port is left to it at once, and who came before that is still served. Where
    there is none, whoever comes is told to come again, until there is one or no answer is left.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    if door.open_answers:
        log.info("finishing answers", open=door.open_answers, seconds=patience)
    listening = True
    while True:
        if listening and door.has_substitute:
            listening = False
            if await leave(listeners) or door.open_answers:
                await asyncio.sleep(min(_LAST_S, patience))
        door.refuse()
        if not door.open_answers or loop.time() >= deadline:
            break
        await asyncio.sleep(_LOOK_S)
    if listening and await leave(listeners):
        await asyncio.sleep(min(_LAST_S, patience))
    if door.open_answers:
        log.warning("answers cut short", open=door.open_answers, seconds=patience)
        door.cut("the server is stopping: send the request again")


async def leave(listeners: Sequence[Listener]) -> int:
    """Stop listening and lose nobody: connections that the kernel has made already, and would reset, are taken.

    Returns how many those were.
    """
    loop = asyncio.get_running_loop()
    waiting = 0
    for server, serve in listeners:
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
