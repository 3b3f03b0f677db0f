"""The rows of one worker in one epoch, the queue before them, and the plans that change them.

Every row holds its pages here until the plan that releases it, or until the worker says that it has
finished. A row with chunks the worker has not acknowledged is not released: what is planned is always
executed, so what is in the tree is always computed. Knows nothing of replies, or of what becomes of a
request that has left.
"""

from __future__ import annotations

from collections.abc import Iterable

from scheduler_svc import fairness, leases
from scheduler_svc.draft import Draft
from scheduler_svc.in_flight import InFlight
from scheduler_svc.kv_cache import KvCache
from scheduler_svc.lending import Lending
from scheduler_svc.limits import Limits
from scheduler_svc.outbox import Outbox
from scheduler_svc.policy import Queue
from scheduler_svc.prefill import ChunkBudget
from scheduler_svc.request import Request, State
from scheduler_svc.stats import Stats
from scheduler_svc.tenants import Tenant, Tenants
from scheduler_svc.trials import Trials, accuse
from scheduler_svc.unacknowledged import Unacknowledged
from shared.protocol import ModelCard, Plan

_CANDIDATES = 64  # waiting requests looked at in one plan


class Batch:
    """Waiting requests and rows. Made anew for every epoch."""

    def __init__(
        self, epoch: int, card: ModelCard, limits: Limits, stats: Stats, outbox: Outbox, tenants: Tenants
    ) -> None:
        self.epoch = epoch
        self.card = card
        self.seq = 0  # of the last plan
        self.cache = KvCache(
            card.num_pages, card.page_size, sharing=limits.radix_cache, context_keep_s=limits.context_keep_s
        )
        self._stats = stats
        self._outbox = outbox
        self._tenants = tenants
        self._queue = Queue(limits.policy, self._cached_tokens)
        self._in_flight = InFlight(card.page_size)
        self._trials = Trials()
        self._rows: dict[Request, None] = {}  # prefilling and decoding
        self._prefilling: dict[Request, None] = {}
        self._lending = Lending(limits.lease, self.cache, self._rows, self._make_room)
        self._told = Unacknowledged()
        self._releases: list[int] = []

    @property
    def rows(self) -> int:
        return len(self._rows)

    @property
    def acknowledged(self) -> int:
        """The last plan that the worker is known to have applied."""
        return self._told.seq

    @property
    def content(self) -> bool:
        """There is nothing that a plan could say now."""
        if self._lending.hungry or self._releases:
            return False
        if self._told.is_full:
            return True
        if self._trials.pending:
            return False
        return not self._prefilling and (not len(self._queue) or not self._has_rows_for_more)

    @property
    def at_ease(self) -> bool:
        """All rows decode, nobody waits, and no word of the worker is awaited."""
        waiting = self._lending.hungry or self._releases or self._prefilling or len(self._queue) or self._trials.pending
        return not waiting and self._told.empty

    @property
    def _has_rows_left(self) -> bool:
        return len(self._rows) + len(self._told.ending) < self.card.max_running

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
        return accuse([*self._rows, *self._told.preempted], others=bool(self._told.ending))

    def withdraw(self, request: Request) -> None:
        """A request ends here, not at the worker: its pages are free once that is safe."""
        is_row = request in self._rows
        self._leave(request)
        if is_row and self._told.has_chunks_of(request):
            self._told.ending.append(request)
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
            self._lending.hungry[request] = None

    def on_acknowledged(self, seq: int) -> None:
        """The worker has applied the plans up to ``seq`` and executed their chunks."""
        reached = self._told.reach(seq)
        for request in reached.ended:
            self._releases.append(request.id)
            self.cache.end(request)
        self._requeue(reached.returning)

    def plan(self, now: float) -> Plan | None:
        """The next plan, None if there is nothing to tell the worker now."""
        draft = Draft(self.epoch, self.seq + 1)
        if self._lending.hungry:
            self._lending.extend(draft, len(self._rows) - len(self._prefilling))
        if not self._told.is_full:
            self._prefill(draft, now)
        for id in self._releases:
            draft.release(id)
        self._releases = []
        if draft.empty:
            return None
        self.seq = draft.seq
        if draft.chunks:
            self._told.planned_chunks(draft.seq)
        for request, _, end in draft.chunks:
            self._planned(request, end)
        return draft.plan()

    def plan_releases(self, *, retract: bool) -> Plan | None:
        """The next plan while nothing is to be computed. ``retract``: rows go back to the queue as soon as they may."""
        if retract:
            for row in [row for row in self._rows if not self._told.has_chunks_of(row)]:
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
        if self._releases or not self._told.empty:
            return False
        return all(row.state is not State.DECODING or row.wanted >= row.limit for row in self._rows)

    def check(self, requests: Iterable[Request]) -> None:
        """Prove the accounts right, given all live requests. Raises AssertionError."""
        holders = [*self._rows, *self._told.ending]
        self.cache.check(holders)
        strays = [request for request in requests if request not in self._rows and request.pages]
        if strays or len(set(holders)) != len(holders):
            raise AssertionError("pages held by a request that is no row")

    # --- room

    def _make_room(self, request: Request) -> bool:
        """Preempt the most dispensable rows until a page can be had. False if none can for now."""
        while not self.cache.available:
            victim = max(self._rows, key=fairness.dispensable)
            if self._told.ending or self._told.has_chunks_of(victim):
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
        self._told.preempted.append(victim)
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
        if not budget.left or self._lending.hungry:
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
        if suspect is None or self._trials.under_way or self._told.ending:
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
        positions = leases.limit(input_len, self._lending.lease, request.max_positions)
        while True:
            spare = len(self._rows) * self.cache.pages_for(self._lending.lease)  # for those that run already
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
        self._lending.lend(request, positions)
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
            return not self._told.has_chunks_of(row) and row not in drafted

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
        self._lending.hungry.pop(request, None)
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
