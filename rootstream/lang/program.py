"""A program that runs: its branches, the calls in flight, and what it owes the server.

Calls start when a value is demanded, then everything that can run does. What goes into which call is plan.py's; what is
said is branch.py's. Knows nothing of how bodies wait.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
from typing import Any

from rootstream.lang.branch import Branch, Gathered, Manner
from rootstream.lang.calls import Backend, Call, CallError, OnPiece, Outcome, Usage
from rootstream.lang.deadlines import Deadline, current_deadline
from rootstream.lang.node import Failure, Node, Slot, Stage
from rootstream.lang.plan import blocker, cut, generates, merged, way

_LATER_S = 1.0  # the server gives up this long after the client: only where the client is gone


class Cancelled(CallError):
    """The program ended before its value was there."""


class Ended(RuntimeError):
    """The program is over: nothing more can be said."""


class Program:
    """One run of a program, on the loop that runs now."""

    def __init__(self, backend: Backend, manner: Manner) -> None:
        self.backend = backend
        self.usage = Usage()
        self.returned: Any = None
        self.error: BaseException | None = None
        self.has_ended = False
        self.root = Branch(manner)
        self.task: asyncio.Task[None] | None = None  # in which the body runs, if it runs beside others
        self._manner = manner
        self._name = secrets.token_hex(12)
        self._made = 0  # names of contexts and groups so far
        self._branches = [self.root]
        self._ready: dict[Branch | Node, None] = {}  # have something to run, in the order in which it was recorded
        self._calls: set[asyncio.Task[None]] = set()
        self._idle: asyncio.Future[None] | None = None
        self._owed: dict[str, None] = {}  # contexts that the server keeps for us
        self._spare: list[str] = []  # those among them that nobody goes on from
        self._failures: list[Failure] = []
        self._watchers: list[asyncio.Future[None]] = []

    def check_open(self) -> None:
        """Raises Ended."""
        if self.has_ended:
            raise Ended("this program has ended: what it said can be read, and nothing added")

    def recorded(self, branch: Branch) -> None:
        """``branch`` has something new to say."""
        branch.ended = False
        if branch.fresh and not branch.waits:
            self._ready[branch] = None
        if self._watchers:
            self._tell()

    def news(self) -> asyncio.Future[None]:
        """Done when something is recorded, or the program ends."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.append(future)
        return future

    def fork(self, branch: Branch, n: int) -> list[Branch]:
        """``n`` branches that go on from here. What is pending becomes one context, of which all are children."""
        if branch.pending:
            self._cut(branch, tuple(branch.pending), ())
            assert branch.base is not None
            if branch.base.slots:
                self._ready.pop(branch, None)
                self._ready[branch.base] = None
        group = self._new_name()
        children = [branch.child(number, group) for number in range(n)]
        branch.forked += 1
        for child in children:
            self._hold(child)
        self._branches += children
        return children

    def end(self, branch: Branch) -> None:
        """``branch`` says nothing more: what it still has to run is its last."""
        branch.ended = True
        if not branch.fresh:
            self._let_branch_go(branch)

    def flush(self) -> None:
        """Start everything that can run."""
        if not self._ready:
            return
        ready, self._ready = self._ready, {}
        deadline = current_deadline()
        for one in ready:
            if isinstance(one, Branch):
                self._launch_branch(one, deadline)
            else:
                self._launch_node(one, deadline)

    async def finish(self) -> None:
        """Run what is left. Raises the first error that nobody saw."""
        for branch in self._branches:
            self.end(branch)
        self.flush()
        while self._calls:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        for failure in self._failures:
            if not failure.was_seen:
                raise failure.seen()

    async def close(self) -> None:
        """Cancel what still runs, and give back every context. Nothing can be said from here on."""
        self.has_ended = True
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        if calls:
            await asyncio.gather(*calls, return_exceptions=True)
        cancelled = Failure(Cancelled("the program ended before this was generated"))
        for branch in self._branches:
            self._fail_branch(branch, cancelled)
        for node in self._ready:
            if isinstance(node, Node):
                self._failed(node, cancelled)
        self._tell()
        if self._owed:
            owed, self._owed = list(self._owed), {}
            await self.backend.release(owed)

    # -- which contexts are used by whom

    def _cut(self, branch: Branch, now: tuple[Any, ...], later: tuple[Any, ...]) -> Node:
        """A node of what ``branch`` says now; the branch stands there then."""
        node = Node(self._new_name(), branch.base, now, branch.fresh, branch.group, branch.tools)
        if branch.base is not None:
            branch.base.users += 1
        self._let_branch_go(branch)
        branch.base, branch.pending, branch.fresh = node, list(later), []
        if not branch.ended:
            self._hold(branch)
        return node

    def _hold(self, branch: Branch) -> None:
        if branch.base is not None:
            branch.base.users += 1
            branch.holds = True

    def _let_branch_go(self, branch: Branch) -> None:
        if branch.holds and branch.base is not None:
            branch.holds = False
            self._let_go(branch.base)

    def _let_go(self, node: Node | None) -> None:
        while node is not None:
            node.users -= 1
            if node.users or node.stage is Stage.RUNNING:
                return
            if node.stage is Stage.PLANNED and not node.slots:
                node = node.parent  # it will not run: its parent has one user less
                continue
            if node.stage is Stage.DONE and node.kept and not node.released:
                node.released = True
                self._spare.append(node.id)
            return

    # -- starting

    def _launch_branch(self, branch: Branch, deadline: Deadline | None) -> None:
        branch.waits = False
        if not branch.fresh:
            return
        ahead = blocker(branch.base)
        if ahead is None:
            now, later = cut(branch.pending)
            self._send(self._cut(branch, now, later), deadline)
        elif ahead.failure is not None:
            self._fail_branch(branch, ahead.failure)
        else:
            branch.waits = True
            ahead.waiting.append(functools.partial(self._launch_branch, branch, deadline))
            self._launch_node(ahead, deadline)

    def _launch_node(self, node: Node, deadline: Deadline | None) -> None:
        if node.stage is not Stage.PLANNED:
            return
        ahead = blocker(node.parent)
        if ahead is None:
            self._send(node, deadline)
        elif ahead.failure is not None:
            self._failed(node, ahead.failure)
        else:
            ahead.waiting.append(functools.partial(self._launch_node, node, deadline))
            self._launch_node(ahead, deadline)

    def _send(self, node: Node, deadline: Deadline | None) -> None:
        parent, before = way(node.parent)
        release = self._spare
        self._spare = []
        if parent is not None and parent.users == 1:  # this call is the last to go on from it
            parent.released = True
            release.append(parent.id)
        for id in release:
            self._owed.pop(id, None)
        node.kept = node.users > 0
        if node.kept:
            self._owed[node.id] = None
        node.stage = Stage.RUNNING
        parts = merged(before + node.parts)
        call = Call(
            id=node.id,
            parts=parts,
            parent=None if parent is None else parent.id,
            history=tuple if parent is None else parent.history,
            tools=() if node.tools is None else node.tools.schemas,
            template_kwargs=dict(self._manner.template_kwargs),
            group=node.group,
            prefill=not generates(parts[-1]),
            keep=node.kept,
            release=tuple(release),
            timeout=None if deadline is None else deadline.left() + _LATER_S,
            stream=self._manner.stream or any(slot.watched for slot in node.slots),
        )
        task = asyncio.get_running_loop().create_task(self._run(node, call, deadline))
        self._calls.add(task)
        if deadline is not None:
            deadline.covers(task)

    async def _run(self, node: Node, call: Call, deadline: Deadline | None) -> None:
        try:
            outcome = await self.backend.run(call, _pieces(node, call) if call.stream else None)
        except asyncio.CancelledError:
            self._failed(node, _cancelled(deadline), call)
        except Exception as error:  # noqa: BLE001 - it is raised where the value is demanded
            self._failed(node, Failure(error), call)
        else:
            self._known(node, call, outcome)
        task = asyncio.current_task()
        assert task is not None
        self._calls.discard(task)
        if not self._calls and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    # -- ending

    def _known(self, node: Node, call: Call, outcome: Outcome) -> None:
        if len(outcome.results) != len(node.slots):
            what = f"{len(outcome.results)} results for {len(node.slots)} generations"
            self._failed(node, Failure(CallError(f"the server answered with {what}")), call)
            return
        self.usage += outcome.usage
        node.stage = Stage.DONE
        for slot, result in zip(node.slots, outcome.results, strict=True):
            slot.settle(result)
        self._leave(node)

    def _failed(self, node: Node, failure: Failure, call: Call | None = None) -> None:
        node.stage = Stage.FAILED
        node.failure = failure
        self._failures.append(failure)
        for slot in node.slots:
            slot.fail(failure)
        if call is not None:
            self._owed.update(dict.fromkeys(call.release))  # who knows whether the server read it
        self._leave(node)

    def _leave(self, node: Node) -> None:
        """The node runs no more: its parent is not needed for it, and those who wait for it go on."""
        self._let_go(node.parent)
        if not node.users and node.kept and not node.released and node.stage is Stage.DONE:
            node.released = True
            self._spare.append(node.id)
        waiting, node.waiting = node.waiting, []
        for go_on in waiting:
            go_on()

    def _fail_branch(self, branch: Branch, failure: Failure) -> None:
        for slot in branch.fresh:
            slot.fail(failure)

    def _tell(self) -> None:
        watchers, self._watchers = self._watchers, []
        for future in watchers:
            if not future.done():
                future.set_result(None)

    def _new_name(self) -> str:
        self._made += 1
        return f"{self._name}.{self._made}"


async def settled(program: Program, slot: Slot | Gathered) -> None:
    """Run everything that can run, until ``slot`` has its values or an error."""
    program.flush()
    for leaf in slot.leaves():
        while not leaf.settled:
            await leaf.changed()


def _cancelled(deadline: Deadline | None) -> Failure:
    if deadline is None or not deadline.expired:
        return Failure(Cancelled("the call was cancelled"))
    failure = Failure(deadline.exceeded())
    failure.was_seen = True  # the block of the deadline raises its own
    return failure


def _pieces(node: Node, call: Call) -> OnPiece:
    """Gives pieces to the slots by the places of their parts."""
    places = (place for place, part in enumerate(call.parts) if generates(part))
    slots: dict[int, Slot] = dict(zip(places, node.slots, strict=True))

    def on_piece(place: int, text: str) -> None:
        slots[place].add_piece(text)

    return on_piece
