"""By what a finished item is known again: the same program, asked with the same arguments and options. Pure.

Of a program its own source counts, and not what it calls or closes over.
"""

from __future__ import annotations

import hashlib
import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec


class Keys:
    """Keys for the items of one map. The second of two equal items is another item than the first."""

    def __init__(self, body: Callable[..., Any], options: dict[str, Any], key: Callable[[Any], str] | None) -> None:
        """``key`` names an item itself, where its arguments cannot be written down."""
        self._program = hashlib.sha256(_source(body).encode() + encoded(options, "the options of this map")).digest()
        self._key = key
        self._seen: Counter[str] = Counter()

    def of(self, args: Any) -> str:
        """Raises TypeError for arguments that cannot be written as JSON."""
        told = self._key(args).encode() if self._key is not None else encoded(args, "this item")
        digest = hashlib.sha256(self._program + told).hexdigest()[:32]
        self._seen[digest] += 1
        return digest if self._seen[digest] == 1 else f"{digest}-{self._seen[digest]}"


def encoded(value: Any, what: str) -> bytes:
    """As JSON, the same for equal values. Raises TypeError."""
    try:
        return msgspec.json.encode(value, enc_hook=as_json, order="sorted")
    except TypeError as error:
        raise TypeError(
            f"{what} cannot be written into a resume file ({error}): give key=, a function that names an item"
        ) from error


def as_json(value: Any) -> Any:
    """What JSON writes for a value that it does not know. Raises TypeError."""
    for spelling, how in (("model_dump", {"mode": "json"}), ("tolist", {}), ("__fspath__", {})):
        if callable(written := getattr(value, spelling, None)):
            return written(**how)
    raise TypeError(f"{type(value).__name__} is no JSON")


def _source(body: Callable[..., Any]) -> str:
    name = getattr(body, "__qualname__", repr(body))
    try:
        return f"{name}\n{inspect.getsource(body)}"
    except (OSError, TypeError):  # typed at a prompt
        code = getattr(body, "__code__", None)
        return f"{name}\n{code.co_code!r}{code.co_names}{code.co_consts}" if code is not None else name
