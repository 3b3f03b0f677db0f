"""What the files in bombs/ are made of: an attack on a deployment, and what has to come of it.

A file is one class of fault that has brought down servers of language models, or of HTTP. Its docstring says which; its
``attack`` is called with the deployment and fails if it is answered in another way than it should be.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.security.deployment import Deployment

CHAT, TEXT, NATIVE, ABORT = "/v1/chat/completions", "/v1/completions", "/generate", "/abort_request"
HI = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
SAY = {"prompt": "hi", "max_tokens": 4}
SLOW_S = 30.0  # within which any one attack must be over

Attack = Callable[[Deployment], None]


def send(deployment: Deployment, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    """POST a body (bytes as they are, all else as JSON); the status and the decoded answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(deployment.url + path, data, {"Content-Type": "application/json"} | named)
    try:
        with urlopen(request, timeout=SLOW_S) as response:
            status, answer = response.status, response.read()
    except HTTPError as error:
        status, answer = error.code, error.read()
    try:
        return status, json.loads(answer)
    except ValueError:
        return status, answer


def refused(path: str, *bodies: Any, status: int = 400, says: str = "") -> Attack:
    """Each body is refused, with a message in the shape of all errors."""

    def attack(deployment: Deployment) -> None:
        for body in bodies:
            found, answer = send(deployment, path, body)
            assert found == status, (found, answer, repr(body)[:200])
            assert says in answer["error"]["message"], (answer, repr(body)[:200])
            assert len(json.dumps(answer)) < 4000, "the refusal repeats the request"

    return attack


def bounded(path: str, *bodies: Any) -> Attack:
    """Each body is served or refused, and either soon."""

    def attack(deployment: Deployment) -> None:
        for body in bodies:
            began = time.monotonic()
            found, answer = send(deployment, path, body)
            assert found in (200, 400), (found, answer, repr(body)[:200])
            assert time.monotonic() - began < SLOW_S

    return attack


def raw(deployment: Deployment, *pieces: bytes, wait: float = 1.0, pause: float = 0.0) -> bytes:
    """Send bytes on a connection of their own; what comes back before it is closed, or nothing more comes."""
    with socket.create_connection(("127.0.0.1", deployment.port), timeout=wait) as connection:
        found = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            while block := connection.recv(65536):
                found += block
        except OSError:  # closed, or silent for too long
            pass
        return found


def statuses(answer: bytes) -> list[int]:
    """The status codes in what came back."""
    lines = [line for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    return [int(line.split(b" ")[1]) for line in lines]


def head(path: str = TEXT, method: str = "POST", **headers: str) -> bytes:
    """The head of a request."""
    headers = {"Connection": "close", **headers}
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def whole(body: bytes, path: str = TEXT, **headers: str) -> bytes:
    """A request as bytes."""
    return head(path, Content_Length=str(len(body)), **headers) + body


def refused_raw(*payloads: bytes, wait: float = 0.5) -> Attack:
    """Each payload is refused, or its connection closed: never served, never a failure of the server."""

    def attack(deployment: Deployment) -> None:
        for payload in payloads:
            found = statuses(raw(deployment, payload, wait=wait))
            assert all(400 <= status < 500 for status in found), (found, payload[:200])

    return attack
