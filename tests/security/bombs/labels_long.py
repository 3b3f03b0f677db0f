"""Salts, users and models of megabytes: keys of caches and lines of logs."""

from __future__ import annotations

from tests.security.bomb import SAY, TEXT, refused
from tests.security.deployment import Deployment

LONG = "x" * 2_000_000


def attack(deployment: Deployment) -> None:
    refused(TEXT, {**SAY, "cache_salt": LONG}, {**SAY, "user": LONG}, {**SAY, "whitespace": LONG})(deployment)
    refused(TEXT, {**SAY, "model": LONG}, status=404)(deployment)
