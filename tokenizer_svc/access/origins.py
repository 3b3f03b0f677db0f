"""Which web pages may use this server through their readers' browsers: none, unless named. Pure.

A browser asks before it sends what only a program would send, but lets any page send simple requests, to localhost as
well: those are told by the headers that browsers add and pages cannot.
"""

from __future__ import annotations

from collections.abc import Mapping

ANY = "*"
_FOREIGN_SITES = {"cross-site", "same-site"}  # same-site: another port or subdomain, which is another origin
_HEADERS = "Authorization, Content-Type, Last-Event-ID, X-API-Key, X-Request-Id, X-Resumable"
_MAX_AGE_S = 600


def parse_origins(text: str | None) -> frozenset[str]:
    """Origins as a setting holds them, comma separated, such as ``https://chat.example``."""
    return frozenset(origin.strip().rstrip("/").lower() for origin in (text or "").split(",") if origin.strip())


class Origins:
    """The origins that may use this server."""

    def __init__(self, allowed: frozenset[str] = frozenset()) -> None:
        self._allowed = allowed

    def permits(self, headers: Mapping[str, str]) -> bool:
        """Whether a request comes from no page, from one of this server's own, or from one that may."""
        origin = headers.get("Origin")
        if origin is None:
            return headers.get("Sec-Fetch-Site", "none") not in _FOREIGN_SITES or ANY in self._allowed
        return self.allows(origin) or _place(origin) == headers.get("Host", "").lower()

    def allows(self, origin: str) -> bool:
        """Whether an origin was named."""
        return ANY in self._allowed or origin.lower() in self._allowed

    def headers(self, origin: str | None) -> dict[str, str]:
        """What lets the browser show a response to a page of this origin: nothing for one that was not named."""
        if origin is None or not self.allows(origin):
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": "Retry-After, X-Request-Id",
            "Vary": "Origin",
        }

    def preflight(self) -> dict[str, str]:
        """What a browser is told that asks before it sends."""
        return {
            "Access-Control-Allow-Methods": "GET, POST, DELETE",
            "Access-Control-Allow-Headers": _HEADERS,
            "Access-Control-Max-Age": str(_MAX_AGE_S),
        }


def is_visit(headers: Mapping[str, str]) -> bool:
    """Whether somebody follows a link or types an address: what comes is shown by itself, no other page reads it."""
    return headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"


def _place(origin: str) -> str:
    """Host and port of an origin."""
    return origin.lower().partition("://")[2]
