"""What people write without the language: the openai package, the whole text each time, one request after the other.

A backend of the language, so that the very same programs ask the very same questions; one for each program that runs.
A gen is a completion or a chat completion, and for a select the model writes one of the choices: OpenAI's way to score
texts (`echo` and `logprobs`) computes all that is before them once a choice, and would be ten times as slow. Knows
nothing of contexts, forks and groups.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import openai

from rootstream.lang.calls import Call, OnPiece, Outcome, Result, Usage
from rootstream.lang.messages import messages_of, text_of
from rootstream.lang.parts import Gen, Message, Open, Part, Select, Text

_UNBOUNDED = 512  # where a grammar ends the text; completions would stop after 16 tokens

Prompt = str | list[dict[str, Any]]


class Plain:
    """One program's requests, in turn."""

    def __init__(self, client: openai.AsyncOpenAI, model: str) -> None:
        self._client = client
        self._model = model
        self._turn = asyncio.Lock()

    async def run(self, call: Call, on_piece: OnPiece | None = None) -> Outcome:  # noqa: ARG002
        """Pieces are not told."""
        async with self._turn:
            said = list(call.history())
            results: list[Result] = []
            usage = Usage()
            for place, part in enumerate(call.parts):
                match part:
                    case Gen():
                        result, used = await self._gen(prompt_of(said), part, place)
                    case Select():
                        result, used = await self._select(prompt_of(said), part, place)
                    case _:
                        said.append(part)
                        continue
                results.append(result)
                usage += used
                said.append(Text(result.text))
            return Outcome(tuple(results), usage)

    async def release(self, ids: Sequence[str]) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """The client is its maker's."""

    async def _gen(self, prompt: Prompt, gen: Gen, place: int) -> tuple[Result, Usage]:
        answer: Any
        if isinstance(prompt, str):
            answer = await self._client.completions.create(model=self._model, prompt=prompt, **fields(gen))
            texts = tuple(choice.text for choice in answer.choices)
        else:
            extra = fields(gen)
            if prompt[-1]["role"] == "assistant":
                extra["extra_body"] |= {"continue_final_message": True, "add_generation_prompt": False}
            messages: Any = prompt
            answer = await self._client.chat.completions.create(model=self._model, messages=messages, **extra)
            texts = tuple(choice.message.content or "" for choice in answer.choices)
        result = Result(name=gen.name, text=texts[0], part=place, texts=texts if gen.n > 1 else ())
        return result, _usage(answer)

    async def _select(self, prompt: Prompt, select: Select, place: int) -> tuple[Result, Usage]:
        written, usage = await self._gen(prompt, Gen(name=select.name, choices=select.choices, temperature=0), place)
        return msgspec.structs.replace(written, index=select.choices.index(written.text)), usage


def prompt_of(said: Sequence[Part]) -> Prompt:
    """A text, or messages; one that is open is the last and to be gone on with, unless nothing is in it yet."""
    if not any(isinstance(part, Open | Message) for part in said):
        return text_of(said)
    messages = messages_of(said)
    return messages if messages[-1].get("content") else messages[:-1]


def fields(gen: Gen) -> dict[str, Any]:
    """As the openai package takes them; what OpenAI has not goes into the body as our server calls it."""
    own = {"max_tokens": gen.max_tokens or _UNBOUNDED, "stop": list(gen.stop) or None, "n": gen.n}
    optional = {name: getattr(gen, name) for name in ("temperature", "top_p", "seed")}
    extra: dict[str, Any] = {}
    if gen.regex is not None:
        extra["regex"] = gen.regex
    if gen.choices:
        extra["guided_choice"] = list(gen.choices)
    return own | {name: value for name, value in optional.items() if value is not None} | {"extra_body": extra}


def _usage(answer: Any) -> Usage:
    usage = answer.usage
    details = usage.prompt_tokens_details
    cached = 0 if details is None else details.cached_tokens or 0
    return Usage(usage.prompt_tokens, usage.completion_tokens or 0, cached)
