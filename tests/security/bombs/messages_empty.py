"""Conversations without messages, roles or content."""

from __future__ import annotations

from tests.security.bomb import CHAT, refused

attack = refused(
    CHAT,
    *({"messages": messages} for messages in ([], None, {}, "hi", [{}], [None], [[]])),
    {"messages": [{"role": "user"}]},
    {"messages": [{"role": "user", "content": None}]},
    {"messages": [{"role": "", "content": "x"}]},
    {"messages": [{"role": "user", "content": [{}]}]},
    {},
)
