"""The scheduler: requests and the worker's steps in, plans and replies out. Pure: time is an argument.

It owns the live requests from their announcement to their one end. What they do on the worker is in
batch.py. Knows nothing of streams, text or tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

from scheduler_svc.batch import Batch
from scheduler_svc.deadlines import Deadlines
from scheduler_svc.ended import Ended, Ending
from scheduler_svc.groups import Groups
from scheduler_svc.limits import Limits
from scheduler_svc.outbox import Outbox
from scheduler_svc.pauses import ABORTED_BY_PAUSE, Pauses, fits
from scheduler_svc.request import Request, State, seniority
from scheduler_svc.stats import Stats
from scheduler_svc.steady import SteadySteps
from scheduler_svc.tenants import Tenants
from shared import columns
from shared.protocol import (
    Aborted,
    AbortMany,
    Failed,
    Failure,
    Finish,
    Flush,
    Flushed,
    Generate,
    ModelCard,
    Pause,
    Paused,
    PauseMode,
    Plan,
    Restated,
    Resume,
    Step,
)

_POISONOUS = "the worker died twice of this request, which ends it: the worker's log says how"
_OUTCOMES = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.ABORT: "abort"}


class Scheduler:
    """All live requests, and the plans for one worker."""

    def __init__(self, limits: Limits) -> None:
        self.stats = Stats()
        self.outbox = Outbox()
        self.batch: Batch | None = None  # None until there is a worker
        self._limits = limits
        self._suspended = False
        self._steady: SteadySteps | None = None  # tokens noted there are not in `output` yet
        self._now = 0.0  # of the last step
        self._requests: dict[int, Request] = {}
        self._contexts: dict[str, Request] = {}  # which request is to become a context, by its name
        self._tenants = Tenants()
        self._groups = Groups()
        self._deadlines = Deadlines(self._requests)
        self._submitted = 0
        self._ended = Ended()
        self._pauses = Pauses()
        self.torn = False  # steps were lost: rows are ahead of what is known of them, until the next epoch

    @property
    def running(self) -> int:
        return self.batch.rows if self.batch else 0

    @property
    def waiting(self) -> int:
        return len(self._requests) - self.running

    @property
    def live(self) -> list[Generate]:
        """Every request that has not ended."""
        return [request.generate for request in self._requests.values()]

    @property
    def owners(self) -> set[str]:
        """Replicas that live requests answer to."""
        return {request.generate.reply_to for request in self._requests.values()}

    def submit(self, generate: Generate, now: float, *, restored: bool = False) -> None:
        """A new request, or with ``restored`` one that was live before this process.

        One that is known already is announced again because somebody may have lost what was said of it.
        """
        if generate.id in self._requests or generate.id in self._ended:
            self._say_again(generate)
            return
        self._submitted += 1
        tenant = self._tenants.joins(generate.tenant, self._charge)
        group = self._groups.joins(generate.tenant, generate.group)
        request = Request(generate, now, self._submitted, tenant, group)
        self._requests[generate.id] = request
        if generate.context:
            self._contexts[generate.context] = request
        if generate.deadline:
            self._deadlines.add(generate.id, generate.deadline)
        if self.batch is not None and (reason := _too_large(request, self.batch)):
            self._fail(request, Failure.TOO_LARGE, reason)
            return
        if self.waiting > self._limits.max_queue and not restored:
            self._refuse(self._surplus(request))
        if self.batch is not None and request.state is not State.ENDED:
            self.batch.enqueue(request)

    def _surplus(self, newest: Request) -> Request:
        """Who goes when one too many waits: the newest, or for it the last one of a tenant that has more waiting."""
        most = self._tenants.most_waiting
        if most.waiting <= newest.tenant.waiting:
            return newest
        theirs = (each for each in reversed(self._requests.values()) if each.tenant is most)
        return next((each for each in theirs if _may_go_for(each, newest)), newest)

    def _refuse(self, request: Request) -> None:
        self._withdraw(request)
        reason = f"{self.waiting - 1} requests are waiting, {self._limits.max_queue} may: try again later"
        self._fail(request, Failure.QUEUE_FULL, reason)

    def abort(self, id: int, *, notify: bool = False, message: str = "") -> None:
        """End a request early; ``message`` is for its client. Unknown ones are ignored."""
        self._settle_for_good()
        request = self._requests.get(id)
        if request is None:
            return
        if notify:
            self.outbox.reply(request.generate.reply_to, Aborted(id, message))
        self._withdraw(request, is_whole=not notify)
        self._end(request, "abort")

    def abort_many(self, asked: AbortMany) -> None:
        """End all requests that fit."""
        for request in tuple(self._requests.values()):
            if fits(request.generate, asked):
                self.abort(request.id, notify=True, message=asked.message)

    def end_orphans(self, owner: str, away_s: float, patience_s: float) -> int:
        """End the requests of a replica that is gone for so long, but for those that may wait longer; how many."""
        orphans = [
            request
            for request in self._requests.values()
            if request.generate.reply_to == owner and away_s > max(patience_s, request.generate.grace_s)
        ]
        for request in orphans:
            self._settle_for_good()
            self._withdraw(request)
            message = "the front door that holds this request went away: send it again"
            self._fail(request, Failure.UNAVAILABLE, message)
        return len(orphans)

    @property
    def next_deadline(self) -> float | None:
        """When ``expire`` has something to do next, in unix seconds."""
        return self._deadlines.next

    def expire(self, now: float) -> None:
        """End the requests whose deadline has passed, whether they wait or run."""
        due = self._deadlines.due(now)
        if due:
            self._settle_for_good()
        for id in due:
            request = self._requests.get(id)
            if request is not None:
                self._withdraw(request)
                self._fail(request, Failure.TIMEOUT, _overdue(request))

    def flush(self, flush: Flush) -> None:
        """Drop what is cached and in no request's use."""
        pages = self.batch.cache.flush() if self.batch else 0
        self.outbox.reply(flush.reply_to, Flushed(flush.nonce, pages))

    def release(self, contexts: Sequence[str]) -> None:
        """Nobody goes on from these contexts, or will from those that are still being made."""
        for name in contexts:
            if (request := self._contexts.get(name)) is not None:
                request.context, request.spent = "", True
            if self.batch is not None:
                self.batch.cache.contexts.release(name)

    def expire_contexts(self, now: float) -> None:
        """Give up what nobody has gone on from for long; to be called about once a second."""
        if self.batch is not None:
            self.batch.cache.contexts.expire(now)

    @property
    def paused(self) -> PauseMode | None:
        return self._pauses.mode

    def restore_pause(self, mode: PauseMode) -> None:
        """An earlier process of this name was pausing."""
        self._pauses.mode = mode

    def pause(self, pause: Pause) -> None:
        """Plan nothing but releases; ``plan`` answers as soon as nothing is computed any more."""
        self._settle_for_good()
        if pause.mode is PauseMode.ABORT:
            self.abort_many(AbortMany(message=ABORTED_BY_PAUSE))
        self._pauses.begin(pause)

    def resume(self, resume: Resume) -> None:
        """Go on where ``pause`` stopped."""
        for asked in (*self._pauses.end(), resume):
            self.outbox.reply(asked.reply_to, Paused(asked.nonce, None))

    def restate(self, ids: Sequence[int]) -> None:
        """Say what the tokens of these requests are. Unknown ones are ignored."""
        self._settle()
        for id in ids:
            if (request := self._requests.get(id)) is not None:
                scores = None if request.scores is None else request.scores.whole()
                self.outbox.restate(Restated(id, request.output.tobytes(), Finish.NONE, scores, request.vector))
            elif (ending := self._ended.get(id)) is not None and ending.failed is None:
                self.outbox.restate(Restated(id, ending.output, ending.finish, ending.scores, ending.vector))

    def _say_again(self, generate: Generate) -> None:
        """Send the owner, who may be another now, what it has been told besides text."""
        if (request := self._requests.get(generate.id)) is not None:
            request.generate = generate
            if request.announced:
                self.outbox.started(request.id, generate.reply_to, request.told)
            return
        self.outbox.ended(generate.id)  # its record has been written again
        if (ending := self._ended.get(generate.id)) is not None and ending.failed is not None:
            self.outbox.reply(generate.reply_to, ending.failed)

    def suspend(self) -> None:
        """Plan nothing until ``reopen``: the worker has forgotten its rows, or is about to."""
        self._suspended = True

    def on_death(self) -> None:
        """The worker has died, and what it was doing may have been the reason: whoever did it twice ends."""
        self._settle_for_good()
        if self.batch is None or self._suspended:  # nothing was under way, or that is settled already
            return
        for request in self.batch.accuse():
            self._withdraw(request)
            self._fail(request, Failure.POISONOUS, _POISONOUS)

    def reopen(self, epoch: int, card: ModelCard) -> None:
        """The worker starts empty: every live request goes back to the queue with its output so far."""
        self._settle_for_good()
        self._charge()
        self._tenants.restart()
        self._suspended = self.torn = False
        self.stats.epochs += 1
        if self.batch is not None:
            self.stats.evicted_pages += self.batch.cache.evicted
            self.stats.given_up_contexts += self.batch.cache.contexts.given_up
        self.batch = Batch(epoch, card, self._limits, self.stats, self.outbox, self._tenants)
        for request in sorted(self._requests.values(), key=seniority):
            request.restart()
            if reason := _too_large(request, self.batch):
                self._fail(request, Failure.TOO_LARGE, reason)
            else:
                self.batch.enqueue(request)

    def on_step(self, step: Step, now: float) -> None:
        """Note what the worker did. Steps of another epoch and tokens already known are ignored."""
        batch = self.batch
        if batch is not None and step.epoch != batch.epoch:
            return
        self._now = now
        if self._steady is None or not self._steady.note(step):
            self._settle_for_good()
            self._on_any(step)
        elif self._steady.due:
            self._settle()
        if batch is not None:
            batch.on_acknowledged(step.plan)

    def plan(self, now: float) -> Plan | None:
        """The next plan, None if there is nothing to tell the worker now."""
        if self._pauses.mode is not None:
            return self._plan_pause(self._pauses.mode)
        if self.batch is None or self._suspended or self.batch.content:
            return None
        self._settle()
        return self.batch.plan(now)

    def _plan_pause(self, mode: PauseMode) -> Plan | None:
        plan = None
        self._settle()
        if self.batch is not None and not self._suspended:
            plan = self.batch.plan_releases(retract=mode is not PauseMode.IN_PLACE)
        if plan is None and (self.batch is None or self._suspended or self.batch.is_still):
            for asked in self._pauses.answered():
                self.outbox.reply(asked.reply_to, Paused(asked.nonce, mode))
        return plan

    @property
    def ease_s(self) -> float:
        """For how long steps may lie unread: nobody waits, and no row runs low in twice that time."""
        steady, batch = self._steady, self.batch
        if steady is None or batch is None or self._suspended or not batch.at_ease:
            return 0.0
        return steady.left * steady.step_s / 2

    def audit(self) -> str | None:
        """What is wrong with the accounts, None where they are right. ``reopen`` makes new ones."""
        self.stats.audits += 1
        try:
            self.check()
        except AssertionError as error:
            self.stats.failed_audits += 1
            return str(error)
        return None

    def check(self) -> None:
        """Prove the accounts right. Raises AssertionError."""
        self._settle()
        if self.batch is not None:
            self.batch.check(self._requests.values())

    def _charge(self) -> None:
        if self.batch is not None:
            self.batch.charge()

    def _settle(self) -> None:
        """Bring every request's output up to date."""
        steady = self._steady
        if steady is None:
            return
        if steady.follow:
            settled = steady.settle()
            self.stats.generated_tokens += settled.tokens
            for request in settled.low:
                if self.batch is not None:
                    self.batch.runs_low(request)
            return
        for step in steady.steps:
            self._on_any(step)
        self._steady = None

    def _settle_for_good(self) -> None:
        """Settle; the next step is taken row by row, because a row ends or may have."""
        self._settle()
        self._steady = None

    def _on_any(self, step: Step) -> None:
        if step.scores or step.vectors:
            self._on_scores(step)
        if step.ids:
            self._on_rows(step)
        for id, message in step.errors:
            request = self._requests.get(id)
            if request is not None:
                if self.batch is not None:
                    self.batch.failed(request)
                self._fail(request, Failure.WORKER, message)
                self._steady = None

    def _on_scores(self, step: Step) -> None:
        for scores in step.scores:
            request = self._requests.get(scores.id)
            if request is not None and request.scores is not None and not request.scores.add(scores):
                self.torn = True
        for vector in step.vectors:
            if (request := self._requests.get(vector.id)) is not None:
                request.vector = vector

    def _on_rows(self, step: Step) -> None:
        counts, tokens, end = columns.ints(step.counts), step.tokens, 0
        batch = self.batch
        rows: list[Request | None] = []
        steady = True
        pendings = columns.ints(step.pending) if step.pending else [1] * len(counts)
        for id, first, count, pending, finish in zip(
            columns.longs(step.ids), columns.ints(step.firsts), counts, pendings, step.finishes, strict=True
        ):
            end += count
            request = self._requests.get(id)
            rows.append(request)
            if request is None:
                continue
            known = len(request.output)
            new = first + count - known
            if first > known or _lacks(request, first + count, finish):
                steady = False
                self.torn = True  # it is computed again from what is known
                continue
            if new >= 0:
                request.pending = pending
            if new > 0:
                request.output.frombytes(tokens[4 * (end - new) : 4 * end])
                self.stats.generated_tokens += new
                self.stats.forced_tokens += sum(step.forced[end - new : end])
                if known == 0 and request.chunk_seq:
                    self.stats.ttft_s.append(self._now - request.submitted)
            steady = steady and new == count == pending == 1 and not finish
            if finish:
                if batch is not None:
                    batch.finished(request)
                self._end(request, _OUTCOMES[Finish(finish)], Finish(finish))
            elif known + new >= request.low_at and batch is not None:
                batch.runs_low(request)
        self._steady = SteadySteps(step, rows) if steady else None

    def _withdraw(self, request: Request, *, is_whole: bool = False) -> None:
        """A request ends, though the worker does not end it. ``is_whole``: with the text that it was to have."""
        if not is_whole:
            request.context = ""
        if self.batch is not None:
            self.batch.withdraw(request)

    def _fail(self, request: Request, failure: Failure, message: str) -> None:
        failed = Failed(request.id, failure, message)
        self.outbox.reply(request.generate.reply_to, failed)
        self._end(request, failure, failed=failed)

    def _end(self, request: Request, outcome: str, finish: Finish = Finish.ABORT, failed: Failed | None = None) -> None:
        request.state = State.ENDED
        del self._requests[request.id]
        if (name := request.generate.context) and self._contexts.get(name) is request:
            del self._contexts[name]
        self._tenants.leaves(request.tenant)
        self._groups.leaves(request.group)
        scores = None if request.scores is None else request.scores.whole()
        self._ended.add(request.id, Ending(request.output.tobytes(), finish, failed, scores, request.vector))
        self.stats.outcomes[outcome] += 1
        self.outbox.ended(request.id)


