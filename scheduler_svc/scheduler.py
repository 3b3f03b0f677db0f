"""The scheduler: requests and the worker's steps in, plans and replies out. Pure: time is an argument.

Every row of the worker holds its pages here until the plan that releases it, or until the worker says that
it has finished. A row with chunks the worker has not acknowledged is not released: what is planned is
always executed, so what is in the tree is always computed. Knows nothing of streams, text or tensors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from scheduler_svc import leases
from scheduler_svc.draft import Draft
from scheduler_svc.in_flight import InFlight
from scheduler_svc.kv_cache import KvCache
from scheduler_svc.outbox import Outbox
from scheduler_svc.policy import Policy, Queue
from scheduler_svc.prefill import ChunkBudget
from scheduler_svc.request import Request, State
from scheduler_svc.stats import Stats
from shared import columns
from shared.protocol import (
    Aborted,
    Failed,
    Failure,
    Finish,
    Flush,
    Flushed,
    Generate,
    ModelCard,
    Plan,
    Step,
)

_CHUNK_PLANS = 2  # outstanding at most: one being executed, one at hand
_CANDIDATES = 64  # waiting requests looked at in one plan
_REMEMBERED = 8192  # ended requests whose late announcements are recognised
_DONE = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.ABORT: "abort"}


class Limits(NamedTuple):
    """What the operator decides; the worker's card says the rest."""

    lease: int = 16
    max_queue: int = 2048
    policy: Policy = Policy.LPM
    radix_cache: bool = True


