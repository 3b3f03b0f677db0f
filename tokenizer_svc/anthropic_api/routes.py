"""Routes of Anthropic's API besides generation."""

from __future__ import annotations

import msgspec
from aiohttp import web

from tokenizer_svc.anthropic_api.drafting import count_tokens
from tokenizer_svc.anthropic_api.request import read_count
from tokenizer_svc.anthropic_api.shapes import TokenCount
from tokenizer_svc.body import read_object
from tokenizer_svc.engine import Engine


class MessagesRoutes:
    """What clients of Anthropic's ask for besides messages."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post("/v1/messages/count_tokens", self.count_tokens)

    async def count_tokens(self, request: web.Request) -> web.Response:
        """POST /v1/messages/count_tokens."""
        body = await read_object(request, self._engine.limits)
        count = TokenCount(await count_tokens(read_count(body), self._engine))
        return web.Response(body=msgspec.json.encode(count), content_type="application/json")
