"""The OpenAPI 3.1 document of this server, made from the structs that requests are decoded into.

It describes the routes that the application has, with the bounds that are enforced: nothing is written down twice but
what a route is for. Knows nothing of streams.
"""

from __future__ import annotations

import copy
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from tokenizer_svc import unsupported
from tokenizer_svc.access.gate import Audience, audience_of
from tokenizer_svc.admin import EXTERNAL_ID, AbortRequest, PauseRequest
from tokenizer_svc.anthropic_api.errors import MessagesErrorDocument, is_anthropic
from tokenizer_svc.anthropic_api.refused import REFUSED as ANTHROPIC
from tokenizer_svc.anthropic_api.request import MessagesCountRequest, MessagesRequest
from tokenizer_svc.anthropic_api.shapes import MessageReply, TokenCount
from tokenizer_svc.api_error import ErrorDocument
from tokenizer_svc.contexts.request import ID as CONTEXT_ID
from tokenizer_svc.contexts.request import (
    ClosePart,
    ContextRequest,
    GenPart,
    MessagePart,
    OpenPart,
    SelectPart,
    TextPart,
)
from tokenizer_svc.contexts.shapes import ContextAnswer, ContextBody, DroppedContext, Generated, Selected
from tokenizer_svc.embeddings import EmbeddingRequest, Embeddings
from tokenizer_svc.engine import Engine
from tokenizer_svc.generate import GenerateRequest
from tokenizer_svc.grammar.limits import LIMITS
from tokenizer_svc.limits import Limits
from tokenizer_svc.native_answers import Output
from tokenizer_svc.openai_bodies import Body, ChatChoice, TextChoice
from tokenizer_svc.openai_fields import ChatRequest, CompletionRequest
from tokenizer_svc.openapi_bounds import ENUMS, bounded, bounds, forms
from tokenizer_svc.openapi_meanings import explain
from tokenizer_svc.openapi_operations import EVENTS, JSON, OPERATIONS, Operation, ref
from tokenizer_svc.pages.routes import files
from tokenizer_svc.responses_api.refused import REFUSED as RESPONSES
from tokenizer_svc.responses_api.request import InputTokensRequest, ResponsesRequest
from tokenizer_svc.responses_api.shapes import DeletedResponse, InputTokens, ItemList, Response
from tokenizer_svc.resuming import Deleted, Ticket
from tokenizer_svc.scoring import LabelScores, ScoreRequest, TextScores
from tokenizer_svc.tokenising import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest

_PATH = "/openapi.json"
_STRUCTS = (
    *(
        ChatRequest,
        CompletionRequest,
        GenerateRequest,
        AbortRequest,
        ErrorDocument,
        Body,
        ChatChoice,
        TextChoice,
        Output,
    ),
    *(Ticket, Deleted),
    *(TokenizeRequest, Tokenized, DetokenizeRequest, Detokenized, PauseRequest),
    *(EmbeddingRequest, Embeddings, ScoreRequest, LabelScores, TextScores),
    *(ContextRequest, TextPart, OpenPart, ClosePart, MessagePart, GenPart, SelectPart, ContextAnswer, ContextBody),
    *(Generated, Selected, DroppedContext),
    *(ResponsesRequest, Response, DeletedResponse, ItemList, InputTokensRequest, InputTokens),
    *(MessagesRequest, MessagesCountRequest, MessageReply, TokenCount, MessagesErrorDocument),
)
_REFUSED = {
    "ChatRequest": unsupported.CHAT,
    "CompletionRequest": unsupported.COMPLETIONS,
    "GenerateRequest": unsupported.GENERATE,
    "SamplingParams": unsupported.SAMPLING_PARAMS,
    "TokenizeRequest": unsupported.TOKENIZE,
    "EmbeddingRequest": unsupported.EMBEDDINGS,
    "ScoreRequest": unsupported.SCORE,
    "ContextRequest": unsupported.CONTEXTS,
    "GenPart": unsupported.CONTEXT_GEN,
    "ResponsesRequest": RESPONSES,
    "InputTokensRequest": RESPONSES,
    "MessagesRequest": ANTHROPIC,
    "MessagesCountRequest": ANTHROPIC,
}

