"""A body that is announced and does not come, on many connections."""

from __future__ import annotations

import contextlib
import socket
import time

from tests.security.bomb import head
from tests.security.deployment import Deployment


def attack(deployment: Deployment) -> None:
    address = ("127.0.0.1", deployment.port)
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(socket.create_connection(address))
            connection.sendall(head(Content_Length="1000000") + b'{"prompt":')
        began = time.monotonic()
        deployment.ask()
        assert time.monotonic() - began < 5
