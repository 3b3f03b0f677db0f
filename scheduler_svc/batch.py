"""The rows of one worker in one epoch, the queue before them, and the plans that change them.

Every row holds its pages here until the plan that releases it, or until the worker says that it has
finished. A row with chunks the worker has not acknowledged is not released: what is planned is always
executed, so what is in the tree is always computed. Knows nothing of replies, or of what becomes of a
request that has left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from scheduler_svc import fairness, leases
from scheduler_svc.draft import Draft
from scheduler_svc.in_flight import InFlight
from scheduler_svc.kv_cache import KvCache
from scheduler_svc.limits import Limits
from scheduler_svc.outbox import Outbox
from scheduler_svc.pages import page_array
from scheduler_svc.policy import Queue
from scheduler_svc.prefill import ChunkBudget
from scheduler_svc.request import Request, State, seniority
from scheduler_svc.stats import Stats
from scheduler_svc.tenants import Tenant, Tenants
from scheduler_svc.trials import Trials, accuse
from shared.protocol import ModelCard, Plan

_CHUNK_PLANS = 2  # outstanding at most: one being executed, one at hand
_CANDIDATES = 64  # waiting requests looked at in one plan


class Batch:
    """Waiting requests and rows. Made anew for every epoch."""

    def __init__(
        self, epoch: int, card: ModelCard, limits: Limits, stats: Stats, outbox: Outbox, tenants: Tenants
    ) -> None:
        self.epoch = epoch
        self.card = card
        self.seq = 0  # of the last plan
        self.acknowledged = 0  # the last plan that the worker is known to have applied
        self.cache = KvCache(
            card.num_pages, card.page_size, sharing=limits.radix_cache, context_keep_s=limits.context_keep_s
        )
        self._lease = limits.lease
        self._stats = stats
        self._outbox = outbox
        self._tenants = tenants
        self._queue = Queue(limits.policy, self._cached_tokens)
        self._in_flight = InFlight(card.page_size)
        self._trials = Trials()
        self._rows: dict[Request, None] = {}  # prefilling and decoding
        self._prefilling: dict[Request, None] = {}
        self._hungry: dict[Request, None] = {}  # rows whose lease runs low
        self._ending: list[Request] = []  # ended, but the worker has chunks of them to execute
        self._preempted: list[Request] = []  # released, but the worker may not know yet
        self._releases: list[int] = []
        self._chunk_plans: deque[int] = deque()  # seqs not acknowledged

    @property
    def rows(self) -> int:
        return len(self._rows)

    @property
    def content(self) -> bool:
        """There is nothing that a plan could say now."""
        if self._hungry or self._releases:
            return False
        if len(self._chunk_plans) >= _CHUNK_PLANS:
            return True
        if self._trials.pending:
            return False
        return not self._prefilling and (not len(self._queue) or not self._has_rows_for_more)

    @property
    def at_ease(self) -> bool:
        """All rows decode, nobody waits, and no word of the worker is awaited."""
        waiting = self._hungry or self._releases or self._prefilling or self._ending or self._preempted
        return not (waiting or self._chunk_plans or len(self._queue) or self._trials.pending)

    @property
    def _has_rows_left(self) -> bool:
        return len(self._rows) + len(self._ending) < self.card.max_running

    @property
    def _has_rows_for_more(self) -> bool:
        """There is a row for whoever waits first, or somebody who has to give one up."""
        if self._has_rows_left:
            return True
        first = self._queue.first
        return first is not None and self._displaceable(first.tenant, first.priority) is not None

    def enqueue(self, request: Request) -> None:
        """Let a request wait for its turn."""
        request.state = State.WAITING
        if request.suspected:
            self._trials.add(request)
        else:
            self._queue.push(request, self.cache.tree.version)

    def accuse(self) -> list[Request]:
        """The worker has died. Returns the requests that have to end for it."""
        return accuse([*self._rows, *self._preempted], others=bool(self._ending))

    def withdraw(self, request: Request) -> None:
        """A request ends here, not at the worker: its pages are free once that is safe."""
        is_row = request in self._rows
        self._leave(request)
        if is_row and request.chunk_seq > self.acknowledged:
            self._ending.append(request)
        elif is_row:
            self._releases.append(request.id)
            self.cache.end(request)

    def finished(self, request: Request) -> None:
        """The worker has ended a row: its pages are free, what it computed stays cached."""
        self._leave(request)
        self.cache.end(request)

    def failed(self, request: Request) -> None:
        """The worker has given up a row: its pages are free, and nobody should trust them."""
        self._leave(request)
        self.cache.disown(request)

    def runs_low(self, request: Request) -> None:
        """A row's output has reached ``low_at``: it needs a longer lease."""
        if request.state is State.DECODING:
            self._hungry[request] = None

    def on_acknowledged(self, seq: int) -> None:
        """The worker has applied the plans up to ``seq`` and executed their chunks."""
        if seq <= self.acknowledged:
            return
        self.acknowledged = seq
        while self._chunk_plans and self._chunk_plans[0] <= seq:
            self._chunk_plans.popleft()
        if self._ending:
            done = [request for request in self._ending if request.chunk_seq <= seq]
            self._ending = [request for request in self._ending if request.chunk_seq > seq]
            for request in done:
                self._releases.append(request.id)
                self.cache.end(request)
        if self._preempted:
            returning = [request for request in self._preempted if request.release_seq <= seq]
            self._preempted = [request for request in self._preempted if request.release_seq > seq]
            self._requeue(returning)

    def plan(self, now: float) -> Plan | None:
        """The next plan, None if there is nothing to tell the worker now."""
        draft = Draft(self.epoch, self.seq + 1)
        if self._hungry:
            self._extend_leases(draft)
        if len(self._chunk_plans) < _CHUNK_PLANS:
            self._prefill(draft, now)
        for id in self._releases:
            draft.release(id)
        self._releases = []
        if draft.empty:
            return None
        self.seq = draft.seq
        if draft.chunks:
            self._chunk_plans.append(draft.seq)
        for request, _, end in draft.chunks:
            self._planned(request, end)
        return draft.plan()

    def plan_releases(self, *, retract: bool) -> Plan | None:
        """The next plan while nothing is to be computed. ``retract``: rows go back to the queue as soon as they may."""
        if retract:
            for row in [row for row in self._rows if row.chunk_seq <= self.acknowledged]:
                self._preempt(row)
        if not self._releases:
            return None
        draft = Draft(self.epoch, self.seq + 1)
        for id in self._releases:
            draft.release(id)
        self._releases = []
        self.seq = draft.seq
        return draft.plan()

    @property
    def is_still(self) -> bool:
        """The worker computes nothing that was planned, and no row has slots to go on by itself."""
        if self._releases or self._ending or self._preempted or self._chunk_plans:
            return False
        return all(row.state is not State.DECODING or row.wanted >= row.limit for row in self._rows)

    def check(self, requests: Iterable[Request]) -> None:
        """Prove the accounts right, given all live requests. Raises AssertionError."""
        holders = [*self._rows, *self._ending]
        self.cache.check(holders)
        strays = [request for request in requests if request not in self._rows and request.pages]
        if strays or len(set(holders)) != len(holders):
            raise AssertionError("pages held by a request that is no row")

    # --- leases

    def _extend_leases(self, draft: Draft) -> None:
        lease = self._lease
        decoding = len(self._rows) - len(self._prefilling)
        if self.cache.available >= decoding * (1 + self.cache.pages_for(lease)):
            self._extend_all(draft)  # then all run low together again
            return
        lease = leases.affordable(lease, self.cache.available * self.cache.page_size, decoding)
        for request in sorted(self._hungry, key=seniority):
            if request.state is State.DECODING and self._extended(draft, request, lease):
                self._hungry.pop(request, None)

    def _extend_all(self, draft: Draft) -> None:
        """Grant every decoding row a whole lease: there are pages for all, so nobody has to make room.

        A row that grammars forced far ahead wants more than a lease, and is seen to when the others have theirs.
        """
        lease, page_size = self._lease, self.cache.page_size
        ahead: list[Request] = []
        for request in self._rows:
            if request.state is not State.DECODING:
                continue
            limit = leases.limit(request.wanted, lease, request.max_positions)
            if limit > request.limit + lease:
                ahead.append(request)
            elif limit > request.limit:
                held = len(request.pages) * page_size
                pages = self.cache.grow(request, limit) if limit > held else page_array()
                self._lend(request, limit)
                draft.grant(request, pages)
        self._hungry.clear()
        for request in ahead:
            if request.state is State.DECODING and not self._extended(draft, request, lease):
                self._hungry[request] = None

    def _extended(self, draft: Draft, request: Request, lease: int) -> bool:
        """Grant a row more positions, as many as there is room for. False if it cannot draw its next token yet."""
        wanted = leases.limit(request.wanted, lease, request.max_positions)
        limit = min(wanted, self._holdable(request))
        if limit <= request.limit < wanted:
            if request.limit > request.computed or not self._make_room(request):
                return False
            limit = min(wanted, self._holdable(request))
        if limit > request.limit:
            pages = self.cache.grow(request, limit)
            self._lend(request, limit)
            draft.grant(request, pages)
        return request.limit > request.wanted

    def _lend(self, request: Request, limit: int) -> None:
        low = leases.runs_low_at(limit, self._lease, request.max_positions)
        request.limit, request.low_at = limit, low - request.prompt_len + 1

    def _holdable(self, request: Request) -> int:
        return (len(request.pages) + self.cache.available) * self.cache.page_size

    def _make_room(self, request: Request) -> bool:
        """Preempt the most dispensable rows until a page can be had. False if none can for now."""
        while not self.cache.available:
            victim = max(self._rows, key=fairness.dispensable)
            if self._ending or victim.chunk_seq > self.acknowledged:
                return False  # pages come with the next acknowledgement
            self._preempt(victim)
            if victim is request:
                return False
        return True

    def _preempt(self, victim: Request) -> None:
        self._stats.preemptions += 1
        self._leave(victim)
        self.cache.drop(victim)
        self._releases.append(victim.id)
        self._preempted.append(victim)
        victim.state, victim.release_seq = State.PREEMPTED, self.seq + 1

    # --- prefill

    def _prefill(self, draft: Draft, now: float) -> None:
        budget = ChunkBudget(self.card.chunk_tokens, self.card.page_size)
        several = self._tenants.several
        if several:
            self.charge()
        for request in sorted(self._prefilling, key=fairness.by_service) if several else self._prefilling:
            if several:
                self._admit(draft, budget, now, request)
                if request.state is not State.PREFILLING:  # it had to make room
                    continue
            chunk = budget.chunk(request.planned, request.input_len, _unscored(request))
            if chunk.length == 0:
                if chunk.is_crowded:  # others may have what is left
                    continue
                return
            draft.chunk(request, chunk.length)
            budget.spend(chunk)
        self._admit(draft, budget, now)

    def _admit(self, draft: Draft, budget: ChunkBudget, now: float, before: Request | None = None) -> None:
        """Admit waiting requests while there is room; only those that precede ``before``, if that is given."""
        if not budget.left or self._hungry:
            return
        if len(self._queue):
            self._queue.refresh(self.cache.tree.version)
        while budget.left:
            first = self._queue.first
            if self._trials.pending and (first is None or not first.returns or self._trials.under_way):
                self._try_next(draft, budget, now)
                return
            if first is None:
                return
            if before is not None and not fairness.precedes(first.tenant, first.priority, before):
                return
            if not self._has_rows_for_more:
                return
            request = self._candidate()
            if request is None:
                return
            if not self._admitted(draft, request, budget, now):
                self._queue.push(request, self.cache.tree.version)
                return

    def _try_next(self, draft: Draft, budget: ChunkBudget, now: float) -> None:
        """Admit one of those that may have killed the worker, if it would be the only one on which to blame a death."""
        suspect = self._trials.next
        if suspect is None or self._trials.under_way or self._ending:
            return
        if all(row.is_cleared for row in self._rows) and self._admitted(draft, suspect, budget, now):
            self._trials.starts(suspect)

    def _candidate(self) -> Request | None:
        """Take the first waiting request whose next page nobody is about to prefill."""
        for _ in range(_CANDIDATES):
            request = self._queue.pop(self.cache.tree.version)
            if request is None:
                return None
            prefix = self.cache.prefix(request)
            owner = self._in_flight.owner(prefix.node, request, prefix.pages)
            if owner is None:
                return request
            self._in_flight.park(request, owner)
        return None

    def _admitted(self, draft: Draft, request: Request, budget: ChunkBudget, now: float) -> bool:
        """Make a waiting request a row, with pages for its input and a lease, if there is room."""
        input_len = request.prompt_len + len(request.output)
        positions = leases.limit(input_len, self._lease, request.max_positions)
        while True:
            spare = len(self._rows) * self.cache.pages_for(self._lease)  # for those that run already
            room = self.cache.room(request, positions, spare)
            chunk = budget.chunk(room.prefix.pages * self.cache.page_size, input_len, _unscored(request))
            if chunk.length == 0:
                return False
            if room.short <= 0 and self._has_rows_left:
                break
            victim = self._displaceable(request.tenant, request.generate.priority, draft)
            if victim is None:
                return False
            self._preempt(victim)
        cached = self.cache.admit(request, positions)
        self._lend(request, positions)
        request.state = State.PREFILLING
        self._rows[request] = self._prefilling[request] = None
        self._tenants.starts(request.tenant)
        if request.group is not None:
            self._queue.starts(request.group)
        request.prefilled = max(request.prefilled, cached)
        draft.admit(request)
        draft.chunk(request, chunk.length)
        budget.spend(chunk)
        self._in_flight.advance(request)
        first = not request.announced and not request.output
        self._outbox.started(request.id, request.generate.reply_to, cached if first else None)
        if first:
            self._stats.queue_s.append(now - request.submitted)
            self._stats.prompt_tokens += request.prompt_len
            self._stats.cached_tokens += cached
            request.told = cached
        request.announced = True
        request.returns = False
        return True

    def _displaceable(self, tenant: Tenant, priority: int, draft: Draft | None = None) -> Request | None:
        """The row that has to go for one of ``tenant``: what is in the plan already stays."""
        if not self._tenants.several:
            return None
        drafted = {chunk.request for chunk in draft.chunks} if draft is not None else set[Request]()

        def can_go(row: Request) -> bool:
            return row.chunk_seq <= self.acknowledged and row not in drafted

        return fairness.displaceable(self._rows, tenant, priority, can_go)

    def charge(self) -> None:
        """Charge the tenants for what their rows have got by now; done only where somebody compares."""
        fairness.charge_output(self._rows)

    def _planned(self, request: Request, end: int) -> None:
        request.planned, request.chunk_seq = end, self.seq
        fairness.charge_prompt(request, end)
        self.cache.share(request, end, request.input_ids)
        if end == request.input_len:
            request.state = State.DECODING
            del self._prefilling[request]
            self._requeue(self._in_flight.end(request))
        else:
            self._requeue(self._in_flight.advance(request))

    def _leave(self, request: Request) -> None:
        if request in self._rows:
            del self._rows[request]
            fairness.charge_output((request,))
            self._tenants.stops(request.tenant)
        self._prefilling.pop(request, None)
        self._hungry.pop(request, None)
        self._queue.remove(request)
        self._trials.leaves(request)
        self._requeue(self._in_flight.end(request))

    def _requeue(self, requests: Iterable[Request]) -> None:
        for request in requests:
            if request.state is not State.ENDED:
                self.enqueue(request)

    def _cached_tokens(self, request: Request) -> int:
        return self.cache.prefix(request).pages * self.cache.page_size


def _unscored(request: Request) -> int | None:
    """The first position whose token is to be scored and is not; None where none is wanted."""
    return None if request.scores is None else request.scores.end
