"""Clients that wait for a word before they send the body, or expect what nobody has."""

from __future__ import annotations

from tests.security.bomb import raw, statuses, whole
from tests.security.deployment import Deployment


def attack(deployment: Deployment) -> None:
    body = b'{"prompt":"hi","max_tokens":1}'
    waiting = statuses(raw(deployment, whole(body, Expect="100-continue", Connection="close")))
    assert waiting[-1] == 200, waiting
    odd = statuses(raw(deployment, whole(body, Expect="200-maybe", Connection="close")))
    assert all(status < 500 for status in odd), odd