def _may_go_for(request: Request, newest: Request) -> bool:
    """A request that has not started can still be refused, but for no lower priority."""
    is_new = request.state is State.WAITING and not request.announced and not request.output
    return is_new and request.generate.priority <= newest.generate.priority


def _overdue(request: Request) -> str:
    generate = request.generate
    where = f"{len(request.output)} tokens of its answer were there" if request.announced else "it was still waiting"
    return f"the request's timeout of {generate.deadline - generate.arrived:g} s has passed: {where}"


def _too_large(request: Request, batch: Batch) -> str | None:
    """Why a request could never run, None if it could."""
    card = batch.card
    tokens = request.prompt_len + request.generate.sampling.max_tokens
    if tokens > card.context_length:
        return f"prompt and max_tokens are {tokens} tokens together, the context holds {card.context_length}"
    if batch.cache.pages_for(request.max_positions) > card.num_pages:
        return f"prompt and max_tokens are {tokens} tokens together, the KV cache holds {card.kv_tokens}"
    return None


def _lacks(request: Request, output_len: int, finish: int) -> bool:
    """Should something else be known of a request that has so many tokens: their scores, or its vector?"""
    if request.scores is not None and request.scores.end < request.prompt_len + output_len:
        return True
    return finish in (Finish.STOP, Finish.LENGTH) and request.wants_vector
