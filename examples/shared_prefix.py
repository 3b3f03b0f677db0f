"""Sixteen questions about one document, at once: the document is computed once, see cached_tokens.

Needs only aiohttp, which the server's own environment has: ``.venv/bin/python examples/shared_prefix.py``.
"""

import asyncio

import aiohttp

URL = "http://127.0.0.1:30000/generate"
DOCUMENT = "The radix tree keeps the keys and values of every prompt it has seen. " * 60


async def ask(session: aiohttp.ClientSession, number: int) -> dict:
    body = {
        "text": f"{DOCUMENT}\n\nQuestion {number}: what does the tree keep?\nAnswer:",
        "sampling_params": {"max_new_tokens": 12, "temperature": 0},
    }
    async with session.post(URL, json=body) as response:
        return await response.json()


async def main() -> None:
    async with aiohttp.ClientSession() as session:
        answers = await asyncio.gather(*(ask(session, number) for number in range(16)))
    for answer in answers:
        meta = answer["meta_info"]
        print(f"{meta['prompt_tokens']:5} tokens, {meta['cached_tokens']:5} cached: {answer['text'].strip()}")


asyncio.run(main())
