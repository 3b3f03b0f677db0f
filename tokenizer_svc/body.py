"""Reading request bodies: bounded, and JSON objects or a clear refusal."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from tokenizer_svc.api_error import ApiError, invalid
from tokenizer_svc.depth import exceeds
from tokenizer_svc.limits import Limits


async def read_object(request: web.Request, limits: Limits) -> dict[str, Any]:
    """The JSON object in the body.

    Raises ApiError 413 for too large a body, 415 for one that is compressed, 408 for one that does not arrive in time,
    400 for anything but an object.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        message = "the body is compressed: send it as it is, without Content-Encoding"
        raise ApiError(415, message, code="unsupported_encoding")
    if (request.content_length or 0) > limits.body_bytes:
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.body_s):
            data = await request.read()
    except TimeoutError as error:
        message = f"the body did not arrive within {limits.body_s:g} s: send it faster, or send less"
        raise ApiError(408, message, code="request_timeout") from error
    except web.HTTPRequestEntityTooLarge as error:
        raise _too_large(limits) from error
    except web.RequestPayloadError as error:
        raise invalid("the body cannot be read: its chunks or its compression are broken", None, "bad_body") from error
    if exceeds(data, limits.max_depth):
        message = f"the body has arrays and objects more than {limits.max_depth} deep in each other"
        raise invalid(message, None, "too_deep")
    try:
        body = msgspec.json.decode(data)
    except msgspec.ValidationError as error:  # a number that no float holds
        raise invalid(f"the body holds a value out of range: {error}", None, "invalid_value") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"the body is no valid JSON in UTF-8: {error}", None, "invalid_json") from error
    if not isinstance(body, dict):
        raise invalid("the body must be a JSON object", None, "invalid_json")
    return body


def _too_large(limits: Limits) -> ApiError:
    megabytes = limits.body_bytes / 2**20
    return ApiError(413, f"the body is larger than {megabytes:g} MiB: send less", code="request_too_large")
