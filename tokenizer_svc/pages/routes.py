"""Routes of the pages: files of this package, read once. What they show they ask of the API, like any other client.

They hold nothing of the server, so they are for anyone: see access/gate.py. The policy that goes with them lets them
load and call nothing but this server, and lets no text become markup.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import NamedTuple

from aiohttp import web

CHAT, DOCS, FILES = "/", "/docs", "/pages/{name}"

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-cache",  # asked for again each time, and answered with 304
}


class File(NamedTuple):
    """One file as it is sent."""

    body: bytes
    headers: Mapping[str, str]


def files() -> dict[str, File]:
    """All files by their name."""
    folder = resources.files("tokenizer_svc.pages").joinpath("static")
    return {path.name: _file(path.name, path.read_bytes()) for path in folder.iterdir()}


def _file(name: str, body: bytes) -> File:
    tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    return File(body, {"Content-Type": _TYPES[name.rpartition(".")[2]], "ETag": tag, **_HEADERS})


class PageRoutes:
    """GET / (where clients are served), /docs, and what these load."""

    def __init__(self) -> None:
        self._files = files()

    def add_to(self, router: web.UrlDispatcher, *, with_chat: bool = True) -> None:
        if with_chat:
            router.add_get(CHAT, self.chat)
        router.add_get(DOCS, self.docs)
        router.add_get(FILES, self.file)

    async def chat(self, request: web.Request) -> web.Response:
        """The chat page."""
        return _response(request, self._files["chat.html"])

    async def docs(self, request: web.Request) -> web.Response:
        """The documentation of the API that is asked."""
        return _response(request, self._files["docs.html"])

    async def file(self, request: web.Request) -> web.Response:
        """Scripts, styles, the icon. Names that are not there get 404; nothing is looked for on the disk."""
        found = self._files.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        return _response(request, found)


def _response(request: web.Request, file: File) -> web.Response:
    if request.headers.get("If-None-Match") == file.headers["ETag"]:
        return web.Response(status=304, headers=file.headers)
    return web.Response(body=file.body, headers=file.headers)
