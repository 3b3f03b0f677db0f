"""OpenAI's batch format: a line of input as a request, a line of output as its result. Pure.

The format is that of https://platform.openai.com/docs/api-reference/batch/request-input and request-output. Knows
nothing of files, servers or order.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, NamedTuple

import msgspec


class _Streaming(msgspec.Struct):
    """The fields of a body that make an answer which is no single body."""

    stream: Any = None
    background: Any = None


class Request(msgspec.Struct, frozen=True):
    """One line of input; ``body`` is JSON as it stands in the file."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class Response(msgspec.Struct, frozen=True):
    """What a server answered, whether well or not."""

    status_code: int
    request_id: str
    body: msgspec.Raw


class Trouble(msgspec.Struct, frozen=True):
    """Why there is no answer."""

    code: str
    message: str


class Result(msgspec.Struct, frozen=True):
    """One line of output: an answer, or why there is none."""

    custom_id: str
    response: Response | None = None
    error: Trouble | None = None
    id: str = msgspec.field(default_factory=lambda: f"batch_req_{secrets.token_hex(12)}")

    @property
    def is_good(self) -> bool:
        return self.response is not None and self.response.status_code < 300


class Tokens(NamedTuple):
    """What an answer cost."""

    prompt: int = 0
    completion: int = 0


class BadLine(ValueError):
    """A line is no request, or no result; says why."""


_requests = msgspec.json.Decoder(Request)
_streaming = msgspec.json.Decoder(_Streaming)
_results = msgspec.json.Decoder(Result)


def read_request(line: bytes) -> Request:
    """A line of input. Raises BadLine."""
    try:
        request = _requests.decode(line)
        streaming = _streaming.decode(request.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadLine(_why(error)) from error
    if not request.custom_id:
        raise BadLine("custom_id is empty: give each request its own")
    if request.method.upper() != "POST":
        raise BadLine(f"method is {request.method!r}: only POST can be asked")
    if not request.url.startswith("/"):
        raise BadLine(f"url is {request.url!r}: it must be a path, such as /v1/chat/completions")
    for name in ("stream", "background"):
        if getattr(streaming, name):
            raise BadLine(f"body.{name} is set: a batch takes whole answers, leave it out")
    return request


def read_result(line: bytes) -> Result:
    """A line of output, which is complete. Raises BadLine."""
    try:
        return _results.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadLine(_why(error)) from error


def write_result(result: Result) -> bytes:
    """A line of output with its end."""
    response = result.response
    shown = {
        "id": result.id,
        "custom_id": result.custom_id,
        "response": response
        and {"status_code": response.status_code, "request_id": response.request_id, "body": response.body},
        "error": result.error,
    }
    return msgspec.json.encode(shown) + b"\n"


def body_of(text: bytes) -> msgspec.Raw:
    """What a server answered as JSON on one line: as it is where it is that, else as a string."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return msgspec.Raw(msgspec.json.encode(text.decode(errors="replace")))
    stripped = text.strip()
    is_one_line = b"\n" not in stripped and b"\r" not in stripped
    return msgspec.Raw(stripped if is_one_line else msgspec.json.encode(value))


def tokens_of(body: msgspec.Raw) -> Tokens:
    """What the body of an answer says of its tokens, in the shape of any endpoint; zeros where it says nothing."""
    answer = msgspec.json.decode(body)
    if isinstance(answer, list):  # of the native API, one for each prompt
        each = [_usage(one) for one in answer]
        return Tokens(sum(tokens.prompt for tokens in each), sum(tokens.completion for tokens in each))
    return _usage(answer)


def _usage(answer: Any) -> Tokens:
    if not isinstance(answer, dict):
        return Tokens()
    usage = answer.get("usage") or answer.get("meta_info")
    if not isinstance(usage, dict):
        return Tokens()
    prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
    completion = usage.get("completion_tokens", usage.get("output_tokens"))
    return Tokens(*(value if isinstance(value, int) else 0 for value in (prompt, completion)))


def mark_of(custom_id: str) -> bytes:
    """Stands for an id where very many are kept."""
    return hashlib.blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _why(error: Exception) -> str:
    match error:
        case UnicodeDecodeError():
            return "it is not UTF-8"
        case RecursionError():
            return "it is nested too deeply"
        case msgspec.ValidationError():
            return str(error)
        case _:
            return f"it is not JSON: {error}"