class Scheduler:
    """All live requests, and the plans for one worker."""

    def __init__(self, limits: Limits) -> None:
        self.stats = Stats()
        self.outbox = Outbox()
        self.epoch: int | None = None
        self._limits = limits
        self._requests: dict[int, Request] = {}
        self._submitted = 0
        self._remembered: deque[int] = deque(maxlen=_REMEMBERED)
        self._recent: set[int] = set()
        self._begin(None)

    def _begin(self, card: ModelCard | None) -> None:
        self._card = card
        self._suspended = card is None
        num_pages, page_size = (card.num_pages, card.page_size) if card else (0, 1)
        self.cache = KvCache(num_pages, page_size, sharing=self._limits.radix_cache)
        self._queue = Queue(self._limits.policy, self._cached_tokens)
        self._in_flight = InFlight(page_size)
        self._rows: dict[Request, None] = {}  # prefilling and decoding
        self._prefilling: dict[Request, None] = {}
        self._hungry: dict[Request, None] = {}  # rows whose lease runs low
        self._ending: list[Request] = []
        self._preempted: list[Request] = []
        self._releases: list[int] = []
        self._seq = 0
        self._acknowledged = 0
        self._chunk_plans: deque[int] = deque()  # seqs not acknowledged

    @property
    def running(self) -> int:
        return len(self._rows)

    @property
    def waiting(self) -> int:
        return len(self._requests) - len(self._rows)

    @property
    def seq(self) -> int:
        """Of the last plan."""
        return self._seq

    @property
    def acknowledged(self) -> int:
        """The last plan that the worker is known to have applied."""
        return self._acknowledged

    @property
    def owners(self) -> set[str]:
        """Replicas that live requests answer to."""
        return {request.generate.reply_to for request in self._requests.values()}

    def submit(self, generate: Generate, now: float, *, restored: bool = False) -> None:
        """A new request, or with ``restored`` one that was live before this process. Known ones are ignored."""
        if generate.id in self._requests or generate.id in self._recent:
            return
        full = self.waiting >= self._limits.max_queue
        self._submitted += 1
        request = Request(generate, now, self._submitted)
        self._requests[generate.id] = request
        if self._refused(request):
            return
        if full and not restored:
            self._fail(
                request,
                Failure.QUEUE_FULL,
                f"{self.waiting - 1} requests are waiting, the limit is {self._limits.max_queue}: try again later",
            )
            return
        self._queue.push(request, self.cache.tree.version)

    def abort(self, id: int, *, notify: bool = False) -> None:
        """End a request early. Unknown ones are ignored."""
        request = self._requests.get(id)
        if request is None:
            return
        if notify:
            self.outbox.reply(request.generate.reply_to, Aborted(id))
        self._release(request)
        self._end(request, "abort")

    def abort_of(self, owner: str) -> None:
        """End every request of a replica that is gone."""
        for request in [r for r in self._requests.values() if r.generate.reply_to == owner]:
            self.abort(request.id)

    def flush(self, flush: Flush) -> None:
        """Drop what is cached and in no request's use."""
        self.outbox.reply(flush.reply_to, Flushed(flush.nonce, self.cache.flush()))

    def suspend(self) -> None:
        """Plan nothing until ``reopen``: the worker has forgotten its rows, or is about to."""
        self._suspended = True

    def reopen(self, epoch: int, card: ModelCard) -> None:
        """The worker starts empty: every live request goes back to the queue with its output so far."""
        self.epoch = epoch
        self.stats.epochs += 1
        self.stats.evicted_pages += self.cache.evicted
        self._begin(card)
        for request in sorted(self._requests.values(), key=_seniority):
            request.restart()
            if not self._refused(request):
                self._queue.push(request, self.cache.tree.version)

    def on_step(self, step: Step, now: float) -> None:
        """Note what the worker did. Steps of another epoch and tokens already known are ignored."""
        if self.epoch is not None and step.epoch != self.epoch:
            return
        if step.ids:
            self._on_rows(step, now)
        for id, message in step.errors:
            request = self._requests.get(id)
            if request is not None:
                self._leave(request)
                self.cache.disown(request)
                self._fail(request, Failure.WORKER, message)
        if step.plan > self._acknowledged:
            self._on_acknowledged(step.plan)

    def plan(self, now: float) -> Plan | None:
        """The next plan, None if there is nothing to tell the worker now."""
        if self.epoch is None or self._card is None or self._suspended:
            return None
        draft = Draft(self.epoch, self._seq + 1)
        if self._hungry:
            self._extend_leases(draft)
        if len(self._chunk_plans) < _CHUNK_PLANS:
            self._prefill(draft, self._card, now)
        for id in self._releases:
            draft.release(id)
        self._releases = []
        if draft.empty:
            return None
        self._seq = draft.seq
        if draft.chunks:
            self._chunk_plans.append(draft.seq)
        for request, _, end in draft.chunks:
            self._planned(request, end)
        return draft.plan()

    def check(self) -> None:
        """Prove the accounts right. Raises AssertionError."""
        holders = [*self._rows, *self._ending]
        self.cache.check(holders)
        strays = [request for request in self._requests.values() if request not in self._rows and request.pages]
        if strays or len(set(holders)) != len(holders):
            raise AssertionError("pages held by a request that is no row")

    # --- what the worker did

    def _on_rows(self, step: Step, now: float) -> None:
        ids, firsts = columns.as_uint64(step.ids).tolist(), columns.as_int32(step.firsts).tolist()
        counts, tokens, at = columns.as_int32(step.counts).tolist(), step.tokens, 0
        requests, lease = self._requests, self._limits.lease
        for id, first, count, finish in zip(ids, firsts, counts, step.finishes, strict=True):
            begin, at = at, at + count
            request = requests.get(id)
            if request is None:
                continue
            output = request.output
            known = len(output)
            if first > known:
                self._release(request)
                self._fail(request, Failure.UNAVAILABLE, f"output tokens {known} to {first - 1} are lost")
                continue
            if first + count > known:
                output.frombytes(tokens[4 * (begin + known - first) : 4 * at])
                self.stats.generated_tokens += first + count - known
                if known == 0 and request.chunk_seq:
                    self.stats.ttft_s.append(now - request.submitted)
            if finish:
                self._leave(request)
                self.cache.drop(request)
                self._end(request, _DONE[Finish(finish)])
            elif (
                request.limit < request.max_positions
                and request.state is State.DECODING
                and leases.runs_low(request.limit, request.prompt_len + len(output) - 1, lease)
            ):
                self._hungry[request] = None

    def _on_acknowledged(self, seq: int) -> None:
        self._acknowledged = seq
        while self._chunk_plans and self._chunk_plans[0] <= seq:
            self._chunk_plans.popleft()
        if self._ending:
            done = [request for request in self._ending if request.chunk_seq <= seq]
            self._ending = [request for request in self._ending if request.chunk_seq > seq]
            for request in done:
                self._releases.append(request.id)
                self.cache.drop(request)
                request.state = State.ENDED
        if self._preempted:
            returning = [request for request in self._preempted if request.release_seq <= seq]
            self._preempted = [request for request in self._preempted if request.release_seq > seq]
            self._requeue(request for request in returning if request.state is State.PREEMPTED)

    # --- leases

    def _extend_leases(self, draft: Draft) -> None:
        lease = self._limits.lease
        decoding = len(self._rows) - len(self._prefilling)
        if self.cache.available >= decoding * (1 + self.cache.pages_for(lease)):
            rows: Sequence[Request] = list(self._rows)  # enough for all: then all run low together again
        else:
            lease = leases.affordable(lease, self.cache.available * self.cache.page_size, decoding)
            rows = sorted(self._hungry, key=_seniority)
        for request in rows:
            if request.state is State.DECODING and self._extended(draft, request, lease):
                self._hungry.pop(request, None)

    def _extended(self, draft: Draft, request: Request, lease: int) -> bool:
        """Grant a row more positions, as many as there is room for. False if it still needs some."""
        computed = request.computed
        wanted = leases.limit(computed, lease, request.max_positions)
        limit = min(wanted, self._holdable(request))
        if limit <= request.limit < wanted:
            if request.limit > computed or not self._make_room(request):
                return False
            limit = min(wanted, self._holdable(request))
        if limit > request.limit:
            request.limit = limit
            draft.grant(request, self.cache.grow(request, limit))
        return True

    def _holdable(self, request: Request) -> int:
        return (len(request.pages) + self.cache.available) * self.cache.page_size

    def _make_room(self, request: Request) -> bool:
        """Preempt the youngest rows of the lowest priority until a page can be had. False if none can for now."""
        while not self.cache.available:
            victim = max(self._rows, key=_seniority)
            if self._ending or victim.chunk_seq > self._acknowledged:
                return False  # pages come with the next acknowledgement
            self._preempt(victim)
            if victim is request:
                return False
        return True

    def _preempt(self, victim: Request) -> None:
        self.stats.preemptions += 1
        self._leave(victim)
        self.cache.drop(victim)
        self._releases.append(victim.id)
        self._preempted.append(victim)
        victim.state, victim.release_seq = State.PREEMPTED, self._seq + 1

    # --- prefill

    def _prefill(self, draft: Draft, card: ModelCard, now: float) -> None:
        budget = ChunkBudget(card.chunk_tokens, card.page_size)
        for request in self._prefilling:
            length = budget.chunk(request.planned, request.input_len)
            if length == 0:
                return
            draft.chunk(request, length)
            budget.spend(length)
        if not len(self._queue):
            return
        self._queue.refresh(self.cache.tree.version)
        while budget.left and len(self._rows) + len(self._ending) < card.max_running and not self._hungry:
            request = self._candidate()
            if request is None:
                return
            if not self._admitted(draft, request, budget, now):
                self._queue.push(request, self.cache.tree.version)
                return

    def _candidate(self) -> Request | None:
        """Take the first waiting request whose next page nobody is about to prefill."""
        for _ in range(_CANDIDATES):
            request = self._queue.pop(self.cache.tree.version)
            if request is None:
                return None
            prefix = self.cache.prefix(request)
            owner = self._in_flight.owner(prefix.node, request.tokens(), prefix.pages)
            if owner is None:
                return request
            self._in_flight.park(request, owner)
        return None

    def _admitted(self, draft: Draft, request: Request, budget: ChunkBudget, now: float) -> bool:
        """Make a waiting request a row, with pages for its input and a lease, if there is room."""
        input_len = request.prompt_len + len(request.output)
        positions = leases.limit(input_len, self._limits.lease, request.max_positions)
        spare = len(self._rows) * self.cache.pages_for(self._limits.lease)  # for those that run already
        room = self.cache.room(request, positions, spare)
        length = budget.chunk(room.prefix.pages * self.cache.page_size, input_len)
        if room.short > 0 or length == 0:
            return False
        cached = self.cache.admit(request, positions)
        request.limit = positions
        request.state = State.PREFILLING
        self._rows[request] = self._prefilling[request] = None
        draft.admit(request)
        draft.chunk(request, length)
        budget.spend(length)
        self._in_flight.advance(request)
        first = not request.announced and not request.output
        self.outbox.started(request.id, request.generate.reply_to, cached if first else None)
        if first:
            self.stats.queue_s.append(now - request.submitted)
            self.stats.prompt_tokens += request.prompt_len
            self.stats.cached_tokens += cached
        request.announced = True
        return True

    def _planned(self, request: Request, end: int) -> None:
        request.planned, request.chunk_seq = end, self._seq
        self.cache.share(request, end, request.input_ids)
        if end == request.input_len:
            request.state = State.DECODING
            del self._prefilling[request]
            self._requeue(self._in_flight.end(request))
        else:
            self._requeue(self._in_flight.advance(request))

    # --- beginnings and ends

    def _refused(self, request: Request) -> bool:
        """Fail a request that could never fit."""
        card = self._card
        if card is None:
            return False
        tokens = request.prompt_len + request.generate.sampling.max_tokens
        if tokens > card.context_length:
            message = f"prompt and max_tokens are {tokens} tokens together, the context holds {card.context_length}"
        elif self.cache.pages_for(request.max_positions) > card.num_pages:
            message = f"prompt and max_tokens are {tokens} tokens together, the KV cache holds {card.kv_tokens}"
        else:
            return False
        self._fail(request, Failure.TOO_LARGE, message)
        return True

    def _release(self, request: Request) -> None:
        """Take a request off the worker, or out of the queue; its pages are free once that is safe."""
        is_row = request in self._rows
        self._leave(request)
        if is_row and request.chunk_seq > self._acknowledged:
            self._ending.append(request)
        elif is_row:
            self._releases.append(request.id)
            self.cache.drop(request)

    def _leave(self, request: Request) -> None:
        self._rows.pop(request, None)
        self._prefilling.pop(request, None)
        self._hungry.pop(request, None)
        self._queue.remove(request)
        self._requeue(self._in_flight.end(request))

    def _requeue(self, requests: Iterable[Request]) -> None:
        for request in requests:
            if request.state in (State.WAITING, State.PREEMPTED):
                request.state = State.WAITING
                self._queue.push(request, self.cache.tree.version)

    def _fail(self, request: Request, failure: Failure, message: str) -> None:
        self.outbox.reply(request.generate.reply_to, Failed(request.id, failure, message))
        self._end(request, failure)

    def _end(self, request: Request, outcome: str) -> None:
        request.state = State.ENDED
        del self._requests[request.id]
        if len(self._remembered) == _REMEMBERED:
            self._recent.discard(self._remembered[0])
        self._remembered.append(request.id)
        self._recent.add(request.id)
        self.stats.outcomes[outcome] += 1
        self.outbox.ended(request.id)

    def _cached_tokens(self, request: Request) -> int:
        return self.cache.prefix(request).pages * self.cache.page_size


def _seniority(request: Request) -> tuple[int, int]:
    """Smaller for the row to keep: a higher priority, an older request."""
    return -request.generate.priority, request.order
