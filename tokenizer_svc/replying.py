"""Bodies of the routes that do not generate text. Knows nothing of what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from tokenizer_svc.api_error import of_validation
from tokenizer_svc.body import read_object
from tokenizer_svc.limits import Limits

T = TypeVar("T")


async def read(request: web.Request, limits: Limits, kind: type[T]) -> T:
    """The body as a struct. Raises ApiError."""
    return convert(await read_object(request, limits), kind)


def convert(body: Mapping[str, Any], kind: type[T]) -> T:
    """A decoded body as a struct. Raises ApiError 400 naming the field."""
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise of_validation(error) from error


def as_json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json", headers=headers)
