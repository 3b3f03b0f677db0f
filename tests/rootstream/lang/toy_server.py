"""A small server of contexts and of OpenAI's API over the toy model, which fails on demand.

For tests of clients: what matters is what they send and what they make of losses, refusals and cut connections. Our
front door has tests of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.rootstream.lang import toy_model

Body = dict[str, Any]


@dataclass
class Context:
    """What is kept under an id."""

    text: str
    kind: str | None  # raw, chat, or None as long as nothing is said
    is_open: bool
    body: Body
    answer: Body


@dataclass
class Refusal:
    """An answer with this status instead of the right one."""

    status: int
    headers: dict[str, str] = field(default_factory=dict[str, str])
    code: str | None = None
    message: str = "not now"


@dataclass
class Cut:
    """The right answer, of which only so many bytes arrive; the server has done its work."""

    after: int


@dataclass
class Lose:
    """The server forgets all contexts, and then answers."""


Fault = Refusal | Cut | Lose


class Wrong(Exception):
    """A request that the server refuses."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}


class ToyServer:
    """Everything it is asked stands in ``bodies``; ``faults`` befall the next requests, one each."""

    def __init__(self, *, key: str | None = None, delay: float = 0.0) -> None:
        self.bodies: list[Body] = []
        self.faults: deque[Fault | None] = deque()
        self.contexts: dict[str, Context] = {}
        self.released: list[str] = []
        self.delay = delay
        self.owner = "somebody"
        self.running = 0
        self.most_running = 0
        self.connections = 0
        self.cancelled = 0
        self.computed = 0  # calls that were not answered from what was kept
        self.refuses: Callable[[Body], Wrong | None] = lambda _: None
        self._key = key

    def application(self) -> web.Application:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/contexts", self._contexts)
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/tokenize", self._tokenize)
        return app

    def of(self, path: str) -> list[Body]:
        """The bodies that came to one path, without those that only released something."""
        return [body for body in self.bodies if body["path"] == path and (body.get("parts") != [] or "id" in body)]

    # Routes

    async def _contexts(self, request: web.Request) -> web.StreamResponse:
        return await self._answered(request, self._call)

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._answered(request, self._completion)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answered(request, self._chat_completion)

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "toy", "object": "model", "owned_by": self.owner}]})

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        return web.json_response({"count": len(body["prompt"].split()), "tokens": []})

    async def _answered(self, request: web.Request, answer: Callable[[Body], list[Body]]) -> web.StreamResponse:
        """``answer`` gives the events of a stream, of which the last is the whole answer."""
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self._faulty(request, answer)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def _faulty(self, request: web.Request, answer: Callable[[Body], list[Body]]) -> web.StreamResponse:
        if self._key is not None and request.headers.get("Authorization") != f"Bearer {self._key}":
            return _refused(Wrong(401, "who are you", code="invalid_api_key"))
        body = json.loads(await request.read())
        self.bodies.append({"path": request.path, **body})
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, Lose):
            self.contexts.clear()
        if isinstance(fault, Refusal):
            error = {"message": fault.message, "type": "error", "param": None, "code": fault.code}
            return web.json_response({"error": error}, status=fault.status, headers=fault.headers)
        if self.delay:
            await asyncio.sleep(self.delay)
        try:
            if wrong := self.refuses(body):
                raise wrong
            events = answer(body)
        except Wrong as wrong:
            return _refused(wrong)
        if isinstance(fault, Cut):
            return await _cut(request, _raw(events, streamed=bool(body.get("stream"))), fault.after)
        if not body.get("stream"):
            return web.json_response(events[-1])
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await response.write(_event(event))
            await asyncio.sleep(0)
        await response.write(b"data: [DONE]\n\n")
        return response

    # Contexts

    def _call(self, body: Body) -> list[Body]:
        events = self._computed(body)
        self.released += body.get("release", ())
        for id in body.get("release", ()):
            self.contexts.pop(id, None)
        return events

    def _computed(self, body: Body) -> list[Body]:
        id, parent = body.get("id"), body.get("parent")
        kept = self.contexts.get(id) if id else None
        if kept is not None:
            if kept.body != body:
                raise Wrong(409, f"{id} is the id of another call", "id", "conflict")
            return [kept.answer]
        if parent is not None and parent not in self.contexts:
            raise Wrong(404, f"{parent} is not known here", "parent", "context_not_found")
        if parent is not None and body.get("tools"):
            raise Wrong(400, "tools belong to the root", "tools")
        self.computed += 1
        before = self.contexts.get(parent) if parent else None
        now = (
            Context(before.text, before.kind, before.is_open, body, {})
            if before
            else Context("", None, False, body, {})
        )
        events, results, drawn = [], [], 0
        for at, part in enumerate(body["parts"]):
            result = _append(now, at, part)
            if result is None:
                continue
            results.append(result)
            drawn += result.get("completion_tokens", 0)
            if part["type"] == "gen":
                pieces = [f" {word}" for word in result["text"].split()]
                pieces = pieces if "".join(pieces) == result["text"] else [result["text"]]
                events += [{"id": id, "part": at, "name": part["name"], "delta": piece} for piece in pieces]
            events.append({"id": id, "part": at, "result": result})
        read = len(now.text.split()) - drawn
        details = {"cached_tokens": len(before.text.split()) if before else 0}
        usage = {"prompt_tokens": read, "completion_tokens": drawn, "prompt_tokens_details": details}
        now.answer = {"id": id, "object": "context", "model": "toy", "parent": parent, "parts": results, "usage": usage}
        if id:
            self.contexts[id] = now
        return [*events, now.answer]

    # OpenAI's API

    def _completion(self, body: Body) -> list[Body]:
        prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        if body.get("echo"):
            choices = [_echo(at, prompt) for at, prompt in enumerate(prompts)]
            return [{"object": "text_completion", "choices": choices, "usage": _usage(" ".join(prompts), 0)}]
        gen, (prompt,) = _gen(body), prompts
        drawn = [toy_model.generate(prompt, gen, index) for index in range(body.get("n") or 1)]
        choices = [
            {"index": at, "text": text.text, "finish_reason": text.finish_reason, "matched_stop": text.matched_stop}
            for at, text in enumerate(drawn)
        ]
        usage = _usage(prompt, sum(text.words for text in drawn))
        whole = {"object": "text_completion", "choices": choices, "usage": usage}
        return _chunks(choices, usage, "text") if body.get("stream") else [whole]

    def _chat_completion(self, body: Body) -> list[Body]:
        *before, last = body["messages"]
        text = "".join(f"<{message['role']}>{message['content']}</>" for message in before)
        text += f"<{last['role']}>{last['content']}"
        text += "" if body.get("continue_final_message") else "</><assistant>"
        drawn = [toy_model.generate(text, _gen(body), index) for index in range(body.get("n") or 1)]
        choices = [
            {"index": at, "message": {"role": "assistant", "content": text.text}, "finish_reason": text.finish_reason}
            for at, text in enumerate(drawn)
        ]
        usage = _usage(text, sum(text.words for text in drawn))
        whole = {"object": "chat.completion", "choices": choices, "usage": usage}
        return _chunks(choices, usage, "content") if body.get("stream") else [whole]


