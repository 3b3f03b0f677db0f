"""Fields of Anthropic's API that this server does not serve: what to do instead."""

from __future__ import annotations

_ACCOUNTS = "this server has no accounts: leave it out"

REFUSED = {
    "container": "there are no containers here",
    "context_management": "send the messages that the model is to see",
    "diagnostics": "usage.cache_read_input_tokens says what came from the cache",
    "inference_geo": "this server is in one place",
    "mcp_servers": "call the servers yourself, and offer their tools in tools",
    "user_profile_id": _ACCOUNTS,
    "workspace_id": _ACCOUNTS,
}
