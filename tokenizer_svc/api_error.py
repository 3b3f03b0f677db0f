"""Refusals and failures as a client sees them: OpenAI's error object and an HTTP status.

Knows nothing of HTTP libraries.
"""

from __future__ import annotations

import re

import msgspec

from shared.grammar import EXHAUSTED
from shared.protocol import Failed, Failure
from tokenizer_svc.answers import BadGrammar
from tokenizer_svc.sse import event


class ErrorBody(msgspec.Struct, frozen=True):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorDocument(msgspec.Struct, frozen=True):
    """What is sent: ``{"error": {...}}``."""

    error: ErrorBody


_MOST = 1000  # characters of what a client is told: it knows its own request
_KEPT = 300  # of these, of the end


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST else f"{text[: _MOST - _KEPT]} … {text[-_KEPT:]}"


class ApiError(Exception):
    """A request that ends in an error; the message says what to do about it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        message = _shortened(message)
        super().__init__(message)
        self.status = status
        self.body = ErrorBody(message, type, None if param is None else _shortened(param), code)
        self.headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}

    def json(self) -> bytes:
        return msgspec.json.encode(ErrorDocument(self.body))


def error_event(error: ApiError) -> bytes:
    """How a stream of OpenAI's or of the native API ends that had begun."""
    return event(error.json())


def invalid(message: str, param: str | None, code: str | None = None) -> ApiError:
    """400: the request cannot be served as it is."""
    return ApiError(400, message, param=param, code=code)


def unsupported(field: str, what: str = "") -> ApiError:
    """400: a field that other servers know and this one does not serve."""
    hint = what or "leave it out"
    return invalid(f"'{field}' is not supported by this server: {hint}", field, "unsupported_parameter")


def unavailable(message: str, retry_after_s: int) -> ApiError:
    """503: nothing is wrong with the request."""
    return ApiError(
        503, message, type="service_unavailable_error", code="service_unavailable", retry_after_s=retry_after_s
    )


def queue_full(message: str, retry_after_s: int) -> ApiError:
    """429: too many requests wait already."""
    return ApiError(429, message, type="rate_limit_error", code="queue_full", retry_after_s=retry_after_s)


def internal(message: str) -> ApiError:
    """500: our fault."""
    return ApiError(500, message, type="server_error", code="internal_error")


def bad_grammar(param: str, why: str) -> ApiError:
    """400: what the answer should look like cannot be had."""
    return invalid(f"{param}: {why}", param, "invalid_grammar")


def of_failure(failed: Failed | BadGrammar, retry_after_s: int) -> ApiError:
    """What a client is told when its request failed further down."""
    if isinstance(failed, BadGrammar):
        return bad_grammar(failed.param, failed.message)
    match failed.failure:
        case Failure.QUEUE_FULL:
            return queue_full(failed.message, retry_after_s)
        case Failure.TOO_LARGE:
            return invalid(failed.message, None, "context_length_exceeded")
        case Failure.UNAVAILABLE:
            return unavailable(failed.message, retry_after_s)
        case Failure.TIMEOUT:
            return ApiError(408, failed.message, type="timeout_error", code="timeout")
        case Failure.POISONOUS:
            return ApiError(500, failed.message, type="server_error", code="poisonous_request")
        case Failure.WORKER if failed.message == EXHAUSTED:
            return invalid(failed.message, None, "invalid_grammar")
        case Failure.WORKER:
            return internal(failed.message)


_PATH = re.compile(r" - at `(?:key in )?\$(?P<path>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<field>\w+)`")


def of_validation(error: msgspec.ValidationError, within: str = "") -> ApiError:
    """400 for a field that is missing or of the wrong type, with the field's path as param.

    ``within``: the path of what was validated, where that is not the whole body.
    """
    text = str(error)
    at = _PATH.search(text)
    path = within + (at["path"].removesuffix("[...]") if at else "")
    if missing := _MISSING.search(text):
        path = f"{path}.{missing['field']}".lstrip(".")
        return invalid(f"{path} is missing", path, "missing_field")
    path = path.lstrip(".")
    return invalid(f"{path}: {text[: at.start()] if at else text}" if path else text, path or None, "invalid_type")
