"""Variables for the chat template that would make it loop, or override its names."""

from __future__ import annotations

from tests.security.bomb import CHAT, HI, bounded

attack = bounded(
    CHAT,
    {**HI, "chat_template_kwargs": {"n": 10**18, "range": 10**9}},
    {**HI, "chat_template_kwargs": {"x": "a" * 1_000_000}},
    {**HI, "chat_template_kwargs": {"x": [[["a"] * 100] * 100] * 10}},
    {**HI, "chat_template_kwargs": {"messages": []}},
    {**HI, "chat_template_kwargs": {f"k{i}": i for i in range(1000)}},
    {**HI, "chat_template_kwargs": {"raise_exception": 1, "self": 1, "loop": 1, "__class__": "x", "bos_token": []}},
)
