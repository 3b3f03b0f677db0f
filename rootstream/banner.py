"""The lines that tell a person what is being served and how to talk to it. Pure."""

from __future__ import annotations

import json

from shared.protocol import ModelCard


def reachable_host(host: str) -> str:
    """The address under which a client on this machine reaches a server that listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def url_of(host: str, port: int) -> str:
    """The URL for clients on this machine."""
    host = reachable_host(host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def banner(card: ModelCard, name: str, url: str, seconds: float, *, needs_key: bool = False) -> str:
    """What to know of a server that became ready in ``seconds``."""
    question = {"model": name, "messages": [{"role": "user", "content": "Why is the sky blue?"}], "stream": True}
    key = ' -H "Authorization: Bearer $ROOTSTREAM_API_KEY"' if needs_key else ""
    return f"""
rootstream is ready at {url} ({seconds:.1f} s)

  model      {name} ({card.architecture}, {card.precision or card.dtype} on {card.device})
  KV cache   {card.kv_tokens:,} tokens in pages of {card.page_size}; at most {card.context_length:,} per request
  stop       Ctrl-C

  curl -N {url}/v1/chat/completions -H 'Content-Type: application/json'{key} \\
    -d '{json.dumps(question)}'

  or talk to it in a terminal: rootstream chat{"" if url.endswith("127.0.0.1:30000") else f" --url {url}"}
"""
