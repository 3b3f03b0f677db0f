"""Everything but generation: health, models and aborting for clients, metrics and the cache for operators."""

from __future__ import annotations

import importlib.metadata
import re
from typing import Any

import msgspec
from aiohttp import web

from tokenizer_svc.access.guard import identity_of
from tokenizer_svc.api_error import ApiError, invalid, of_validation
from tokenizer_svc.body import read_object
from tokenizer_svc.engine import Engine
from tokenizer_svc.openai import check_model
from tokenizer_svc.prompts import context_of
from tokenizer_svc.rendering import ANSWER_PREFIX

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
EXTERNAL_ID = f"{ANSWER_PREFIX}?(?:[0-9a-f]{{16}})"
"""The id of an answer, as a pattern: all of it, so that no id is the beginning of another."""

_EXTERNAL_ID = re.compile(EXTERNAL_ID)


class AbortRequest(msgspec.Struct):
    """POST /abort_request: one of the two."""

    request_id: str | None = None
    rid: str | None = None  # as SGLang calls it


class PublicRoutes:
    """What clients may ask besides text."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/health", self.health)
        router.add_get("/ready", self.ready)
        router.add_get("/v1/models", self.models)
        router.add_get("/v1/models/{model:.+}", self.model)
        router.add_post("/abort_request", self.abort_request)

    async def health(self, request: web.Request) -> web.Response:
        """Whether this process is up; to those with a key also what it knows of the others."""
        stopping = self._engine.is_stopping
        missing = self._engine.missing()
        status = "stopping" if stopping else "loading" if missing else "ok"
        body: dict[str, Any] = {"status": status}
        if identity_of(request).is_known:
            body |= {"missing": missing, "processes": self._engine.states()}
        return _json(body, 503 if stopping else 200)

    async def ready(self, request: web.Request) -> web.Response:
        """Whether requests can be served now; to those with a key also what is missing."""
        missing = self._engine.missing()
        headers = {"Retry-After": str(self._engine.limits.unready_retry_after_s)} if missing else {}
        body: dict[str, Any] = {"ready": not missing}
        if identity_of(request).is_known:
            body["missing"] = missing
        return _json(body, 503 if missing else 200, headers)

    async def models(self, request: web.Request) -> web.Response:
        """The one model, once for each of its names."""
        del request
        return _json({"object": "list", "data": [self._model(name) for name in self._engine.models]})

    async def model(self, request: web.Request) -> web.Response:
        """The one model, by one of its names."""
        name = request.match_info["model"]
        check_model(name, self._engine)
        return _json(self._model(name))

    async def abort_request(self, request: web.Request) -> web.Response:
        """End a request, on whichever front door it runs; one that is over already is no error.

        Tenants end their own. What is somebody else's is as if it were over.
        """
        asked = _asked_id(await read_object(request, self._engine.limits))
        who = identity_of(request)
        await self._engine.abort(asked, None if who.is_operator else who.tenant)
        return _json({"success": True})

    def _model(self, name: str) -> dict[str, Any]:
        model = {"id": name, "object": "model", "created": self._engine.created, "owned_by": "rootstream"}
        try:
            card = self._engine.ready_card()
        except ApiError:  # the worker has not said yet
            return model
        return {**model, "max_model_len": context_of(card)}


class OperatorRoutes:
    """What only those who run the server may ask."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/metrics", self.metrics)
        router.add_get("/server_info", self.server_info)
        router.add_route("GET", "/flush_cache", self.flush_cache)
        router.add_post("/flush_cache", self.flush_cache)

    async def metrics(self, request: web.Request) -> web.Response:
        """The metrics of all processes."""
        del request
        return web.Response(body=await self._engine.exposition(), headers={"Content-Type": _PROMETHEUS})

    async def server_info(self, request: web.Request) -> web.Response:
        """What runs here, with which limits."""
        routes = sorted({resource.canonical for resource in request.app.router.resources()})
        version = importlib.metadata.version("rootstream")
        return _json({"version": version, **self._engine.info(), "routes": routes})

    async def flush_cache(self, request: web.Request) -> web.Response:
        """Drop the cached pages that no running request holds."""
        del request
        return _json({"success": True, "pages": await self._engine.flush()})


def _asked_id(body: dict[str, Any]) -> int:
    """Which request to end. Raises ApiError 400."""
    try:
        asked = msgspec.convert(body, AbortRequest)
    except msgspec.ValidationError as error:
        raise of_validation(error) from error
    if asked.request_id is not None and asked.rid is not None:
        raise invalid("request_id and rid are the same field: send one of them", "rid")
    name = "rid" if asked.request_id is None else "request_id"
    found = _EXTERNAL_ID.fullmatch(asked.request_id or asked.rid or "")
    if found is None:
        raise invalid(f"{name} must be the id of an answer, such as chatcmpl-0123456789abcdef", name)
    return int(found[0][-16:], 16)


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json", headers=headers)
