"""Which names this server goes by. Pure.

A web page can make its own name resolve to 127.0.0.1 and then read what a server there says (DNS rebinding): a browser
tells on it, since it sends the page's name as Host.
"""

from __future__ import annotations

from collections.abc import Collection

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
ANY = "*"


def parse_hosts(text: str | None) -> frozenset[str]:
    """Names as a setting holds them, comma separated."""
    return frozenset(name.strip().lower() for name in (text or "").split(",") if name.strip())


def name_in(host: str) -> str:
    """The name in a Host header, without its port."""
    name, colon, port = host.strip().lower().rpartition(":")
    is_port = bool(colon) and (port.isdigit() or not port) and (name.endswith("]") or ":" not in name)
    return (name if is_port else host.strip().lower()).removesuffix(".")


class Hosts:
    """The names that are answered to; all, where none are given."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)

    def accepts(self, host: str | None, *, is_old: bool = False) -> bool:
        """Whether a Host header is one of ours; requests older than HTTP/1.1 (``is_old``) need none."""
        if not self._names or ANY in self._names:
            return True
        if host is None:
            return is_old  # no browser sends these
        return name_in(host) in self._names


def accepted_names(host: str, allowed: Collection[str], *, is_local: bool) -> frozenset[str]:
    """What a server listening on ``host`` answers to: its own names, those of this machine to itself, and ``allowed``.

    None, which means all, where it is not on a loopback address and none are given: it cannot know what it is called.
    """
    if not is_local and not allowed:
        return frozenset()
    own = f"[{host}]" if ":" in host else host
    return LOOPBACK_NAMES | {own.lower()} | frozenset(allowed)
