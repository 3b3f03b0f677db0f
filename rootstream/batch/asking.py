"""Asks a server one request of a batch, as often as it takes; an answer, or why there is none.

A request that a server was at when it was lost can be asked again: nothing of it remains there, and only one result is
ever written. Refusals for lack of room (429, 503) and a server that is away say nothing about the request: they are
waited out, for as long as the patience lasts. Everything else counts as one of a few tries.
"""

from __future__ import annotations

import asyncio
import email.utils
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple, Self

import aiohttp

from rootstream.batch.lines import Request, Response, Result, Trouble, body_of
from rootstream.batch.pace import Pace
from rootstream.client import connections
from shared.errors import UserError

_AGAIN = frozenset({408, 409, 425, 500, 502, 504})
_FULL = frozenset({429, 503})
_TICK_S = 0.05


class Patience(NamedTuple):
    """When to stop asking again."""

    tries: int  # that failed, of one request
    waiting_s: float  # since the server last served anything
    request_s: float  # for one answer


class Gone(UserError):
    """The server has been away, or full, for longer than the patience lasts."""


class Asker:
    """Requests to one server at the pace that it keeps."""

    def __init__(
        self, url: str, api_key: str | None, pace: Pace, patience: Patience, is_alive: Callable[[], bool]
    ) -> None:
        self._url = url
        self._is_alive = is_alive
        self._session = connections(api_key)
        self._pace = pace
        self._patience = patience
        self._served_at = time.monotonic()
        self.under_way = 0

    async def __aenter__(self) -> Self:
        await self._session.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, request: Request) -> Result:
        """The result of a request. Raises Gone, and UserError where no request can succeed."""
        name = uuid.uuid4().hex
        tries = 0
        while True:
            async with self._turn():
                answer = await self._once(request, name)
            match answer:
                case Answered(response) if response.status_code == 401:
                    raise UserError(f"{self._url} does not know this key: set ROOTSTREAM_API_KEY or give --api-key")
                case Answered(response) if response.status_code not in _AGAIN:
                    return Result(request.custom_id, response)
                case Answered() | Broken() if (tries := tries + 1) >= self._patience.tries:
                    return self._given_up(request, answer)
                case Answered() | Broken():
                    self._pace.refused(self.under_way, time.monotonic(), None)
                case Refused(why):
                    self._check_patience(why)

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        """Wait until one more request may be under way."""
        while not self._pace.may_go(self.under_way, time.monotonic()):  # noqa: ASYNC110 - time alone may allow it
            await asyncio.sleep(_TICK_S)
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    async def _once(self, request: Request, name: str) -> Answered | Refused | Broken:
        headers = {"Content-Type": "application/json", "X-Request-Id": name}
        timeout = aiohttp.ClientTimeout(total=self._patience.request_s, sock_connect=10)
        try:
            async with self._session.post(
                self._url + request.url, data=bytes(request.body), headers=headers, timeout=timeout
            ) as response:
                text = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            self._pace.refused(self.under_way, time.monotonic(), None)
            return Refused(f"no server answers: {error}")
        except TimeoutError:
            return Broken("timeout", f"no answer within {self._patience.request_s:g} s")
        except (aiohttp.ClientError, ConnectionError) as error:
            return Broken("connection_lost", f"the connection was lost: {error!r}")
        if response.status in _FULL:
            self._pace.refused(self.under_way, time.monotonic(), retry_after(response.headers, time.time()))
            return Refused(f"the server refuses with {response.status}: {text[:300].decode(errors='replace')}")
        if response.status < 500:
            self._pace.answered()
            self._served_at = time.monotonic()
        given = response.headers.get("X-Request-Id", name)
        return Answered(Response(response.status, given, body_of(text)))

    def _check_patience(self, why: str) -> None:
        away_s = time.monotonic() - self._served_at
        if away_s > self._patience.waiting_s or not self._is_alive():
            raise Gone(f"{self._url} has served nothing for {away_s:.0f} s ({why})")

    def _given_up(self, request: Request, answer: Answered | Broken) -> Result:
        if isinstance(answer, Answered):
            return Result(request.custom_id, answer.response)
        return Result(request.custom_id, error=Trouble(answer.code, answer.message))


class Answered(NamedTuple):
    """There was a whole answer."""

    response: Response


class Refused(NamedTuple):
    """The server has no room, or is not there."""

    why: str


class Broken(NamedTuple):
    """The answer was lost on its way."""

    code: str
    message: str


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a Retry-After asks for, from a number or a date (RFC 9110); None without one."""
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return None
