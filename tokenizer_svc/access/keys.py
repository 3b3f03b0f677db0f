"""API keys: how they are written down, and whose key one is. Knows nothing of files or HTTP.

Only digests are kept. A key is looked for among all of them, each compared in constant time, so that how long the
search takes says nothing of any key.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_KEY = re.compile(r"[!-~]{8,512}")  # what a header can carry, and not a word that is guessed at once


class BadKeys(ValueError):
    """Keys that cannot be used. The message never holds a key."""


class Key(NamedTuple):
    """One key; several may name one tenant, so that keys can be renewed."""

    tenant: str
    digest: bytes


def parse_keys(text: str) -> list[Key]:
    """Keys as a setting holds them: several, comma separated, each ``name:key`` or a bare key. Raises BadKeys."""
    return _distinct(_key(entry.strip(), f"key {n}") for n, entry in enumerate(text.split(","), 1) if entry.strip())


def parse_key_lines(text: str) -> list[Key]:
    """Keys as a file holds them: one a line, beside empty lines and comments after ``#``. Raises BadKeys."""
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return _distinct(_key(line, f"line {n}") for n, line in lines if line and not line.startswith("#"))


def tenant_of(keys: Sequence[Key], presented: str) -> str | None:
    """The tenant that a key belongs to, None for a key of nobody. Takes as long whichever it is."""
    digest = _digest(presented)
    found: str | None = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key.tenant
    return found


def _key(entry: str, where: str) -> Key:
    name, colon, secret = entry.partition(":")
    if not colon:
        name, secret = "", entry
    if colon and not _NAME.fullmatch(name):
        raise BadKeys(f"{where} has a name that is empty, too long, or not of letters, digits and any of _ . -")
    if not _KEY.fullmatch(secret):
        raise BadKeys(f"{where} must have 8 to 512 visible ASCII characters: make one with `openssl rand -hex 24`")
    digest = _digest(secret)
    return Key(name or f"key-{digest.hex()[:12]}", digest)


def _distinct(keys: Iterable[Key]) -> list[Key]:
    found: dict[bytes, Key] = {}
    for key in keys:
        other = found.setdefault(key.digest, key)
        if other.tenant != key.tenant:
            raise BadKeys(f"{other.tenant} and {key.tenant} have the same key: give each its own")
    return list(found.values())


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
