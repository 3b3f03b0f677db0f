"""The front door as a process: announces requests on the streams, takes text from its own, listens for HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Literal, NamedTuple

import msgspec
import structlog

from shared import metrics
from shared.bus import Bus, Reader, Unavailable
from shared.config import WORKER, Settings
from shared.cursors import entry_key, seconds_of
from shared.exposure import check_exposure
from shared.model_files import locate, name_of
from shared.protocol import (
    Abort,
    AbortMany,
    Failed,
    Failure,
    Finish,
    Flush,
    Flushed,
    Generate,
    Hello,
    Message,
    ModelCard,
    Pause,
    Paused,
    PauseMode,
    ProtocolError,
    Resume,
    Untrack,
    decode,
    encode,
    new_request_id,
)
from shared.registry import LOOK_S, Role, State
from shared.service import Context
from shared.tokenizer import Tokenizer
from tokenizer_svc.access.guard import Doors, doors
from tokenizer_svc.access.tenants import Caller, tenant_of_account
from tokenizer_svc.announcements import again, context_of
from tokenizer_svc.announcing import Sender, announcement
from tokenizer_svc.answers import Answer, Choice
from tokenizer_svc.api_error import ApiError, internal, queue_full, unavailable
from tokenizer_svc.app import build_admin_app, build_app
from tokenizer_svc.asked import READERS
from tokenizer_svc.asking import Asking
from tokenizer_svc.backlog import Backlog
from tokenizer_svc.contexts.service import RedisContexts
from tokenizer_svc.draft import Draft
from tokenizer_svc.draining import drain
from tokenizer_svc.engine import Keeping
from tokenizer_svc.grammar.limits import LIMITS
from tokenizer_svc.grammar.pool import Pool
from tokenizer_svc.grammars import Grammars
from tokenizer_svc.inbox import FollowUp, Inbox
from tokenizer_svc.limits import Limits
from tokenizer_svc.listening import Port, listening
from tokenizer_svc.metrics import Metrics
from tokenizer_svc.outlet import Outlets
from tokenizer_svc.quiet import Quiet
from tokenizer_svc.reasoning.formats import Marks
from tokenizer_svc.reasoning.formats import choose as choose_reasoning
from tokenizer_svc.resumable.entries import Owner, Record, Unreadable, announcement_of
from tokenizer_svc.resumable.fold import Fold
from tokenizer_svc.resumable.resumables import Resumables
from tokenizer_svc.resumable.service import RedisLogs
from tokenizer_svc.served import fingerprint
from tokenizer_svc.structure import Structure
from tokenizer_svc.surroundings import Surroundings
from tokenizer_svc.tools.formats import ToolFormat
from tokenizer_svc.tools.formats import choose as choose_tools
from tokenizer_svc.tracing import current, part

log = structlog.get_logger("front door")

_LOADING = "loading the tokenizer"
_LIVE_TRACK_GENERATE = 3  # writes to announce a sequence; the last one counts
_FURNISH_PATIENCE_S = 5.0  # for it: it takes a tenth of that, if nothing has to be downloaded or converted
_ANNOUNCE_PATIENCE_S = 5.0
_REPLY_PATIENCE_S = 10.0
_TRIM_S = 1.0
_LOST_S = 30.0  # a process that does not come back for this long takes its requests with it
_IMPATIENT_S = 0.1  # between looks at the others while one of them is missing
_STOP_GRACE_S = 2.0  # for answers under way at an orderly stop
_MOVE_S = 3.0  # a detokenizer that is away for this long leaves its requests to another one
_TEXTS_S = 600  # after which the stream of a process that is gone goes, too
_QUIET_S = 5.0  # without a token, after which it is looked whether a request still lives
_GRAMMARS_S = 5.0  # between looks whether the grammars of live answers are where the worker finds them
_GRAMMAR_PATIENCE_S = 1.0
_SILENT_S = 1.5  # without a change of its pulse, a front door is suspected to be gone


async def serve(context: Context) -> None:
    """Run until told to stop. Raises UserError when the model or the address cannot be used."""
    settings = context.settings
    check_exposure(settings)
    access = doors(settings)
    await context.announce(State.LOADING, _LOADING)
    door = FrontDoor(context, settings.served_model_name or (name_of(settings.model),))
    await door.begin()
    language = await asyncio.to_thread(_load, settings) if door.has_substitute else None  # who answers meanwhile
    async with listening(_ports(door, access, settings), door.limits) as listeners:
        door.furnish(language or await asyncio.to_thread(_load, settings))
        await context.announce(State.READY, f"listening on {settings.host}:{settings.port}")
        await context.stopping.wait()
        context.say(State.STOPPING, "finishing answers")
        if context.failure is None:
            await drain(door, listeners, settings.drain_timeout)
    await door.end()


def _load(settings: Settings) -> Tokenizer:
    files = locate(settings.model, settings.cache_path, settings.load_format)
    return Tokenizer.load(files, settings.cache_path)


def _ports(door: FrontDoor, access: Doors, settings: Settings) -> list[Port]:
    with_admin, tracing = access.admin is None, door.tracing
    app = build_app(door, access.public, door.resumables, door.contexts, with_admin=with_admin, tracing=tracing)
    ports = [Port(app, settings.host, settings.port)]
    if access.admin is not None and settings.admin_port is not None:
        app = build_admin_app(door, access.admin)
        ports.append(Port(app, settings.admin_host, settings.admin_port, "--admin-host", "--admin-port"))
    return ports


class GrammarStore:
    """Compiled grammars in Redis. What cannot be written now is written again by the next refresh."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._name = bus.names.grammar

    async def get(self, key: str) -> bytes | None:
        try:
            return await self._bus.value(self._name(key), _GRAMMAR_PATIENCE_S)
        except Unavailable:
            return None

    async def put(self, key: str, data: bytes, seconds: int) -> None:
        try:
            await self._bus.keep(self._name(key), data, seconds, _GRAMMAR_PATIENCE_S)
        except Unavailable as error:
            log.warning("a compiled grammar could not be left for the worker", error=str(error))

    async def prolong(self, keys: Sequence[str], seconds: int) -> set[str]:
        by_name = {self._name(key): key for key in keys}
        try:
            gone = await self._bus.prolong(tuple(by_name), seconds, _GRAMMAR_PATIENCE_S)
        except Unavailable:
            return set()
        return {by_name[name] for name in gone}


