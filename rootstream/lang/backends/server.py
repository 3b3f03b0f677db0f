"""Our own server as who answers: deltas against contexts that it keeps.

What a program said before is named by its parent, not sent again. Where the server has lost a parent, what was said up
to it is sent once more, for all who go on from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from rootstream.lang.backends import wire
from rootstream.lang.backends.asking import Asker
from rootstream.lang.backends.parents import Parents
from rootstream.lang.backends.streamed import Streamed
from rootstream.lang.calls import Call, CallError, OnPiece, Outcome
from rootstream.lang.tracing.notes import note
from shared.config import client_environment

_PATH = "/v1/contexts"
_LOST = "context_not_found"
_LOSSES = 4  # of one call's parent, after which the server is taken to keep nothing
_RELEASE_S = 0.5  # how long a release waits for a call that takes it along
_RELEASE_IDS = 100  # in one request
_PENDING = 10_000  # ids: more are left to their expiry
_FAREWELL_S = 0.5

OnAnswer = Callable[[Mapping[str, Any], Mapping[str, Any]], None]
"""Told the body of each request that was answered, and of its answer, as the wire has them."""


class Server:
    """A rootstream server. Used from one event loop at a time; after `close` from another."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        model: str | None = None,
        *,
        patience: float = 120.0,
        connections: int = 1000,
        tls: ssl.SSLContext | None = None,
        extra: Mapping[str, Any] | None = None,
        on_answer: OnAnswer | None = None,
    ) -> None:
        """By default the server and key that ROOTSTREAM_URL and ROOTSTREAM_API_KEY name, else http://127.0.0.1:30000.

        ``patience``: seconds for which a call is made again while the server is away or has too much to do, where the
        call's own time-out does not end it before. ``extra``: fields of every request, such as `priority`, `user` or
        `cache_salt`. Raises ValueError for what is no URL, no key, or no extra field.
        """
        if url is None or api_key is None:
            given = client_environment()
            url, api_key = url or given.url, api_key or given.api_key
        if clash := wire.FIELDS & set(extra or ()):
            raise ValueError(f"extra: {', '.join(sorted(clash))}: set by the language itself")
        self._asker = Asker(url, api_key, self.close, patience=patience, connections=connections, tls=tls)
        self._model = model
        self._extra = wire.encode(extra)[1:] if extra else b"}"
        self._on_answer = on_answer
        self._parents = Parents()
        self._pending: dict[str, None] = {}  # released, and the server is not told yet
        self._timer: asyncio.TimerHandle | None = None
        self._telling: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return self._asker.url

    async def run(self, call: Call, on_piece: OnPiece | None = None) -> Outcome:
        """Raises CallError; `code` is "timeout" where the call's time was over. Cancelling it ends it at the server."""
        parent = self._parents.name(call.parent)
        release = (*self._parents.forget(call.release), *self._some_pending())
        try:
            if call.timeout is None:
                return await self._on(parent, call, release, on_piece, None)
            until = asyncio.get_running_loop().time() + call.timeout
            async with asyncio.timeout_at(until):
                return await self._on(parent, call, release, on_piece, until)
        except TimeoutError:
            self._release_later((call.id, *release))
            raise CallError(f"no answer within {call.timeout:g} s", code="timeout") from None
        except BaseException as error:
            mine = (call.id,) if isinstance(error, asyncio.CancelledError) else ()
            self._release_later((*mine, *release))
            raise

    async def release(self, ids: Sequence[str]) -> None:
        """Told with the next call, or by itself after half a second."""
        self._release_later(self._parents.forget(tuple(ids)))

    async def count_tokens(self, text: str) -> int:
        """Of a text as it is. Raises CallError."""
        body = {"prompt": text, "add_special_tokens": False}
        if self._model is not None:
            body["model"] = self._model
        answer = await self._asker.post("/tokenize", wire.encode(body))
        return int(msgspec.json.decode(answer.body)["count"])

    async def close(self) -> None:
        """Tell the server what was released, if it hears it, and let go of connections."""
        self._parents.close()
        self._tell_released()
        if self._telling:
            await asyncio.wait(self._telling, timeout=_FAREWELL_S)
        for task in self._telling:
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)
        self._asker.close()
        self._parents = Parents()
        await asyncio.sleep(0)  # what was closed is told so in the loop's next round, which may be its last

    async def _on(
        self,
        parent: str | None,
        call: Call,
        release: tuple[str, ...],
        on_piece: OnPiece | None,
        until: float | None,
    ) -> Outcome:
        """Make the call on its parent, under the name that it has now; and that again where the server has lost it."""
        streamed = Streamed(on_piece) if call.stream else None
        for _ in range(_LOSSES):
            try:
                request = wire.request(call, self._model, parent, release)
                outcome = await self._ask(request, streamed, until)
                return outcome if request.parts is call.parts else wire.as_called(outcome, call)
            except CallError as error:
                if error.code != _LOST or call.parent is None or parent is None:
                    raise
            note("lost context")
            parent = await self._parents.made(call.parent, parent, lambda: self._say_again(call))
        raise CallError(f"{self.url} loses contexts as fast as they are made: is its Redis short of memory?")

    async def _say_again(self, call: Call) -> str:
        """Make the parent of a call anew, under a new name."""
        history = Call(
            id=new_id(),
            parts=tuple(call.history()),
            tools=call.tools,
            template_kwargs=call.template_kwargs,
            group=call.group,
        )
        await self._ask(wire.request(history, self._model, None, ()), None, None)
        return history.id

    async def _ask(self, request: wire.Request, streamed: Streamed | None, until: float | None) -> Outcome:
        """One request, the same bytes at each attempt: by its id the server knows that it is the same."""
        body = self._body(request)
        begin = None if streamed is None else streamed.begin
        try:
            answer = await self._asker.post(_PATH, body, until=until, begin=begin)
        except CallError as error:
            if error.status in (404, 405) and error.code is None:
                message = f"{self.url} has no {_PATH}: for a server that is not rootstream use OpenAI(url) as backend"
                raise CallError(message, error.status) from error
            raise
        found = answer.body if streamed is None else streamed.body
        if self._on_answer is not None:
            self._on_answer(msgspec.json.decode(body), msgspec.json.decode(found))
        try:
            return wire.decode_context(found).outcome()
        except msgspec.MsgspecError as error:
            raise CallError(f"the answer of {self.url} is not understood: {error}", 200) from error

    def _body(self, request: wire.Request) -> bytes:
        body = wire.encode(request)
        return body if len(self._extra) == 1 else b"%b,%b" % (body[:-1], self._extra)

    # What nobody goes on from

    def _release_later(self, ids: tuple[str, ...]) -> None:
        if not ids:
            return
        self._pending |= dict.fromkeys(ids[: max(_PENDING - len(self._pending), 0)])
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_RELEASE_S, self._tell_released)

    def _some_pending(self) -> tuple[str, ...]:
        if not self._pending:
            return ()
        some = tuple(self._pending)[:_RELEASE_IDS]
        for id in some:
            del self._pending[id]
        return some

    def _tell_released(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while some := self._some_pending():
            task = asyncio.create_task(self._tell(some))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell(self, ids: tuple[str, ...]) -> None:
        request = wire.Request(parts=(), keep=False, release=ids, model=self._model)
        with contextlib.suppress(CallError):
            await self._asker.post(_PATH, self._body(request))


def new_id() -> str:
    """A name for a context that nobody guesses."""
    return secrets.token_urlsafe(18)
