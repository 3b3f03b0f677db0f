"""Clients that leave in the middle of their headers or of their body."""

from __future__ import annotations

import socket

from tests.security.bomb import whole
from tests.security.deployment import Deployment


def attack(deployment: Deployment) -> None:
    request = whole(b'{"prompt":"hi","max_tokens":50}')
    for cut in range(0, len(request), 5):
        with socket.create_connection(("127.0.0.1", deployment.port)) as connection:
            connection.sendall(request[:cut])
