"""Hundreds of connections on which nothing is said."""

from __future__ import annotations

import contextlib
import socket

from tests.security.deployment import Deployment


def attack(deployment: Deployment) -> None:
    address = ("127.0.0.1", deployment.port)
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(socket.create_connection(address))
        deployment.ask()
