"""A template with gaps as one request: fixed text goes through the model in chunks, which writes only the gaps.

Needs only aiohttp, which the server's own environment has: ``.venv/bin/python examples/template.py``.
"""

import asyncio

import aiohttp

URL = "http://127.0.0.1:30000/generate"
REQUEST = {
    "text": "A wizard of an old story, as JSON:\n",
    "segments": [
        '{ "name": "',
        {"gen": "name", "max_tokens": 12},
        '", "age": ',
        {"gen": "age", "regex": "[1-9][0-9]{0,2}"},
        ', "house": "',
        {"gen": "house", "choice": ["Oak", "Maple", "Birch"]},
        '", "can fly": ',
        {"gen": "flies", "json_schema": {"type": "boolean"}},
        " }",
    ],
    "sampling_params": {"temperature": 0},
}


async def main() -> None:
    async with aiohttp.ClientSession() as session, session.post(URL, json=REQUEST) as response:
        answer = await response.json()
    meta = answer["meta_info"]
    print(answer["text"])
    print(answer["values"])
    print(f"{meta['forced_tokens']} of {meta['completion_tokens']} tokens were not drawn")


asyncio.run(main())
