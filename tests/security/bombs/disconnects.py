"""Two hundred clients that ask for much and leave at once."""

from __future__ import annotations

import json
import socket

from tests.security.bomb import whole
from tests.security.deployment import Deployment

BODY = json.dumps(
    {"prompt": "the quick brown fox", "max_tokens": 200, "ignore_eos": True, "stream": True, "n": 4}
).encode()


def attack(deployment: Deployment) -> None:
    for number in range(200):
        with socket.create_connection(("127.0.0.1", deployment.port)) as connection:
            connection.sendall(whole(BODY))
            if number % 3 == 0:
                connection.recv(100)
    deployment.settle()
