"""The requests that Open WebUI makes, with the fields that it sends; it is far too big to be installed for this."""

from __future__ import annotations

import json

import aiohttp

from tests.clients.exchanges import events
from tests.clients.serving import MODEL

HEADERS = {
    "Authorization": "Bearer none",
    "HTTP-Referer": "https://openwebui.com/",
    "X-Title": "Open WebUI",
    "Content-Type": "application/json",
}


async def test_the_list_of_models(base_url: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{base_url}/models", headers=HEADERS) as response:
        assert response.status == 200
        assert [model["id"] for model in (await response.json())["data"]] == [MODEL]


async def test_a_streamed_chat(base_url: str) -> None:
    body = {
        "stream": True,
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Say hello."},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": [{"type": "text", "text": "Once more."}]},
        ],
        "stream_options": {"include_usage": True},
        "temperature": 0.8,
        "top_p": 0.9,
        "max_tokens": 16,
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "seed": 0,
        "stop": ["</s>"],
        "logit_bias": {},
    }
    async with aiohttp.ClientSession() as session:
        url = f"{base_url}/chat/completions"
        async with session.post(url, data=json.dumps(body), headers=HEADERS) as response:
            assert response.status == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            found = list(events(await response.read()))
    chunks = [json.loads(event.data) for event in found[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    assert chunks[-1]["usage"]["completion_tokens"]


async def test_a_title_and_tags_for_the_chat(base_url: str) -> None:
    """Its background tasks are not streamed; ``metadata``, in which it notes what they are, stays with it."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "### Task:\nWrite a title as JSON for this chat."}],
        "stream": False,
        "max_completion_tokens": 32,
    }
    url = f"{base_url}/chat/completions"
    async with aiohttp.ClientSession() as session, session.post(url, json=body, headers=HEADERS) as response:
        answer = await response.json()
    assert response.status == 200, answer
    assert answer["choices"][0]["message"]["content"]
