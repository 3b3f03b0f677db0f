"""What a JSON object says so far that was cut in the middle of being written. Pure."""

from __future__ import annotations

import json
from collections import deque
from typing import Any, NamedTuple

_CLOSING = {"{": "}", "[": "]"}
_TRIED = 8  # of the last places to cut: the last one will do, unless the model wrote what is no JSON


def object_so_far(text: str) -> dict[str, Any]:
    """The object, less what is not complete in it: a value that was cut is not there, its container is."""
    if (whole := _loaded(text)) is not None:
        return whole
    for end in reversed(_scanned(text).cuts):
        if (found := _loaded(text[:end] + _scanned(text[:end]).closers)) is not None:
            return found
    return {}


def _loaded(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class _Scanned(NamedTuple):
    cuts: tuple[int, ...]  # where it could have ended: after an opening, before a comma, after a closing
    closers: str  # what closes it at its end


def _scanned(text: str) -> _Scanned:
    cuts: deque[int] = deque(maxlen=_TRIED)
    closers: list[str] = []
    in_string = is_escaped = False
    for index, char in enumerate(text):
        if in_string:
            in_string = is_escaped or char != '"'
            is_escaped = char == "\\" and not is_escaped
        elif char == '"':
            in_string = True
        elif char in _CLOSING:
            closers.append(_CLOSING[char])
            cuts.append(index + 1)
        elif char in "}]" and closers:
            closers.pop()
            cuts.append(index + 1)
        elif char == ",":
            cuts.append(index)
    return _Scanned(tuple(cuts), "".join(reversed(closers)))
