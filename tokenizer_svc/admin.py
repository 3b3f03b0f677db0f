"""Everything but generation: health, models and aborting for clients; metrics, the cache and pausing for operators."""

from __future__ import annotations

import importlib.metadata
import re
from typing import Any

import msgspec
from aiohttp import web

from shared.protocol import PauseMode
from tokenizer_svc.access.guard import identity_of
from tokenizer_svc.api_error import ApiError, invalid
from tokenizer_svc.body import read_object
from tokenizer_svc.engine import Engine
from tokenizer_svc.limits import Limits
from tokenizer_svc.openai import check_model
from tokenizer_svc.probing import probe
from tokenizer_svc.prompts import context_of
from tokenizer_svc.rendering import ANSWER_PREFIX
from tokenizer_svc.replying import as_json, convert
from tokenizer_svc.sampling import Bounds

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
EXTERNAL_ID = f"{ANSWER_PREFIX}?(?:[0-9a-f]{{16}})"
"""The id of an answer, as a pattern: all of it, so that no id is the beginning of another."""

_EXTERNAL_ID = re.compile(EXTERNAL_ID)
_ABORT_MESSAGE = "the request was aborted"


class AbortRequest(msgspec.Struct):
    """POST /abort_request: one of the first three."""

    request_id: str | None = None
    rid: str | None = None  # as SGLang calls it
    abort_all: bool | None = None
    abort_message: str | None = None  # for those who wait for the answers


class PauseRequest(msgspec.Struct):
    """POST /pause_generation."""

    mode: PauseMode | None = None


class PublicRoutes:
    """What clients may ask besides text."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/health", self.health)
        router.add_get("/health_generate", self.health_generate)
        router.add_get("/ready", self.ready)
        router.add_get("/ping", self.ping)
        router.add_get("/version", self.version)
        router.add_get("/model_info", self.model_info)
        router.add_get("/get_model_info", self.model_info)
        router.add_get("/v1/models", self.models)
        router.add_get("/v1/models/{model:.+}", self.model)
        router.add_post("/abort_request", self.abort_request)

    async def health(self, request: web.Request) -> web.Response:
        """Whether text can be had here; to those with a key also what is known of the others, and how far they are."""
        engine = self._engine
        missing = engine.missing()
        if engine.is_stopping:
            status = "stopping"
        elif missing:
            status = "loading" if engine.is_loading else "unready"
        else:
            status = "ok"
        body: dict[str, Any] = {"status": status}
        if identity_of(request).is_known:
            body |= {"missing": missing, "progress": engine.progress(), "processes": engine.states()}
        return as_json(body, 200 if status == "ok" else 503)

    async def health_generate(self, request: web.Request) -> web.Response:
        """Whether a token can be had within a bound: one is generated."""
        took = await probe(self._engine, request)
        return as_json({"status": "ok", "seconds": round(took, 3)})

    async def ready(self, request: web.Request) -> web.Response:
        """Whether requests can be served now; to those with a key also what is missing."""
        missing = self._engine.missing()
        headers = {"Retry-After": str(self._engine.limits.unready_retry_after_s)} if missing else {}
        body: dict[str, Any] = {"ready": not missing}
        if identity_of(request).is_known:
            body |= {"missing": missing, "paused": self._engine.paused or None}
        return as_json(body, 503 if missing else 200, headers)

    async def ping(self, request: web.Request) -> web.Response:
        """Whether this process lives and stays."""
        del request
        stopping = self._engine.is_stopping
        return as_json({"status": "stopping" if stopping else "ok"}, 503 if stopping else 200)

    async def version(self, request: web.Request) -> web.Response:
        """The release that runs here."""
        del request
        return as_json({"version": importlib.metadata.version("rootstream")})

    async def model_info(self, request: web.Request) -> web.Response:
        """What the model is, with the fields of SGLang's answer that there is something to say about."""
        del request
        card = self._engine.ready_card()
        return as_json(
            {
                "model_path": card.model,
                "tokenizer_path": card.model,
                "served_model_name": self._engine.model,
                "is_generation": True,
                "preferred_sampling_params": None,
                "weight_version": "default",
                "has_image_understanding": False,
                "has_audio_understanding": False,
                "model_type": card.architecture,
                "max_model_len": context_of(card),
                "vocab_size": card.vocab_size,
                "dtype": card.dtype,
            }
        )

    async def models(self, request: web.Request) -> web.Response:
        """The one model, once for each of its names."""
        del request
        return as_json({"object": "list", "data": [self._model(name) for name in self._engine.models]})

    async def model(self, request: web.Request) -> web.Response:
        """The one model, by one of its names."""
        name = request.match_info["model"]
        check_model(name, self._engine)
        return as_json(self._model(name))

    async def abort_request(self, request: web.Request) -> web.Response:
        """End requests, on whichever front door they run; one that is over already is no error.

        Tenants end their own. What is somebody else's is as if it were over.
        """
        limits = self._engine.limits
        asked = convert(await read_object(request, limits), AbortRequest)
        name = _name_to_abort(asked, limits)
        message = Bounds().label("abort_message", asked.abort_message, limits) or _ABORT_MESSAGE
        who = identity_of(request)
        tenant = None if who.is_operator else who.tenant
        if name is not None and _EXTERNAL_ID.fullmatch(name):
            await self._engine.abort(int(name[-16:], 16), tenant, message)
        await self._engine.abort_many(name, tenant, message)
        return as_json({"success": True})

    def _model(self, name: str) -> dict[str, Any]:
        model = {"id": name, "object": "model", "created": self._engine.created, "owned_by": "rootstream"}
        try:
            card = self._engine.ready_card()
        except ApiError:  # the worker has not said yet
            return model
        return {**model, "root": card.model, "parent": None, "max_model_len": context_of(card)}