def _append(now: Context, at: int, part: Body) -> Body | None:
    """Add a part to a context; the result of a gen or select."""
    kind = part["type"]
    chat = kind in ("open", "close", "message") or (now.kind == "chat" and now.is_open)
    if now.kind is not None and now.kind != ("chat" if chat else "raw"):
        raise Wrong(400, f"parts[{at}]: text outside of messages in a chat", f"parts[{at}]")
    now.kind = "chat" if chat else "raw"
    match kind:
        case "text":
            now.text += part["text"]
        case "open":
            now.text, now.is_open = f"{now.text}<{part['role']}>", True
        case "close":
            now.text, now.is_open = f"{now.text}</>", False
        case "message":
            now.text += f"<{part['message']['role']}>{part['message']['content']}</>"
        case "gen":
            drawn = [toy_model.generate(now.text, part, index) for index in range(part.get("n", 1))]
            now.text += drawn[0].text
            return {
                "part": at,
                "type": "gen",
                "name": part["name"],
                "text": drawn[0].text,
                "finish_reason": drawn[0].finish_reason,
                "matched_stop": drawn[0].matched_stop,
                "completion_tokens": sum(one.words for one in drawn),
            } | ({"texts": [one.text for one in drawn]} if len(drawn) > 1 else {})
        case "select":
            scores = toy_model.scores(now.text, part["choices"])
            best = scores.index(max(scores))
            now.text += part["choices"][best]
            found = {"part": at, "type": "select", "name": part["name"], "index": best, "scores": scores}
            return found | {"text": part["choices"][best]}
        case _:
            raise Wrong(400, f"parts[{at}]: there is no {kind} here", f"parts[{at}].type")
    return None


def _gen(body: Body) -> Body:
    """A request of OpenAI's API as a gen part."""
    format = (body.get("response_format") or {}).get("json_schema") or {}
    return {**body, "json_schema": format.get("schema"), "choices": body.get("choice")}


def _echo(at: int, prompt: str) -> Body:
    """A text with a log-probability for each character, so that offsets are easy; only the last ones count."""
    names, values = (
        list(prompt),
        [None, *(toy_model.scores(prompt[:end], [prompt[end]])[0] for end in range(1, len(prompt)))],
    )
    logprobs = {"tokens": names, "token_logprobs": values, "text_offset": list(range(len(prompt)))}
    return {"index": at, "text": prompt, "finish_reason": "length", "logprobs": logprobs}


def _usage(text: str, drawn: int) -> Body:
    return {"prompt_tokens": len(text.split()), "completion_tokens": drawn}


def _chunks(choices: list[Body], usage: Body, field: str) -> list[Body]:
    """A stream: each text word by word, then how it ended, then the usage."""
    chunks: list[Body] = []
    for choice in choices:
        text = choice["text"] if field == "text" else choice["message"]["content"]
        pieces = text.split(" ")
        for at, piece in enumerate(pieces):
            piece = piece if at == 0 else f" {piece}"
            said = {"text": piece} if field == "text" else {"delta": {"content": piece}}
            chunks.append({"choices": [{"index": choice["index"], **said, "finish_reason": None}]})
        said = {"text": ""} if field == "text" else {"delta": {}}
        chunks.append({"choices": [{"index": choice["index"], **said, "finish_reason": choice["finish_reason"]}]})
    return [*chunks, {"choices": [], "usage": usage}]


def _refused(wrong: Wrong) -> web.Response:
    return web.json_response({"error": wrong.error}, status=wrong.status)


def _event(value: Body) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def _raw(events: list[Body], *, streamed: bool) -> bytes:
    """The answer as it is on the wire."""
    if not streamed:
        body = json.dumps(events[-1]).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    chunks = [*map(_event, events), b"data: [DONE]\n\n", b""]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


async def _cut(request: web.Request, raw: bytes, after: int) -> web.StreamResponse:
    """Send the beginning of an answer, and no more."""
    transport = request.transport
    assert transport is not None
    transport.write(raw[:after])
    transport.close()
    return web.Response()


@contextlib.asynccontextmanager
async def serving(server: ToyServer) -> AsyncGenerator[str]:
    """Run it; the value is its URL."""
    runner = web.AppRunner(server.application(), handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
