"""One log line for each HTTP request: who asked where, what became of it, what it cost. Never a key, never a prompt.

`request_id` is the name that the client gave or got in X-Request-Id; `ids` are those of its sequences, under which the
scheduler, the worker and the detokenizers speak of them.
"""

from __future__ import annotations

import time
from typing import Any

import structlog
from aiohttp import web

from tokenizer_svc.access.guard import identity_if_known
from tokenizer_svc.accounts import account_of
from tokenizer_svc.answers import Answer

log = structlog.get_logger("access")

_ANSWERS = web.RequestKey("answers", tuple[Answer, ...])


def note(request: web.Request, answer: Answer) -> None:
    """Remember what the request led to: this, too, where there is something already."""
    request[_ANSWERS] = (*request.get(_ANSWERS, ()), answer)


def write(request: web.Request, request_id: str, route: str, status: int, began: float) -> None:
    """The line, when a request is over; ``began`` is of time.perf_counter(). Reads are for debugging only."""
    fields: dict[str, Any] = {
        "request_id": request_id,
        "method": request.method,
        "route": route,
        "status": status,
        "seconds": round(time.perf_counter() - began, 4),
    }
    identity = identity_if_known(request)
    if identity is not None and identity.tenant:
        fields["tenant"] = identity.tenant
    if answers := request.get(_ANSWERS):
        fields |= account_of(*answers)
    if status >= 500:
        log.warning("answered", **fields)
    elif request.method == "GET":
        log.debug("answered", **fields)
    else:
        log.info("answered", **fields)
