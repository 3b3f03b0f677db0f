"""Whether an exchange is as the published descriptions say, and as clients rely on.

The descriptions are the typed models of the openai and anthropic packages, made from these APIs' OpenAPI documents.
They are read strictly: no number for a string, no unknown value of an enumeration, nothing required left out. Unknown
fields are allowed, as clients allow them. What no model can say (the order of chunks) is written out here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import pydantic
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from openai.types import Completion, CompletionChoice, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.completion_choice import Logprobs
from openai.types.responses import Response, ResponseStreamEvent

from tests.clients.exchanges import Event, Exchange, events

DONE = "[DONE]"


class _TextScores(Logprobs):
    """With ``echo`` nothing stands before the first token: OpenAI answers null there, which the model leaves out."""

    token_logprobs: list[float | None] | None = None  # type: ignore[assignment]
    top_logprobs: list[dict[str, float] | None] | None = None  # type: ignore[assignment]


class _TextChoice(CompletionChoice):
    logprobs: _TextScores | None = None


class _Text(Completion):
    choices: list[_TextChoice]  # type: ignore[assignment]


class _TextChoiceOfChunk(_TextChoice):
    """The package has no model of a completion's chunks: they are completions whose choices may go on."""

    finish_reason: Literal["stop", "length", "content_filter"] | None  # type: ignore[assignment]


class _TextChunk(Completion):
    choices: list[_TextChoiceOfChunk]  # type: ignore[assignment]


def faults(exchange: Exchange) -> list[str]:
    """What is wrong with an exchange, in words; nothing if all is well."""
    judge = _judge_of(exchange)
    if judge is None:
        return []
    if exchange.status >= 400:
        return list(_anthropic_error(exchange) if exchange.path.startswith("/v1/messages") else _error(exchange.answer))
    return list(judge(exchange))


def _judge_of(exchange: Exchange) -> Callable[[Exchange], Iterator[str]] | None:
    if exchange.path.startswith("/v1/models/"):
        return _model
    if exchange.path.startswith("/v1/responses/") and exchange.method == "GET" and "/input_items" not in exchange.path:
        return _response
    return _JUDGES.get(exchange.path)


def _against(kind: Any, text: str | bytes) -> Iterator[str]:
    """Faults of a JSON text as a value of a typed model."""
    try:
        pydantic.TypeAdapter(kind).validate_json(text, strict=True)
    except pydantic.ValidationError as error:
        yield f"{error} in {text!r}"


def _error(answer: bytes) -> Iterator[str]:
    try:
        error = json.loads(answer)["error"]
    except (ValueError, KeyError, TypeError):
        yield f"an error without OpenAI's shape: {answer!r}"
        return
    for field, kinds in (("message", str), ("type", str), ("param", str | None), ("code", str | None)):
        if field not in error:
            yield f"error.{field} is missing"
        elif not isinstance(error[field], kinds):
            yield f"error.{field} is {error[field]!r}"


def _chat(exchange: Exchange) -> Iterator[str]:
    if not exchange.streamed:
        yield from _against(ChatCompletion, exchange.answer)
        return
    found = list(events(exchange.answer))
    yield from _chunks(exchange, found, ChatCompletionChunk)
    opened: set[int] = set()
    for chunk in _bodies(found):
        for choice in chunk.get("choices", ()):
            first = choice["index"] not in opened
            opened.add(choice["index"])
            if first != (choice["delta"].get("role") == "assistant"):
                yield f"the role is on the first chunk of a choice and nowhere else: {choice}"
            yield from _tool_deltas(choice["delta"].get("tool_calls") or ())
    yield from _tool_beginnings(found)


def _tool_deltas(calls: Sequence[dict[str, Any]]) -> Iterator[str]:
    for call in calls:
        if not isinstance(call.get("index"), int):
            yield f"a piece of a tool call without its index: {call}"


def _tool_beginnings(found: Sequence[Event]) -> Iterator[str]:
    """The first piece of a call names it, the others only add to its arguments."""
    begun: set[tuple[int, int]] = set()
    for chunk in _bodies(found):
        for choice in chunk.get("choices", ()):
            for call in choice["delta"].get("tool_calls") or ():
                key = choice["index"], call["index"]
                named = bool(call.get("id")) and call.get("type") == "function" and bool(call["function"].get("name"))
                if named == (key in begun):
                    yield f"id, type and name belong to the first piece of a call: {call}"
                begun.add(key)


def _completion(exchange: Exchange) -> Iterator[str]:
    if exchange.streamed:
        yield from _chunks(exchange, list(events(exchange.answer)), _TextChunk)
    else:
        yield from _against(_Text, exchange.answer)
        for choice in json.loads(exchange.answer)["choices"]:
            scores = (choice["logprobs"] or {}).get("token_logprobs") or []
            if None in scores[bool(exchange.asked.get("echo")) :]:
                yield "a token without a log-probability that is not the first of an echoed prompt"


