"""Any server that speaks OpenAI's API as who answers.

Such a server keeps nothing: every generation sends all that was said before it, and a call is as many requests as it
has generations. What cannot be said in its API is refused, never left out; hints (groups, warming, releases) are.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from rootstream.lang.backends.answered import Answer, Document, StreamReader, decode
from rootstream.lang.backends.asked import (
    CHATS,
    COMPLETIONS,
    is_chat,
    messages_before,
    request,
    template,
    text_of,
    unsupported,
    wraps_choices,
)
from rootstream.lang.backends.asking import Asker
from rootstream.lang.backends.dialects import BY_NAME, Dialect, recognised
from rootstream.lang.backends.http import Address
from rootstream.lang.backends.scored import Token, logprobs, of_echo, of_prompt_logprobs, own, token_ids
from rootstream.lang.calls import Call, CallError, OnPiece, Outcome, Result, Usage
from rootstream.lang.node import Slot, spoken
from rootstream.lang.parts import Gen, Part, Select, Text
from shared.choosing import choose


class _Model(NamedTuple):
    """Whom to ask, and how."""

    name: str
    dialect: Dialect


class OpenAI:
    """A server of OpenAI's API. Used from one event loop at a time; after `close` from another."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        model: str | None = None,
        *,
        dialect: str | None = None,
        patience: float = 120.0,
        connections: int = 1000,
        tls: ssl.SSLContext | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """``model``: the first that the server lists by default. ``dialect``: what the server knows beyond OpenAI's
        API: "openai", "vllm", "sglang", "llama.cpp", "rootstream" or "unknown"; by default what its list of models
        tells. ``extra``: fields of every request. The others as for Server. Raises ValueError.
        """
        if dialect is not None and dialect not in BY_NAME:
            raise ValueError(f"{dialect!r} is no dialect: one of {', '.join(map(repr, BY_NAME))}")
        self._asker = Asker(url, api_key, patience=patience, connections=connections, tls=tls)
        self._dialect = None if dialect is None else BY_NAME[dialect]
        self._name = model
        self._extra = dict(extra or {})
        self._model: _Model | None = None
        self._looking: asyncio.Task[_Model] | None = None

    @property
    def url(self) -> str:
        return self._asker.url

    async def run(self, call: Call, on_piece: OnPiece | None = None) -> Outcome:
        """Raises CallError; Unsupported for what the server is not known to do. Cancelling it ends the connection."""
        if not any(isinstance(part, Gen | Select) for part in call.parts):
            return Outcome()
        try:
            async with asyncio.timeout(call.timeout):
                until = None if call.timeout is None else asyncio.get_running_loop().time() + call.timeout
                return await self._run(call, on_piece, until)
        except TimeoutError:
            raise CallError(f"no answer within {call.timeout:g} s", code="timeout") from None

    async def release(self, ids: Sequence[str]) -> None:
        """Nothing is kept there."""

    async def close(self) -> None:
        """Let go of connections."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
            self._looking = None
        self._asker.close()

    async def _run(self, call: Call, on_piece: OnPiece | None, until: float | None) -> Outcome:
        model = self._model or await self._look()
        said: list[Part | Slot] = [*call.history()]
        results: list[Result] = []
        usage = Usage()
        for at, part in enumerate(call.parts):
            if not isinstance(part, Gen | Select):
                said.append(part)
                continue
            before = spoken(iter(said))
            if isinstance(part, Gen):
                one = await self._generate(call, part, at, before, model, on_piece if call.stream else None, until)
            else:
                one = await self._select(call, part, at, before, model, until)
                if call.stream and on_piece is not None:
                    on_piece(at, one.results[0].text)
            slot = Slot(part)
            (slot.result,) = one.results
            said.append(slot)
            results.append(slot.result)
            usage += one.usage
        return Outcome(tuple(results), usage)

    # One generation

    async def _generate(
        self,
        call: Call,
        gen: Gen,
        at: int,
        said: Sequence[Part],
        model: _Model,
        on_piece: OnPiece | None,
        until: float | None,
    ) -> Outcome:
        path, body = request(call, gen, said, model.dialect)
        wrapped = path == CHATS and wraps_choices(gen, model.dialect)
        if on_piece is None or wrapped:
            answer = Answer()
            answer.add(await self._post(path, model, body, until))
        else:
            reader = StreamReader(at, on_piece)
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            await self._asker.post(path, self._body(model, body), until=until, begin=reader.begin)
            answer = reader.answer
        result = answer.result(gen, at, wrapped=wrapped)
        if wrapped and on_piece is not None:
            on_piece(at, result.text)
        return Outcome((result,), answer.usage.usage())

    # One selection

    async def _select(
        self, call: Call, select: Select, at: int, said: Sequence[Part], model: _Model, until: float | None
    ) -> Outcome:
        by_difference = select.method == "unconditional_likelihood_normalized"
        if by_difference and not model.dialect.scores_tokens:
            raise unsupported(model.dialect, f"select by {select.method}", select.name, "take another method")
        if is_chat(said):
            tokens, usage = await self._score_chats(call, select, said, model, until)
        else:
            tokens, usage = await self._score_texts(select, said, model, until)
        alone: list[list[float]] = []
        if by_difference:
            alone, more = await self._score_alone(tokens, model, until)
            usage += more
        chosen = choose(select.method, [logprobs(each) for each in tokens], alone)
        result = Result(
            name=select.name,
            text=select.choices[chosen.best],
            part=at,
            index=chosen.best,
            scores=tuple(chosen.scores),
            logprobs=[logprobs(each) for each in tokens],
        )
        return Outcome((result,), usage)

    async def _score_texts(
        self, select: Select, said: Sequence[Part], model: _Model, until: float | None
    ) -> tuple[list[list[Token]], Usage]:
        """The tokens of each choice after a raw text: one request."""
        if not model.dialect.echoes:
            raise unsupported(model.dialect, "select: scores of texts that it did not generate", select.name)
        before = text_of(said, select.name)
        prompts = [*([before] if before else []), *(before + choice for choice in select.choices)]
        found, usage = await self._echoed(prompts, list(map(len, prompts)), model, until)
        base = found.pop(0) if before else []
        return [own(base, whole) for whole in found], usage

    async def _score_chats(
        self, call: Call, select: Select, said: Sequence[Part], model: _Model, until: float | None
    ) -> tuple[list[list[Token]], Usage]:
        """The same in an assistant's message: a request for each choice, at once."""
        if not model.dialect.scores_tokens or model.dialect.continues is None:
            raise unsupported(model.dialect, "select in a chat: scores of texts that it did not generate", select.name)
        texts = [said, *([*said, Text(choice)] for choice in select.choices)]
        common = {**template(call, model.dialect, select.name), "prompt_logprobs": 0, "temperature": 0}
        bodies: list[dict[str, Any]] = []
        for text in texts:
            messages, continues = messages_before(spoken(iter(text)), model.dialect, select.name)
            more = model.dialect.continues if continues else {}
            bodies.append({"messages": messages, **common, **more, model.dialect.max_tokens: 1})
        asks = [asyncio.create_task(self._post(CHATS, model, body, until)) for body in bodies]
        try:
            documents = await asyncio.gather(*asks)
        finally:
            for ask in asks:
                ask.cancel()
        base, *found = [of_prompt_logprobs(document.prompt_logprobs) for document in documents]
        usage = sum((document.usage.usage() for document in documents if document.usage), Usage())
        return [own(base, whole) for whole in found], usage

    async def _score_alone(
        self, tokens: Sequence[Sequence[Token]], model: _Model, until: float | None
    ) -> tuple[list[list[float]], Usage]:
        """The same tokens with nothing before them."""
        prompts = [token_ids(each) for each in tokens]
        found, usage = await self._echoed(prompts, [2**31] * len(prompts), model, until)
        return [logprobs(each[: len(ids)]) for each, ids in zip(found, prompts, strict=True)], usage

    async def _echoed(
        self, prompts: Sequence[str] | Sequence[list[int]], lengths: Sequence[int], model: _Model, until: float | None
    ) -> tuple[list[list[Token]], Usage]:
        fields = {"echo": True, "logprobs": 1, "max_tokens": 0, "temperature": 0, "return_tokens_as_token_ids": True}
        document = await self._post(COMPLETIONS, model, {"prompt": prompts, **fields}, until)
        choices = sorted(document.choices, key=lambda choice: choice.index)
        if len(choices) != len(prompts):
            raise CallError(f"{self.url} answers {len(prompts)} prompts with {len(choices)} choices")
        tokens = [of_echo(choice.logprobs, length) for choice, length in zip(choices, lengths, strict=True)]
        return tokens, document.usage.usage() if document.usage else Usage()

    # Requests

    async def _post(self, path: str, model: _Model, body: Mapping[str, Any], until: float | None) -> Document:
        """Raises CallError."""
        answer = await self._asker.post(path, self._body(model, body), until=until)
        try:
            document = decode(answer.body)
        except msgspec.MsgspecError as error:
            raise CallError(f"the answer of {self.url} is not understood: {error}", 200) from error
        return document

    def _body(self, model: _Model, body: Mapping[str, Any]) -> bytes:
        return msgspec.json.encode({"model": model.name, **body, **self._extra})

    async def _look(self) -> _Model:
        """Who is there; asked once however many want to know."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._looked())
            self._looking.add_done_callback(lambda done: done.cancelled() or done.exception())  # whoever waits is told
        return await asyncio.shield(self._looking)

    async def _looked(self) -> _Model:
        name, owner, failure = self._name, None, None
        if name is None or self._dialect is None:
            try:
                listed = msgspec.json.decode((await self._asker.get("/v1/models")).body)["data"]
                mine = next((model for model in listed if model["id"] == name), listed[0])
                name, owner = name or str(mine["id"]), mine.get("owned_by")
            except (CallError, msgspec.DecodeError, LookupError, TypeError) as error:
                failure = error
        if name is None:
            raise CallError(f"{self.url} lists no models: give model= ({failure})") from failure
        host = Address.of(self.url).host
        self._model = _Model(name, self._dialect or recognised(host, owner))
        return self._model
