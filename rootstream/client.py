"""A small asyncio client of OpenAI-compatible servers: requests, and answers as server-sent events.

Knows the wire format, nothing of what is asked.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp

_CONNECT_S = 5.0
_EVENT_BYTES = 2**20


class Event(NamedTuple):
    """A server-sent event; ``id`` is None where the server gives none."""

    id: str | None
    data: dict[str, Any]


class NoServer(ConnectionError):
    """Nobody answers at this URL."""


class Refused(RuntimeError):
    """The server answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} (HTTP {status})")
        self.status = status
        self.message = message


def explained(refused: Refused) -> str:
    """What a refusal says, and what to do about a key that is missing."""
    hint = ": set ROOTSTREAM_API_KEY or give --api-key" if refused.status == 401 else ""
    return f"{refused}{hint}"


def connections(api_key: str | None) -> aiohttp.ClientSession:
    """As many as are asked for at once; ``api_key`` goes with every request. Use it as a context."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
        connector=aiohttp.TCPConnector(limit=0),
        read_bufsize=_EVENT_BYTES,
        headers={} if api_key is None else {"Authorization": f"Bearer {api_key}"},
    )


class Client:
    """Connections to one server; use as an async context manager. ``api_key`` goes with every request."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._api_key = api_key
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = connections(self._api_key)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def get(self, path: str) -> Any:
        """The JSON at a path. Raises NoServer or Refused."""
        async with self._opened("GET", path) as response:
            return await _json(response)

    async def get_text(self, path: str) -> str:
        """The text at a path. Raises NoServer or Refused."""
        async with self._opened("GET", path) as response:
            return await response.text()

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON answer to a JSON request. Raises NoServer or Refused."""
        async with self._opened("POST", path, json=body) as response:
            return await _json(response)

    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """The events of a streamed answer, up to `[DONE]` or the end. Raises NoServer or Refused.

        An error in the middle of a stream is Refused too. Closing the generator closes the connection,
        which makes the server stop.
        """
        async with contextlib.aclosing(self.events("POST", path, json=body)) as events:
            async for event in events:
                yield event.data

    async def events(self, method: str, path: str, **more: Any) -> AsyncGenerator[Event]:
        """The same with the id of each event. ``more`` is what aiohttp makes a request of."""
        async with self._opened(method, path, **more) as response:
            id: str | None = None
            async for line in response.content:
                field, _, value = line.partition(b":")
                if field == b"id":
                    id = value.strip().decode()
                if field != b"data":
                    continue
                if value.strip() == b"[DONE]":
                    return
                data: dict[str, Any] = json.loads(value)
                if data.get("error"):
                    raise Refused(response.status, _message(data))
                yield Event(id, data)

    async def delete(self, path: str) -> None:
        """Raises NoServer or Refused."""
        async with self._opened("DELETE", path):
            pass

    async def models(self) -> list[str]:
        """The names of what the server offers; at least one. Raises NoServer or Refused."""
        found = await self.get("/v1/models")
        try:
            names = [str(model["id"]) for model in found["data"]]
        except (KeyError, TypeError):
            names = []
        if not names:
            raise Refused(200, f"{self.url} offers no model at /v1/models")
        return names

    async def first_model(self) -> str:
        """The name of the first model that the server offers."""
        return (await self.models())[0]

    def _opened(self, method: str, path: str, **more: Any) -> _Opened:
        assert self._session is not None, "use the client in `async with`"
        return _Opened(self._session, method, self.url + path, more)


class _Opened:
    """One response that is known to be good, for an ``async with``."""

    def __init__(self, session: aiohttp.ClientSession, method: str, url: str, more: Mapping[str, Any]) -> None:
        self._session, self._method, self._url, self._more = session, method, url, more

    async def __aenter__(self) -> aiohttp.ClientResponse:
        try:
            self._response = await self._session.request(self._method, self._url, **self._more)
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise NoServer(f"no server answers at {self._url}: {error}") from error
        except aiohttp.InvalidURL:
            raise NoServer(f"{self._url} is no URL: write for example http://127.0.0.1:30000") from None
        if self._response.status >= 400:
            raise Refused(self._response.status, _message(await _body(self._response)))
        return self._response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._response.release()
        else:
            self._response.close()


async def _json(response: aiohttp.ClientResponse) -> Any:
    """What is no JSON comes from no server of this kind, whatever its status."""
    try:
        return json.loads(await response.read())
    except ValueError as error:
        raise Refused(response.status, f"{response.url} answers with something that is not JSON") from error


async def _body(response: aiohttp.ClientResponse) -> Any:
    text = await response.text()
    try:
        return json.loads(text)
    except ValueError:
        return text


def _message(body: Any) -> str:
    """What an error object of OpenAI's shape, or anything else, says."""
    if isinstance(body, dict):
        error = body.get("error", body)
        if isinstance(error, dict) and "message" in error:
            return str(error["message"])
        return str(error)
    return str(body).strip()[:500] or "no explanation"
