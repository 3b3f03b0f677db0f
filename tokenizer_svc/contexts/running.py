"""A call: its parts, one after the other, each on what the ones before it left.

Everything that can be refused without the model is refused before anything is computed. Knows nothing of where contexts
are kept or how answers are sent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from shared.protocol import Finish, Sampling
from tokenizer_svc.access.tenants import Caller
from tokenizer_svc.answers import Answer, Piece
from tokenizer_svc.api_error import ApiError, invalid, of_failure
from tokenizer_svc.chat import check_message
from tokenizer_svc.computing import Computed, compute
from tokenizer_svc.contexts import generating, selecting
from tokenizer_svc.contexts.conversation import closed, toolbox_of, up_to_date, up_to_date_if_possible
from tokenizer_svc.contexts.generating import Gen, Reading, read_gen
from tokenizer_svc.contexts.listener import Listener
from tokenizer_svc.contexts.order import check_order
from tokenizer_svc.contexts.request import (
    Asked,
    ClosePart,
    GenPart,
    MessagePart,
    OpenPart,
    Part,
    SelectPart,
    TextPart,
)
from tokenizer_svc.contexts.shapes import Delta, Result
from tokenizer_svc.contexts.state import Conversation, State
from tokenizer_svc.contexts.tokens import opening, said
from tokenizer_svc.draft import Display, Draft
from tokenizer_svc.engine import Engine
from tokenizer_svc.openai_bodies import PromptTokensDetails, Usage
from tokenizer_svc.parts import Content, Reasoning
from tokenizer_svc.prompts import LengthNames, answer_length, aside
from tokenizer_svc.reading import AnswerReader
from tokenizer_svc.score_bound import check_scores
from tokenizer_svc.timing import Timing


class Counts(NamedTuple):
    """Tokens of the sequences of a call."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    def plus(self, prompt: int, cached: int, completion: int) -> Counts:
        return Counts(self.prompt + prompt, self.cached + cached, self.completion + completion)

    @property
    def usage(self) -> Usage:
        return Usage(self.prompt, self.completion, self.prompt + self.completion, PromptTokensDetails(self.cached))


class Names(NamedTuple):
    """What the scheduler knows of whose a call is."""

    group: str
    context: str

    def spare(self, index: int) -> str:
        """Of a sequence with which the context does not go on."""
        return f"{self.context}~{index}"