def _chunks(exchange: Exchange, found: Sequence[Event], kind: Any) -> Iterator[str]:
    """The rules for streams of both APIs: chunks that belong together, one finish, usage last, ``[DONE]``."""
    if exchange.broken_off:
        found = [event for event in found if event.data != DONE]
    elif not found or found[-1].data != DONE:
        yield "the stream does not end in [DONE]"
    if any(event.data == DONE for event in found[:-1]):
        yield "[DONE] is not the last event"
    if any(event.name is not None for event in found):
        yield "an event has a name"
    bodies = _bodies(found)
    for event in found:
        if event.data != DONE and "error" not in json.loads(event.data):
            yield from _against(kind, event.data)
    if any("error" in body for body in bodies):
        yield f"an error in the stream: {bodies[-1]}"
        return
    for field in ("id", "object", "created", "model"):
        if len({body.get(field) for body in bodies}) > 1:
            yield f"{field} changes within the stream"
    yield from _finishes(exchange, bodies)
    yield from _usages(exchange, bodies)


def _finishes(exchange: Exchange, bodies: Sequence[dict[str, Any]]) -> Iterator[str]:
    finished: set[int] = set()
    seen: set[int] = set()
    for body in bodies:
        for choice in body["choices"]:
            seen.add(choice["index"])
            if choice["index"] in finished:
                yield f"a chunk after the finish of its choice: {choice}"
            if choice["finish_reason"] is not None:
                finished.add(choice["index"])
    if not exchange.broken_off and finished != seen:
        yield f"choices without a finish_reason: {seen - finished}"


def _usages(exchange: Exchange, bodies: Sequence[dict[str, Any]]) -> Iterator[str]:
    options = exchange.asked.get("stream_options") or {}
    if not options.get("include_usage"):
        if any(body.get("usage") is not None for body in bodies):
            yield "usage that nobody asked for"
        return
    if not all("usage" in body for body in bodies):
        yield "usage was asked for, and is missing in a chunk"
    if exchange.broken_off or not bodies:
        return
    if bodies[-1]["usage"] is None or bodies[-1]["choices"] != []:
        yield "the last chunk is not the one with usage and no choices"
    if not options.get("continuous_usage_stats") and any(body.get("usage") is not None for body in bodies[:-1]):
        yield "usage before the last chunk"


def _bodies(found: Sequence[Event]) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in found if event.data != DONE]


def _models(exchange: Exchange) -> Iterator[str]:
    body = json.loads(exchange.answer)
    if body.get("object") != "list" or not body.get("data"):
        yield f"no list of models: {body}"
        return
    for model in body["data"]:
        yield from _against(Model, json.dumps(model))


def _model(exchange: Exchange) -> Iterator[str]:
    yield from _against(Model, exchange.answer)


def _embeddings(exchange: Exchange) -> Iterator[str]:
    if (
        exchange.asked.get("encoding_format") != "base64"
    ):  # which the models do not describe: strings in place of numbers
        yield from _against(CreateEmbeddingResponse, exchange.answer)


def _response(exchange: Exchange) -> Iterator[str]:
    """Events are numbered from 0, named after their types, and end in the whole response."""
    if not exchange.streamed:
        yield from _against(Response, exchange.answer)
        return
    found = list(events(exchange.answer))
    for number, event in enumerate(found):
        body = json.loads(event.data)
        if event.name != body["type"]:
            yield f"the event {event.name} has the type {body['type']}"
        if body["sequence_number"] != number:
            yield f"event {number} has the number {body['sequence_number']}"
        yield from _against(ResponseStreamEvent, event.data)
    if found and found[0].name != "response.created":
        yield f"the first event is {found[0].name}"
    ends = ("response.completed", "response.incomplete", "response.failed")
    if not exchange.broken_off and (not found or found[-1].name not in ends):
        yield f"the last event is {found[-1].name if found else None}"


def _message(exchange: Exchange) -> Iterator[str]:
    """Each event has its type on its ``event:`` line; blocks open and close one after the other."""
    if not exchange.streamed:
        yield from _against(Message, exchange.answer)
        return
    found = [event for event in events(exchange.answer) if event.name != "ping"]
    names = [event.name for event in found]
    for event in found:
        if event.name != json.loads(event.data)["type"]:
            yield f"the event {event.name} has another type in {event.data}"
        yield from _against(RawMessageStreamEvent, event.data)
    if names[:1] != ["message_start"]:
        yield f"the first event is {names[:1]}"
    if not exchange.broken_off and names[-2:] != ["message_delta", "message_stop"]:
        yield f"the last events are {names[-2:]}"
    yield from _blocks(found)


def _blocks(found: Sequence[Event]) -> Iterator[str]:
    opened, following = None, 0
    for event in found:
        index = json.loads(event.data).get("index")
        if event.name == "content_block_start":
            if opened is not None or index != following:
                yield f"block {index} starts while {opened} is open, {following} would follow"
            opened, following = index, following + 1
        elif event.name in ("content_block_delta", "content_block_stop"):
            if index != opened:
                yield f"{event.name} of block {index}, and {opened} is open"
            opened = None if event.name == "content_block_stop" else opened


def _counted(exchange: Exchange) -> Iterator[str]:
    yield from _against(MessageTokensCount, exchange.answer)


def _anthropic_error(exchange: Exchange) -> Iterator[str]:
    body = json.loads(exchange.answer)
    error = body.get("error", {})
    if body.get("type") != "error" or not isinstance(error.get("type"), str) or not error.get("message"):
        yield f"an error without Anthropic's shape: {exchange.answer!r}"


_JUDGES: dict[str, Callable[[Exchange], Iterator[str]]] = {
    "/v1/chat/completions": _chat,
    "/v1/completions": _completion,
    "/v1/models": _models,
    "/v1/embeddings": _embeddings,
    "/v1/responses": _response,
    "/v1/messages": _message,
    "/v1/messages/count_tokens": _counted,
}