class OperatorRoutes:
    """What only those who run the server may ask."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/metrics", self.metrics)
        router.add_get("/server_info", self.server_info)
        router.add_get("/get_server_info", self.server_info)
        router.add_route("GET", "/flush_cache", self.flush_cache)
        router.add_post("/flush_cache", self.flush_cache)
        router.add_post("/reset_prefix_cache", self.flush_cache)
        router.add_post("/pause_generation", self.pause_generation)
        router.add_post("/continue_generation", self.continue_generation)

    async def metrics(self, request: web.Request) -> web.Response:
        """The metrics of all processes."""
        del request
        return web.Response(body=await self._engine.exposition(), headers={"Content-Type": _PROMETHEUS})

    async def server_info(self, request: web.Request) -> web.Response:
        """What runs here, with which limits."""
        routes = sorted({resource.canonical for resource in request.app.router.resources()})
        version = importlib.metadata.version("rootstream")
        return as_json({"version": version, **self._engine.info(), "routes": routes})

    async def flush_cache(self, request: web.Request) -> web.Response:
        """Drop the cached pages that no running request holds."""
        del request
        return as_json({"success": True, "pages": await self._engine.flush()})

    async def pause_generation(self, request: web.Request) -> web.Response:
        """Compute nothing until told to go on. What is asked meanwhile waits."""
        body = await read_object(request, self._engine.limits) if request.can_read_body else {}
        mode = convert(body, PauseRequest).mode or PauseMode.ABORT
        await self._engine.pause(mode)
        return as_json({"status": "ok", "message": "Generation paused successfully.", "mode": mode})

    async def continue_generation(self, request: web.Request) -> web.Response:
        """Go on after a pause."""
        if request.can_read_body:
            await read_object(request, self._engine.limits)
        await self._engine.resume()
        return as_json({"status": "ok", "message": "Generation continued successfully."})


def _name_to_abort(asked: AbortRequest, limits: Limits) -> str | None:
    """Which requests to end: those of an id or a client's name, None for all. Raises ApiError 400."""
    given = [name for name in ("request_id", "rid") if getattr(asked, name) is not None]
    if len(given) > 1:
        raise invalid("request_id and rid are the same field: send one of them", "rid")
    name = given[0] if given else "rid"
    found = Bounds().label(name, getattr(asked, name), limits)
    if asked.abort_all:
        if found or name == "request_id":
            raise invalid(f"abort_all ends all requests, and {name} some: send one of them", name)
        return None  # SGLang's own client sends an empty rid with it
    if not found:
        message = f"{name} must be the id of an answer, such as chatcmpl-0123456789abcdef, or the rid of a request"
        raise invalid(f"{message}; abort_all ends all", name)
    return found