class Run:
    """One call."""

    def __init__(
        self, engine: Engine, asked: Asked, id: str, state: State, caller: Caller, names: Names, listener: Listener
    ) -> None:
        self.state = state
        self.results: list[Result] = []
        self.counts = Counts()
        self.spare: set[str] = set()  # names of sequences that nothing goes on from
        self._engine = engine
        self._asked = asked
        self._id = id
        self._caller = caller
        self._names = names
        self._listener = listener
        self._arrived = time.perf_counter()
        self._gens: dict[int, Gen] = {}
        self._computed = 0  # tokens of the context that the engine has seen

    def check(self) -> None:
        """Refuse what can be refused now. Raises ApiError 400."""
        parts, state = self._asked.parts, self.state
        check_order(parts, state)
        is_chat = state.chat is not None or any(isinstance(part, OpenPart | MessagePart) for part in parts)
        if state.tools:
            toolbox_of(self._engine, state)
        if not is_chat and self._asked.request.parent is None:
            for name in ("tools", "chat_template_kwargs"):
                if getattr(self._asked.request, name) and parts:
                    raise invalid(f"{name} are for conversations, and this is plain text: open a message", name)
        for index, part in enumerate(parts):
            path = f"parts[{index}]"
            match part:
                case GenPart():
                    self._gens[index] = self._read_gen(part, path, is_chat=is_chat)
                case MessagePart(message=message):
                    check_message(self._engine, message, f"{path}.message")
                case _:
                    pass

    def _read_gen(self, part: GenPart, path: str, *, is_chat: bool) -> Gen:
        if part.tool_choice not in (None, "none", "auto") and not self.state.tools:
            where = f"{path}.tool_choice"
            raise invalid(f"{where} is for conversations with tools: say them where parent is null", where)
        toolbox = toolbox_of(self._engine, self.state, part.tool_choice, is_parallel=part.parallel_tool_calls)
        return read_gen(self._engine, part, path, toolbox, is_chat=is_chat)

    async def run(self) -> None:
        """Raises ApiError, and ConnectionError where the listener does."""
        for index, part in enumerate(self._asked.parts):
            await self._take(index, part)
        self.state = await up_to_date_if_possible(self._engine, self.state)
        if self._asked.request.prefill and len(self.state.written.ids) > self._computed:
            await self._prefill()

    async def _take(self, index: int, part: Part) -> None:
        chat = self.state.chat
        match part:
            case TextPart(text=text):
                await self._say(text)
            case OpenPart(role=role):
                self._set(chat=(chat or Conversation()).opened(role))
            case ClosePart():
                assert chat is not None
                self.state = closed(self._engine, self.state, chat)
            case MessagePart(message=message):
                plain = {k: v for k, v in msgspec.to_builtins(message).items() if v is not None}
                self._set(chat=(chat or Conversation()).ended(plain))
            case GenPart():
                await self._generate(index)
            case SelectPart():
                await self._select(index, part)

    def _set(self, **fields: Any) -> None:
        self.state = msgspec.structs.replace(self.state, **fields)

    async def _say(self, text: str) -> None:
        """Text of the program's, where the tokens before it are there or will be."""
        state, encoder = self.state, self._engine.tokenizer
        if state.chat is not None:
            chat = msgspec.structs.replace(state.chat, content=state.chat.content + text, plain=state.chat.plain + text)
            if chat.is_due:
                self._set(chat=chat)
                return
            self._set(chat=msgspec.structs.replace(chat, shown=chat.shown + text))
        elif text:
            self._begin_raw()
        written = self.state.written
        longer = await aside(self._engine, len(written.open) + len(text), lambda: written.with_text(text, encoder))
        self._set(written=longer)

    def _begin_raw(self) -> None:
        if not self.state.is_raw:
            self._set(is_raw=True, written=opening(self._engine.tokenizer, framed=True))

    async def _ready(self, index: int) -> None:
        """Have tokens for all that is before a part. Raises ApiError 400 where there is nothing."""
        if self.state.chat is None:
            self._begin_raw()
        self.state = await up_to_date(self._engine, self.state)
        if not self.state.written.ids:
            path = f"parts[{index}]"
            raise invalid(f"{path} has nothing before it: put some text there", path)

    @property
    def _like(self) -> Draft:
        """What all sequences of the call have in common."""
        request = self._asked.request
        return Draft(
            prompt=0,
            input_ids=self.state.written.ids,
            sampling=Sampling(max_tokens=0, temperature=0.0),
            display=Display(),
            namespace=request.cache_salt or "",
            priority=request.priority or 0,
            timeout_s=self._time_left(),
            group=self._names.group,
            context=self._names.context,
        )

    def _named(self, drafts: Sequence[Draft]) -> list[Draft]:
        """The first keeps the context's name; what the others compute is not needed after this call."""
        first, *others = drafts
        named = [draft._replace(context=self._names.spare(index)) for index, draft in enumerate(others, start=1)]
        self.spare |= {draft.context for draft in named}
        return [first, *named]

    def _time_left(self) -> float:
        timeout = self._asked.request.timeout
        if timeout is None:
            return 0.0
        left = timeout - (time.perf_counter() - self._arrived)
        if left <= 0:
            message = f"the request was not answered within its timeout of {timeout:g} s"
            raise ApiError(408, message, type="timeout_error", code="timeout")
        return left

    # --- parts that the model has to do with

    async def _generate(self, index: int) -> None:
        await self._ready(index)
        engine, gen, prompt = self._engine, self._gens[index], self.state.written.ids
        drafts = self._named(generating.drafts_of(engine, gen, prompt, self._like))
        answer = await engine.submit(drafts, shares_id=True, caller=self._caller)
        pieces = await self._follow(answer, gen, index)
        if any(choice.finish is Finish.ABORT for choice in answer.choices):
            message = f"parts[{index}] was aborted: send the request again if it is still wanted"
            raise ApiError(409, message, param=f"parts[{index}]", code="aborted")
        choices = Reading(engine, gen, answer).choices(pieces)
        first = answer.choices[0]
        own = [piece for piece in pieces if piece.choice is first]
        text = "".join(piece.text for piece in own)
        ids = [id for piece in own for id in piece.tokens]
        if ids and ids[-1] in drafts[0].display.stop_token_ids and first.matched == ids[-1]:
            ids.pop()  # the model's word for the end is not part of what it said
        kept = said(
            ids, text, lambda: engine.tokenizer.stream(prompt[-_LOOK_BACK:], drafts[0].display.skip_special_tokens)
        )
        written = self.state.written.with_drawn(kept.ids).with_text(kept.rest, engine.tokenizer)
        result = generating.result_of(gen, index, answer, choices)
        self._computed = len(prompt)
        if (chat := self.state.chat) is not None:
            message = choices[0].message
            calls = msgspec.to_builtins(message.tool_calls) if message.tool_calls is not UNSET else ()
            thoughts = message.reasoning_content if isinstance(message.reasoning_content, str) else ""
            chat = msgspec.structs.replace(
                chat,
                content=chat.content + text,
                shown=chat.shown + text,
                plain=chat.plain + (message.content or ""),
                thoughts=chat.thoughts + thoughts,
                calls=(*chat.calls, *calls),
                is_generated=True,
            )
        self._set(written=written, chat=chat)
        self.counts = self.counts.plus(len(prompt), first.cached_tokens, result.completion_tokens)
        await self._finish(result)

    async def _follow(self, answer: Answer, gen: Gen, index: int) -> list[Piece]:
        """All pieces of an answer, told as they come. Raises ApiError where it fails."""
        engine = self._engine
        timing = Timing(engine.metrics, answer, self._arrived)
        reader = AnswerReader(answer, gen.how)
        gathered: list[Piece] = []
        self._listener.watch(answer)
        try:
            await answer.started()
            timing.admitted()
            while True:
                pieces = await answer.pieces()
                over = answer.is_over
                timing.received(pieces)
                gathered += pieces
                deltas = [delta for piece in pieces for delta in self._deltas(reader, piece, gen, index)]
                if deltas:
                    await self._listener.wrote(deltas)
                if over:
                    break
            if answer.failed is not None:
                raise of_failure(answer.failed, engine.retry_after_s)
            return gathered
        finally:
            if not answer.is_over:
                engine.metrics.disconnects.inc()
            engine.abandon(answer)
            timing.over()

    def _deltas(self, reader: AnswerReader, piece: Piece, gen: Gen, index: int) -> list[Delta]:
        found: list[Delta] = []
        for part in reader.push(piece.choice, piece.text, piece.tokens, piece.finish):
            match part:
                case Content(text):
                    found.append(self._delta(piece, gen, index, text))
                case Reasoning(text):
                    found.append(self._delta(piece, gen, index, "", text))
                case _:
                    pass  # calls are told whole, with the result
        return found

    def _delta(self, piece: Piece, gen: Gen, index: int, text: str, thoughts: str | UnsetType = UNSET) -> Delta:
        of = piece.choice.index
        return Delta(id=self._id, part=index, name=gen.part.name, delta=text, reasoning_delta=thoughts, index=of)

    async def _select(self, index: int, part: SelectPart) -> None:
        await self._ready(index)
        engine, before, path = self._engine, self.state.written, f"parts[{index}]"
        size = sum(map(len, part.choices)) + len(part.choices) * len(before.open)
        selection = await aside(engine, size, lambda: selecting.read_selection(engine, part, path, before))
        drafts = self._named(selecting.drafts_of(selection, self._like))
        check_scores(drafts, f"{path}.choices", engine.limits)
        computed = await compute(engine, drafts, self._caller)
        result = selecting.result_of(part, index, before, selection, computed)
        self._count(computed)
        self._computed = len(before.ids)
        chat, text = self.state.chat, result.text
        if chat is not None:
            chat = msgspec.structs.replace(
                chat, content=chat.content + text, plain=chat.plain + text, shown=chat.shown + text
            )
        self._set(written=selection.written[result.index], chat=chat)
        await self._finish(result)

    def _count(self, computed: Sequence[Computed]) -> None:
        for one in computed:
            self.counts = self.counts.plus(one.prompt_tokens, one.cached_tokens, 0)

    async def _finish(self, result: Result) -> None:
        self.results.append(result)
        await self._listener.ended(result)

    async def _prefill(self) -> None:
        engine, ids = self._engine, self.state.written.ids
        answer_length(engine.ready_card(), len(ids), 0, None, LengthNames("parts", "prefill"), least=0)
        self._count(await compute(engine, [self._like], self._caller))


_LOOK_BACK = 32  # tokens before an answer, as the detokenizer knows them