_ERRORS = {
    "400": "The request cannot be served as it is; the message says why, `param` which field",
    "401": "A key is needed",
    "403": "This key may not do that",
    "404": "There is no such route or model here",
    "405": "The route does not take this method; the header Allow names those it takes",
    "408": "The request did not arrive, or was not answered, in time",
    "409": "A context has this name already, or was let go while it was computed; or somebody aborted a part of it",
    "413": "The body is too large",
    "415": "The body is compressed",
    "421": "This server does not go by that name",
    "429": "The queue is full: Retry-After says when to try again",
    "500": "The server failed; its log has the reason under the answer's X-Request-Id",
    "503": "A process that is needed is missing: Retry-After says when to try again",
    "504": "The request's own timeout passed",
}
"""Every error of one API has one shape, whatever the route."""

Routes = frozenset[tuple[str, str]]
"""Methods and paths."""


def routes_of(app: web.Application) -> Routes:
    """What an application serves. HEAD goes with every GET and is not named."""
    return frozenset(
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    )


class OpenApiRoute:
    """GET /openapi.json."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._document: bytes | None = None

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get(_PATH, self.openapi)

    async def openapi(self, request: web.Request) -> web.Response:
        """The document of the application that is asked."""
        if self._document is None:
            self._document = msgspec.json.encode(
                document(routes_of(request.app), self._engine.limits, self._engine.models)
            )
        return web.Response(body=self._document, content_type=JSON)


def document(routes: Routes, limits: Limits, models: Sequence[str]) -> dict[str, Any]:
    """The whole document of a server of a model of these names. Raises KeyError for a route that openapi_operations.py
    lacks.
    """
    paths: dict[str, dict[str, Any]] = {}
    parameters = {
        "model": {"type": "string", "enum": [*models]},
        "id": _ID,
        "name": _PAGE_FILE,
        "context_id": _CONTEXT_ID,
    }
    for method, path in sorted(routes, key=lambda route: (route[1], route[0])):
        paths.setdefault(path, {})[method.lower()] = _operation(OPERATIONS[method, path], path, parameters)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "rootstream",
            "version": importlib.metadata.version("rootstream"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": (
                "Unknown fields of request bodies are ignored, as OpenAI's API does. Fields that other servers know "
                "and this one does not serve (`x-refused-fields`) are refused with a 400 that names them, unless "
                f"their value asks for nothing. Bodies may have {limits.body_bytes} bytes."
            ),
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(limits, models),
            "responses": {
                name: _error(text, document)
                for status, text in _ERRORS.items()
                for name, document in ((status, "ErrorDocument"), (f"messages-{status}", "MessagesErrorDocument"))
            },
            "securitySchemes": {scheme: _bearer(whose) for scheme, whose in _KEYS.values()},
        },
        "tags": [{"name": name} for name in sorted({operation.tag for operation in OPERATIONS.values()})],
    }


def _security(path: str) -> list[dict[str, list[str]]]:
    """Nothing, or the key of those whom a route is for."""
    audience = audience_of(path)
    return [] if audience is Audience.ANYONE else [{}, {_KEYS[audience].scheme: []}]


class _Key(NamedTuple):
    scheme: str
    whose: str


_KEYS = {
    Audience.TENANTS: _Key("key", "A client's, where the server was started with keys; the operators' will do, too"),
    Audience.OPERATORS: _Key("admin_key", "The operators', where the server was started with keys"),
}


def _bearer(whose: str) -> dict[str, str]:
    return {"type": "http", "scheme": "bearer", "description": whose}


def _operation(operation: Operation, path: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "security": _security(path),
        "responses": {"200": _answer(operation)}
        | {status: {"$ref": f"#/components/responses/{_error_name(status, path)}"} for status in _ERRORS},
    }
    if operation.later:
        later = "It goes on: where its answer will be"
        found["responses"]["202"] = {"description": later, "content": {JSON: {"schema": ref("Ticket")}}}
    if operation.may_be_503:
        found["responses"]["503"] = _answer(operation)
    if operation.request is not None:
        content: dict[str, Any] = {"schema": ref(operation.request)}
        if operation.example is not None:
            content["examples"] = {operation.id: {"value": operation.example}}
        found["requestBody"] = {"required": operation.is_request_required, "content": {JSON: content}}
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    in_path = [{"name": name, "in": "path", "required": True, "schema": parameters[name]} for name in names]
    if in_path or operation.parameters:
        found["parameters"] = [*in_path, *operation.parameters]
    return found


def _answer(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {operation.media: {"schema": operation.answer}}
    links = {"abort": _abort_link(operation.id_at)} if operation.id_at else {}
    if operation.streams:
        content[EVENTS] = {"schema": _EVENT}
    found = {"description": operation.summary, "content": content, "headers": {"X-Request-Id": _HEADER}}
    return {**found, "links": links} if links else found


def _abort_link(id_at: str) -> dict[str, Any]:
    return {"operationId": "abort", "requestBody": {"request_id": f"$response.body#{id_at}"}}


_EVENT = {
    "type": "object",
    "description": "An event: a piece of the answer as JSON, an error object, or `[DONE]` as the last of all",
    "required": ["data"],
    "properties": {"data": {"type": "string"}},
}
_HEADER = {"description": "The request's id: the client's own, or one made here", "schema": {"type": "string"}}


def _error_name(status: str, path: str) -> str:
    return f"messages-{status}" if is_anthropic(path) else status


def _error(text: str, document: str) -> dict[str, Any]:
    return {
        "description": text,
        "content": {JSON: {"schema": ref(document)}},
        "headers": {"X-Request-Id": _HEADER},
    }


def _schemas(limits: Limits, models: Sequence[str]) -> dict[str, Any]:
    _, found = msgspec.json.schema_components(_STRUCTS, ref_template="#/components/schemas/{name}")
    by_field = {**bounds(limits, LIMITS), "model": {"string": {"enum": [*models]}}}
    by_place = forms(limits)
    for name, schema in found.items():
        for field, value in schema.get("properties", {}).items():
            if form := by_place.get((name, field)):
                schema["properties"][field] = form
            elif options := ENUMS.get((name, field)):
                schema["properties"][field] = {**value, "enum": list(options)}
            elif (_is_request(name)) and field in by_field:
                schema["properties"][field] = bounded(value, by_field[field])
        if refused := _REFUSED.get(name):
            schema["x-refused-fields"] = dict(refused)
    body = found.pop("Body")
    schemas = {
        **found,
        "ChatCompletion": _completion(body, "chat.completion", "ChatChoice"),
        "TextCompletion": _completion(body, "text_completion", "TextChoice"),
        "Model": _MODEL,
        "Flushed": _FLUSHED,
        "AbortRequest": {**found["AbortRequest"], **copy.deepcopy(_ABORT_BY)},
    }
    explain(schemas, {operation.request for operation in OPERATIONS.values() if operation.request})
    return schemas


def _is_request(name: str) -> bool:
    return name in _REFUSED or name in ("StructuredOutputs", "Message", "DetokenizeRequest", "AbortRequest")


def _completion(body: Mapping[str, Any], kind: str, choice: str) -> dict[str, Any]:
    """The schema of an answer that is no stream."""
    properties = {
        **body["properties"],
        "object": {"const": kind},
        "choices": {"type": "array", "items": ref(choice)},
    }
    return {**body, "title": kind, "description": "A whole answer.", "properties": properties}


_MODEL = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": {"type": "string"},
        "root": {"type": "string"},
        "parent": {"type": "null"},
        "max_model_len": {"type": "integer", "minimum": 1},
    },
}
_FLUSHED = {
    "type": "object",
    "required": ["success", "pages"],
    "properties": {"success": {"const": True}, "pages": {"type": "integer", "minimum": 0}},
}
_PAGE_FILE = {"type": "string", "enum": sorted(files())}
_ID = {"type": "string", "pattern": f"^{EXTERNAL_ID}$"}
_CONTEXT_ID = {"type": "string", "pattern": f"^{CONTEXT_ID}$"}
_NAME, _NULL = {"type": "string", "minLength": 1}, {"type": "null"}
_NONE, _NOT = {"enum": [None, ""]}, {"enum": [None, False]}
_ABORT_BY = {
    "oneOf": [
        {"required": ["request_id"], "properties": {"request_id": _NAME, "rid": _NULL, "abort_all": _NOT}},
        {"required": ["rid"], "properties": {"rid": _NAME, "request_id": _NULL, "abort_all": _NOT}},
        {"required": ["abort_all"], "properties": {"request_id": _NULL, "rid": _NONE, "abort_all": {"const": True}}},
    ],
}