class _Language(NamedTuple):
    """What is known of how the model reads and writes."""

    tokenizer: Tokenizer
    tool_format: ToolFormat
    reasoning: Marks | None


class FrontDoor:
    """The engine behind the HTTP application, over the streams."""

    def __init__(self, context: Context, models: tuple[str, ...]) -> None:
        self.models = models
        self.fingerprint = fingerprint(context.settings)
        self.created = int(time.time())
        self._language: _Language | None = None
        self._furnished = asyncio.Event()
        self.limits = Limits.of(context.settings)
        self.metrics = Metrics(context.metrics)
        self.tracing = context.tracing
        self.outlets = Outlets(self.limits, self.metrics)
        self._context = context
        self._bus = context.bus
        self._names = context.bus.names
        self._texts = self._names.texts(context.replica)
        self._others = Surroundings(context.peers, context.replica)
        self._inbox = Inbox()
        self._backlog = Backlog()
        self._pool = Pool(LIMITS)
        self._grammars = Grammars(self._pool, GrammarStore(context.bus), self.metrics)
        self._card: ModelCard | None = None
        self._card_of: int | None = None  # incarnation of the worker that wrote it
        self._logs = RedisLogs(context.bus)
        self.resumables = Resumables(
            self,
            self._logs,
            Owner(context.replica, context.incarnation),
            context.spawn,
            grace_s=context.settings.resume_grace,
            keep_s=context.settings.resume_keep,
        )
        self.contexts = RedisContexts(context.bus, self.limits, self.metrics)
        self._writing: set[asyncio.Task[None]] = set()
        self._asking = Asking()
        self._quiet = Quiet()
        self._refuses = False  # all that is new
        self._open: set[Answer] = set()  # somebody is being sent them
        self.metrics.open.set_function(lambda: len(self._inbox))
        self.metrics.ready.set_function(lambda: not self.missing())

    # --- the model's language: it is listened before it is known

    def furnish(self, tokenizer: Tokenizer) -> None:
        """From now on requests can be read."""
        settings = self._context.settings
        self._language = _Language(
            tokenizer,
            choose_tools(settings.tool_format, tokenizer.tool_template),
            choose_reasoning(settings.reasoning_format, tokenizer.chat_template, tokenizer.tool_template),
        )
        self._furnished.set()

    async def furnished(self) -> None:
        if self._language is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FURNISH_PATIENCE_S):
                    await self._furnished.wait()

    @property
    def pooling(self) -> Literal["last", "mean"]:
        return self._context.settings.embedding_pooling

    @property
    def tokenizer(self) -> Tokenizer:
        return self._known_language.tokenizer

    @property
    def tool_format(self) -> ToolFormat:
        return self._known_language.tool_format

    @property
    def reasoning(self) -> Marks | None:
        return self._known_language.reasoning

    @property
    def _known_language(self) -> _Language:
        if self._language is None:
            reason = f"this front door is still {_LOADING}: try again in a few seconds"
            raise unavailable(reason, self.limits.unready_retry_after_s)
        return self._language

    @property
    def model(self) -> str:
        return self.models[0]

    @property
    def is_stopping(self) -> bool:
        return self._context.stopping.is_set()

    # --- the end: see draining.py

    @property
    def open_answers(self) -> int:
        return len(self._open) + self.resumables.read

    @property
    def has_substitute(self) -> bool:
        return self._others.has_substitute

    def refuse(self) -> None:
        self._refuses = True

    def cut(self, message: str) -> None:
        for answer in self._open:
            answer.fail(Failed(answer.id, Failure.UNAVAILABLE, message))

    # --- life

    async def begin(self) -> None:
        """End what an earlier process of this name left, unless it can be resumed, then follow texts and pulses."""
        reader = Reader(self._bus, [self._texts], {self._texts: await self._bus.last_id(self._texts)})
        kept = await self.resumables.begin()
        live = await self._bus.hash(self._names.live)
        leftovers = [field for field, value in live.items() if self._is_own(value) and int(field) not in kept]
        if leftovers:
            log.warning("aborting requests of an earlier process of this name", requests=len(leftovers))
            writes = self._bus.transaction()
            for field in leftovers:
                writes.append(self._names.requests, Abort(int(field)))
            await writes.commit()
        await self._look_around()
        self._context.spawn(self._follow(reader))
        self._context.spawn(self._watch())
        self._context.spawn(self._mend())
        self._context.spawn(self._keep_watch())
        self._context.spawn(self.outlets.watch())
        self._context.spawn(self._pool.run())
        self._context.spawn(self._keep_grammars())

    async def end(self) -> None:
        """Finish what is being written; nobody will read our stream any more."""
        await self._grammars.close()
        if self._writing:
            await asyncio.wait(self._writing, timeout=_STOP_GRACE_S)
        await self._bus.forget(self._texts, patience=1.0)

    def _is_own(self, live: bytes) -> bool:
        request = _read(live)
        return isinstance(request, Generate) and request.reply_to == self._context.replica

    def _is_of(self, live: bytes, tenant: str) -> bool:
        request = _read(live)
        return isinstance(request, Generate) and tenant_of_account(request.tenant) == tenant

    async def _follow(self, reader: Reader) -> None:
        trimmed = time.monotonic()
        while True:
            entries = await reader.next(block_ms=1000)
            for entry in entries:
                self.metrics.delivery.observe(max(0.0, time.time() - entry_key(entry.id)[0] / 1000))
                self._write(self._inbox.take(entry.message, seconds_of(entry.id)))
            if entries:
                self._note_backlog()
            if time.monotonic() - trimmed > _TRIM_S:
                trimmed = time.monotonic()
                trims = self._bus.transaction().trim(self._texts, reader.cursors[self._texts])
                await trims.expire(self._texts, _TEXTS_S).commit()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_IMPATIENT_S if self.missing() else LOOK_S)
            try:
                await self._context.peers.refresh()
                await self._look_around()
            except Unavailable as error:
                log.warning("redis away", error=str(error))
            self._fail_lost(time.monotonic())
            self._insist(time.monotonic())

    async def _keep_watch(self) -> None:
        """Nothing vanishes: whatever gets no further, and is live no more, has an end that did not reach us."""
        while True:
            await asyncio.sleep(_QUIET_S)
            quiet = {str(choice.id): choice for choice in self._quiet.look(self._inbox.choices())}
            try:
                live = await self._bus.present(self._names.live, tuple(quiet))
            except Unavailable:
                continue
            self._ask([choice for id, choice in quiet.items() if id not in live])

    async def _keep_grammars(self) -> None:
        while True:
            await asyncio.sleep(_GRAMMARS_S)
            await self._grammars.refresh()

    async def _look_around(self) -> None:
        """Note how many wait, and read the model card where the worker is another than the one that wrote it."""
        for pulse in self._context.peers.pulses(Role.SCHEDULER):
            self._backlog.hear(pulse.waiting, pulse.at)
        for pulse in self._context.peers.pulses(Role.WORKER):
            if pulse.incarnation != self._card_of:
                hello = _read((await self._bus.hash(self._names.model)).get(WORKER))
                if isinstance(hello, Hello):
                    self._card, self._card_of = hello.card, hello.incarnation
                    if hello.card.structured:
                        self._pool.warm()

    def _fail_lost(self, now: float) -> None:
        """End the answers of processes that went away and did not come back."""
        answers = self._inbox.answers()
        away = self._others.miss({answer.detokenizer for answer in answers}, now)
        substitutes = self._others.substitutes() if away else []
        for answer in answers if away else ():
            away_s = away.get(answer.detokenizer, 0.0)
            if substitutes and away_s > _MOVE_S:
                log.warning("a detokenizer is gone, another one goes on", request=f"{answer.id:016x}")
                self._inbox.move(answer, min(substitutes, key=lambda replica: self._inbox.load[replica]))
                self.reannounce([answer])
            elif max(away_s, away.get(Role.SCHEDULER, 0.0)) > _LOST_S:
                message = "a process that this request needs went away: send it again"
                answer.fail(Failed(answer.id, Failure.UNAVAILABLE, message))

    def _insist(self, now: float) -> None:
        """Ask once more for text that is missing; end the answers for which that has gone on too long."""
        if not len(self._asking):
            return
        for choice in self._asking.hopeless(now):
            if answer := self._inbox.answer_of(choice.id):
                lost = f"text after token {choice.completion_tokens} was lost inside the server: send the request again"
                answer.fail(Failed(choice.id, Failure.WORKER, lost))
        self._ask(self._asking.due(now))

    # --- what is there

    def missing(self) -> list[str]:
        if self.is_stopping:
            return ["this front door is stopping"]
        lacking = self._others.lacking()
        if not lacking and self._card is None:
            lacking = ["the worker has not announced its model"]
        return lacking if self._language is not None else [f"this front door is {_LOADING}", *lacking]

    @property
    def is_loading(self) -> bool:
        return self._card is None or bool(self.progress())

    def progress(self) -> Mapping[str, str]:
        own = {} if self._language is not None else {Role.TOKENIZER: _LOADING}
        return own | self._others.progress()

    def ready_card(self) -> ModelCard:
        dead = self._others.dead()
        if self._refuses:
            seconds = self.limits.retry_after_s if self.has_substitute else self.limits.unready_retry_after_s
            raise unavailable("this front door is stopping: send the request again", seconds)
        if dead or self._card is None:
            reason = f"no {' and no '.join(dead)} is running" if dead else "the model is not ready yet"
            raise unavailable(f"{reason}: try again in a few seconds", self.limits.unready_retry_after_s)
        assert self._known_language  # or it raises
        return self._card

    def _note_backlog(self) -> None:
        self._backlog.note(len(self._inbox.waiting), self._inbox.served, time.time())

    @property
    def retry_after_s(self) -> int:
        return self._backlog.patience_s(time.time(), self.limits.retry_after_s, self.limits.max_retry_after_s)

    def check_room(self, caller: Caller) -> None:
        waiting, most = self._backlog.waiting, self._context.settings.max_queue
        if waiting >= most and not self._inbox.waiting.is_modest(caller.account):
            reason = f"{waiting} requests are waiting, {most} may: try again later"
            raise queue_full(reason, self.retry_after_s)

    def states(self) -> Mapping[str, object]:
        return self._others.states()

    def info(self) -> Mapping[str, object]:
        card: dict[str, Any] | None = None
        if self._card is not None:
            card = {**msgspec.structs.asdict(self._card), "kv_tokens": self._card.kv_tokens}
        return {
            "model": self.model,
            "models": self.models,
            "replica": self._context.replica,
            "started": self.created,
            "paused": self.paused or None,
            "model_card": card,
            "limits": self.limits,
            "grammar_limits": LIMITS,
            "processes": self.states(),
        }

    async def exposition(self) -> bytes:
        alive = self._others.alive()
        texts = {field: text for field, text in (await self._bus.hash(self._names.metrics)).items() if field in alive}
        texts[self._context.pulse.field] = metrics.exposition(self._context.metrics)
        return metrics.union(texts)

    # --- requests

    async def submit(
        self, drafts: Sequence[Draft], *, shares_id: bool, caller: Caller, keeping: Keeping | None = None
    ) -> Answer:
        self.ready_card()
        structures = tuple({draft.structure.key: draft.structure for draft in drafts if draft.structure}.values())
        await self._grammars.screen(structures)
        detokenizer = self._pick_detokenizer()
        trace = current()
        grace_s = keeping.grace_s if keeping else 0.0
        place = trace.traceparent if trace else ""
        sender = Sender(self._context.replica, detokenizer, caller.account, grace_s, place)
        choices: list[Choice] = []
        for index, draft in enumerate(drafts):
            id = new_request_id()
            namespace = caller.namespace(draft.namespace, shared=self._context.settings.share_cache)
            announced = announcement(id, draft, namespace, sender, time.time())
            choices.append(
                Choice(id, index, draft.prompt, len(draft.input_ids), announced, context_of(announced.track))
            )
        answer = Answer(choices, detokenizer, shares_id=shares_id)
        if trace is not None:
            trace.announced(drafts, answer)
        self._inbox.expect(answer)
        self._note_backlog()
        if keeping is None:
            self._open.add(answer)
        self._grammars.attach(answer, structures, caller.turn)
        record = keeping.record(answer) if keeping else None
        task = asyncio.create_task(self._announce(answer.choices, detokenizer, record))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:  # the client left: once the request is there, it can be aborted
            task.add_done_callback(lambda _: self.abandon(answer))
            raise
        except Unavailable as error:
            self.abandon(answer)
            raise self._away() from error
        self.metrics.prompt_tokens.inc(sum(len(draft.input_ids) for draft in drafts))
        return answer

    async def _announce(self, choices: Sequence[Choice], detokenizer: str, record: Record | None = None) -> None:
        """Write the live record, Track and Generate of every sequence in one transaction."""
        started = time.perf_counter()
        names = self._names
        writes = self._bus.transaction()
        announced = [choice for choice in choices if choice.request is not None]
        for generate, track in (choice.request for choice in announced if choice.request is not None):
            writes.put(names.live, str(generate.id), encode(generate))
            writes.append(names.detok(detokenizer), track)
            writes.append(names.requests, generate)
        if record is not None:
            self._logs.announce(writes, record)
        with part("door.announce"):
            written = await writes.commit(_ANNOUNCE_PATIENCE_S)
        for choice, entry_id in zip(announced, written[_LIVE_TRACK_GENERATE - 1 :: _LIVE_TRACK_GENERATE], strict=False):
            choice.times.announced = choice.times.announced or seconds_of(entry_id)
        self.metrics.announce.observe(time.perf_counter() - started)

    # --- asking again

    def reannounce(self, answers: Iterable[Answer]) -> None:
        """Announce what is unfinished of these answers once more, and have all of its text sent again.

        For whoever may have missed something: what was said, or what was answered. What is known already is no harm.
        """
        for answer in answers:
            for choice in answer.unfinished:
                if choice.request is not None:
                    choice.request = again(choice.request, self._context.replica, answer.detokenizer)
            self._do(self._announce_again(answer))

    async def _announce_again(self, answer: Answer) -> None:
        try:
            await self._announce(answer.unfinished, answer.detokenizer)
        except Unavailable as error:
            log.error("a request could not be announced again", request=f"{answer.id:016x}", error=str(error))

    async def _mend(self) -> None:
        """Redis lost its data: put back what is ours in it, and ask again for what was on its way."""
        while True:
            await self._context.data_lost.wait()
            answers = self._inbox.answers()
            log.warning("announcing again what is under way", answers=len(answers))
            self._do(self._grammars.refresh())
            self._do(self.resumables.mend())
            self.reannounce(answers)

    def _pick_detokenizer(self) -> str:
        """The one with the fewest of our own sequences."""
        return min(self._others.detokenizers(), key=lambda replica: self._inbox.load[replica])

    def compiled(self, key: str) -> bytes | None:
        return self._grammars.compiled(key)

    def abandon(self, answer: Answer) -> None:
        self._open.discard(answer)
        self._grammars.detach(answer)
        ids = self._inbox.forget(answer)
        self._note_backlog()
        self._asking.forget(ids)
        self._write(FollowUp(tuple(ids), tuple((answer.detokenizer, id) for id in ids)))

    def let_go(self, answer: Answer) -> None:
        self._grammars.detach(answer)
        self._asking.forget(self._inbox.forget(answer))

    async def revive(self, fold: Fold) -> Answer:
        self.ready_card()
        answer, record = fold.answer, fold.record
        structures = await self._structures_of(record)
        is_there = self._others.has_detokenizer(fold.detokenizer)
        answer.detokenizer = fold.detokenizer if is_there else self._pick_detokenizer()
        for choice, announced in zip(answer.choices, record.sequences, strict=True):
            try:
                choice.request = again(announcement_of(announced), self._context.replica, answer.detokenizer)
            except Unreadable as error:
                raise internal(str(error)) from error
            if choice.completion_tokens or choice.finish is not Finish.NONE:
                answer.admitted(choice, choice.cached_tokens)
        self._inbox.expect(answer)
        self._grammars.attach(answer, structures, record.client)
        try:
            await self._announce(answer.unfinished, answer.detokenizer)
        except Unavailable as error:
            self.let_go(answer)
            raise self._away() from error
        return answer

    async def _structures_of(self, record: Record) -> list[Structure]:
        """The grammars that a kept request obeys. Raises ApiError."""
        asked = READERS[record.path](msgspec.json.decode(record.body), self)
        drafts = await asked.draft()
        return list({draft.structure.key: draft.structure for draft in drafts if draft.structure}.values())

    async def cancel(self, fold: Fold) -> None:
        writes = self._bus.transaction()
        for choice in fold.answer.unfinished:
            writes.append(self._names.detok(fold.detokenizer), Untrack(choice.id))
            writes.append(self._names.requests, Abort(choice.id, notify=True))
        try:
            await writes.commit(_ANNOUNCE_PATIENCE_S)
        except Unavailable as error:
            raise self._away() from error

    async def absent(self, owners: set[Owner]) -> set[Owner]:
        if not owners:
            return set()
        try:
            await self._context.peers.refresh()
        except Unavailable as error:
            raise self._away() from error
        heard: set[Owner] = set()
        for name in {owner.replica for owner in owners}:
            last = self._context.peers.last(Role.TOKENIZER, name)
            if last is not None and last.silence < _SILENT_S:
                heard.add(Owner(name, last.pulse.incarnation))
        return owners - heard

    def _away(self) -> ApiError:
        return unavailable(
            "the streams cannot be reached: try again in a few seconds", self.limits.unready_retry_after_s
        )

    def borrowed(self, structure: Structure | None, client: str) -> AbstractAsyncContextManager[None]:
        return nullcontext() if structure is None else self._grammars.borrowed(structure, client)

    def _write(self, said: FollowUp) -> None:
        if said.aborts or said.untracks:
            self._do(self._commit(said))
        if said.lacking:
            now = time.monotonic()
            self._ask([choice for choice in said.lacking if self._asking.lacks(choice, now)])

    def _ask(self, choices: Iterable[Choice]) -> None:
        answers = {answer for choice in choices if (answer := self._inbox.answer_of(choice.id)) is not None}
        if answers:
            log.warning("text is missing, asking for it again", answers=len(answers))
            self.reannounce(answers)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _commit(self, said: FollowUp) -> None:
        writes = self._bus.transaction()
        for detokenizer, id in said.untracks:
            writes.append(self._names.detok(detokenizer), Untrack(id))
        for id in said.aborts:
            writes.append(self._names.requests, Abort(id))
        try:
            await writes.commit()
        except Unavailable as error:
            log.error("requests could not be aborted", requests=len(said.aborts), error=str(error))

    async def abort(self, id: int, tenant: str | None, message: str = "") -> None:
        if tenant is not None:
            [live] = await self._bus.ask(("HGET", self._names.live, str(id)))
            if live is None or not self._is_of(live, tenant):
                return  # over, or somebody else's: which of them is not told
        await self._bus.append(self._names.requests, Abort(id, notify=True, message=message))

    async def abort_many(self, name: str | None, tenant: str | None, message: str = "") -> None:
        await self._bus.append(self._names.requests, AbortMany(tenant, name, message))

    async def flush(self) -> int:
        self.ready_card()
        flushed = await self._asked(Flush(new_request_id(), self._context.replica))
        return flushed.pages if isinstance(flushed, Flushed) else 0

    # --- pausing

    @property
    def paused(self) -> str:
        return self._others.paused

    async def pause(self, mode: PauseMode) -> None:
        await self._asked(Pause(new_request_id(), self._context.replica, mode))
        await self._context.peers.refresh()

    async def resume(self) -> None:
        await self._asked(Resume(new_request_id(), self._context.replica))
        await self._context.peers.refresh()

    async def _asked(self, message: Flush | Pause | Resume) -> Flushed | Paused:
        """What the scheduler answers. Raises ApiError 503 where it does not."""
        reply = self._inbox.expect_reply(message.nonce)
        try:
            await self._bus.append(self._names.requests, message)
            async with asyncio.timeout(_REPLY_PATIENCE_S):
                return await reply
        except (TimeoutError, Unavailable) as error:
            reason = f"the scheduler did not answer within {_REPLY_PATIENCE_S:g} s: try again"
            raise unavailable(reason, self.limits.unready_retry_after_s) from error


def _read(record: bytes | None) -> Message | None:
    """A message that is kept under a key; None where there is none, or none of this release."""
    try:
        return None if record is None else decode(record)
    except ProtocolError:
        return None
