"""Nesting in a field that is kept as it is and encoded again later."""

from __future__ import annotations

from tests.security.bomb import CHAT, bounded

DEEP = b"[" * 5000 + b"]" * 5000


def chat(field: bytes) -> bytes:
    return b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":4,' + field + b"}"


attack = bounded(
    CHAT,
    chat(b'"chat_template_kwargs":{"a":' + DEEP + b"}"),
    chat(b'"tools":[{"type":"function","function":{"name":"f","parameters":{"x":' + DEEP + b"}}}]"),
    chat(b'"json_schema":{"enum":[' + DEEP + b"]}"),
    chat(b'"tool_choice":' + DEEP),
    chat(b'"unknown":' + DEEP),
)
