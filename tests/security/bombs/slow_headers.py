"""Headers that come byte by byte on many connections: others must not wait for them."""

from __future__ import annotations

import contextlib
import socket
import time

from tests.security.deployment import Deployment


def attack(deployment: Deployment) -> None:
    address = ("127.0.0.1", deployment.port)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(address)) for _ in range(100)]
        for byte in b"POST /generate HTTP/1.1\r\nX: ":
            for connection in slow:
                connection.sendall(bytes([byte]))
        began = time.monotonic()
        deployment.ask()
        assert time.monotonic() - began < 5
