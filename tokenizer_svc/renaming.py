"""Errors that name fields by what chats call them, told in the words of another API."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokenizer_svc.api_error import ApiError

Rules = Sequence[tuple[re.Pattern[str], str]]
"""Beginnings of paths in a chat, and what they are called elsewhere; the first that fits is taken."""


def rules(*pairs: tuple[str, str]) -> Rules:
    """Rules from patterns, each from the beginning of a path."""
    return tuple((re.compile(f"^{pattern}"), name) for pattern, name in pairs)


def renamed(error: ApiError, rules: Rules) -> ApiError:
    """The same error with the field's other name, in its message, too."""
    param = error.body.param
    if param is None:
        return error
    for pattern, name in rules:
        other, found = pattern.subn(name, param)
        if found:
            break
    else:
        return error
    message = re.sub(rf"(?<![\w.]){re.escape(param)}(?!\w)", lambda _: other, error.body.message)
    again = ApiError(error.status, message, type=error.body.type, param=other, code=error.body.code)
    again.headers.update(error.headers)
    return again
