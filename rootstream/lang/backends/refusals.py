"""What a server's refusal says, as an error of the language. Knows OpenAI's error object; never what was asked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from rootstream.lang.backends.connection import Answer
from rootstream.lang.backends.retrying import Passing, retry_after
from rootstream.lang.calls import CallError

_PASSING = frozenset({429, 502, 503, 504})
_FOR_GOOD = frozenset({"insufficient_quota"})  # OpenAI's 429 that no waiting mends
_MOST = 500  # characters of a body that is no error object
_NO_KEY = "set ROOTSTREAM_API_KEY or give api_key="


def refusal(answer: Answer) -> CallError:
    """Of a response that is not 200; Passing where the same call may succeed later."""
    try:
        body = msgspec.json.decode(answer.body)
    except msgspec.DecodeError:
        body = None
    if not isinstance(body, dict):
        text = answer.body[: 4 * _MOST].decode("utf-8", "replace").strip()[:_MOST]
        body = {"message": text or "no explanation"}
    return of_error(body.get("error", body), answer.status, retry_after(answer.headers, datetime.now(UTC)))


def of_error(error: Any, status: int | None, after_s: float | None = None) -> CallError:
    """Of an error object, in a response or in the middle of a stream (then without a status)."""
    fields: dict[str, Any] = error if isinstance(error, dict) else {"message": str(error)}
    message = str(fields.get("message") or fields.get("detail") or "no explanation")
    param, code = fields.get("param"), fields.get("code")
    if status is None:
        status = _status_of(fields)
    if param and str(param) not in message:
        message = f"{param}: {message}"
    message = f"the server says: {message}" + (f" (HTTP {status})" if status is not None else "")
    if status == 401:
        message = f"{message}: {_NO_KEY}"
    code = None if code is None else str(code)
    if status in _PASSING and code not in _FOR_GOOD:
        return Passing(message, status, code, after_s)
    return CallError(message, status, code)


def _status_of(fields: dict[str, Any]) -> int | None:
    """An error event has no status of its own. vLLM writes it as the code; ours and OpenAI's say a type."""
    code = fields.get("code")
    if isinstance(code, int) and 400 <= code < 600:
        return code
    match fields.get("type"):
        case "rate_limit_error":
            return 429
        case "service_unavailable_error":
            return 503
        case _:
            return None
