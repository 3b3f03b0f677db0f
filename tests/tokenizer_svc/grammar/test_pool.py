"""Compiling children: real processes that take too long, too much, or are killed."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import msgspec
import psutil
import pytest

from shared.grammar import Dfa, Guidance, Rejected, decode
from tokenizer_svc.grammar.compile import compile_spec
from tokenizer_svc.grammar.compiler import CompilerFailed, Result
from tokenizer_svc.grammar.frames import Outcome
from tokenizer_svc.grammar.limits import LIMITS, GrammarLimits
from tokenizer_svc.grammar.pool import Pool
from tokenizer_svc.grammar.spec import GrammarSpec, Kind

QUICK = GrammarSpec(Kind.REGEX, "[0-9]{3}")
ENDLESS = GrammarSpec(Kind.REGEX, "(a|b)*a(a|b){40}")
UNBOUNDED = msgspec.structs.replace(
    LIMITS, children=1, nfa_states=2**40, dfa_states=2**40, nfa_moves=2**60, compile_s=20, compile_wall_s=60
)


@contextlib.asynccontextmanager
async def running(limits: GrammarLimits) -> AsyncIterator[Pool]:
    pool = Pool(limits)
    task = asyncio.create_task(pool.run())
    try:
        yield pool
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert not children(), "none is left"


def children(pid: int | None = None) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "tokenizer_svc.grammar.child" in process.cmdline():
                found.append(process)
    return found


async def compiled(pool: Pool, spec: GrammarSpec, client: str = "c") -> Result:
    async with asyncio.timeout(20):
        return await pool.enqueue(spec, client).result


async def until_ready(count: int, besides: Collection[int] = ()) -> list[psutil.Process]:
    """Children at their low priority, which is theirs before they say that they are ready."""
    async with asyncio.timeout(20):
        while len(ready := [child for child in children() if child.pid not in besides and child.nice() > 0]) < count:
            await asyncio.sleep(0.01)
    return ready


async def test_what_children_compile_is_what_we_would() -> None:
    specs = [
        QUICK,
        GrammarSpec(Kind.REGEX, "x" * LIMITS.repeat * 4),  # more than a pipe holds, both ways
        GrammarSpec(Kind.CHOICE, '["yes", "no", "é"]'),
        GrammarSpec(Kind.LARK, 'start: "a" | start start'),
        GrammarSpec(Kind.REGEX, "(a"),
    ]
    async with running(LIMITS) as pool:
        results = await asyncio.gather(*(compiled(pool, spec) for spec in specs))
    outcomes = [result.reply.outcome for result in results]
    assert outcomes == [Outcome.DFA, Outcome.DFA, Outcome.DFA, Outcome.GUIDANCE, Outcome.REJECTED]
    for spec, result in zip(specs, results, strict=True):
        assert decode(result.reply.data) == compile_spec(spec, LIMITS)
        assert (result.reply.rejection is not None) == (result.reply.outcome is Outcome.REJECTED)
        assert result.seconds < LIMITS.compile_wall_s


async def test_children_are_small_and_take_no_time_while_they_wait() -> None:
    async with running(LIMITS) as pool:
        assert not children(), "nobody asked yet"
        pool.warm()
        ready = await until_ready(LIMITS.children)
        await compiled(pool, QUICK)
        before = [child.cpu_times()[:2] for child in ready]
        await asyncio.sleep(0.3)
        assert [child.cpu_times()[:2] for child in ready] == before
        assert all(child.memory_info().rss < 80 * 2**20 for child in ready)
        assert children() == ready, "the same ones go on"


async def test_a_grammar_that_takes_too_long_is_rejected_and_its_child_replaced() -> None:
    async with running(msgspec.structs.replace(UNBOUNDED, compile_s=0.3)) as pool:
        await compiled(pool, QUICK)
        [first] = children()
        endless, quick = await asyncio.gather(compiled(pool, ENDLESS), compiled(pool, QUICK))
        assert endless.reply.outcome is Outcome.TIMEOUT
        assert endless.reply.rejection == "takes more than 0.3 s to compile: make it smaller"
        assert decode(endless.reply.data) == Rejected(endless.reply.rejection)
        assert endless.seconds >= 0.3
        assert quick.reply.outcome is Outcome.DFA
        [second] = children()
        assert second.pid != first.pid


async def test_a_busy_machine_has_its_limit_too() -> None:
    async with running(msgspec.structs.replace(UNBOUNDED, compile_wall_s=0.2)) as pool:
        endless = await compiled(pool, ENDLESS)
        assert endless.reply.outcome is Outcome.TIMEOUT
        assert endless.reply.rejection == "is not compiled after 0.2 s on this busy machine: make it smaller"
        assert endless.seconds >= 0.2


async def test_a_grammar_that_takes_too_much_memory_is_rejected_and_its_child_replaced() -> None:
    limits = msgspec.structs.replace(UNBOUNDED, compile_bytes=160 * 2**20)
    async with running(limits) as pool:
        large = await compiled(pool, GrammarSpec(Kind.REGEX, "(a{1,1000}b){1,1000}"))
        assert large.reply.outcome is Outcome.MEMORY
        assert large.reply.rejection == "needs more than 160 MiB to compile: make it smaller"
        assert (await compiled(pool, QUICK)).reply.outcome is Outcome.DFA


async def test_a_child_that_grew_makes_room_for_a_small_one() -> None:
    async with running(msgspec.structs.replace(UNBOUNDED, child_bytes=1)) as pool:
        seen: set[int] = set()
        for _ in range(3):
            result = await compiled(pool, QUICK)
            assert (result.reply.outcome, result.reply.is_last) == (Outcome.DFA, True)
            [child] = await until_ready(1, seen)
            seen.add(child.pid)


async def test_an_idle_child_that_is_killed_is_replaced_without_anybody_noticing() -> None:
    async with running(UNBOUNDED) as pool:
        await compiled(pool, QUICK)
        for pause in (0, 0.001, 0.1):
            [child] = children()
            child.terminate()
            await asyncio.sleep(pause)
            assert (await compiled(pool, QUICK)).reply.outcome is Outcome.DFA
        [last] = children()
        assert last.pid != child.pid


async def test_a_child_that_dies_at_work_is_tried_again_once() -> None:
    async with running(UNBOUNDED) as pool:
        await compiled(pool, QUICK)
        job = pool.enqueue(ENDLESS, "c")
        dead: set[int] = set()
        while len(dead) < 2:
            [child] = await until_ready(1, dead)
            while child.cpu_times().user < 0.4 and not job.result.done():  # its imports take less
                await asyncio.sleep(0.02)
            child.terminate()
            dead.add(child.pid)
        with pytest.raises(CompilerFailed, match="ended with status -15"):
            await job.result
        assert (await compiled(pool, QUICK)).reply.outcome is Outcome.DFA


async def test_one_clients_many_do_not_lock_out_another() -> None:
    limits = msgspec.structs.replace(LIMITS, children=1)
    async with running(limits) as pool:
        await compiled(pool, QUICK)
        order: list[str] = []
        jobs = [pool.enqueue(GrammarSpec(Kind.REGEX, f"[a-z]{{{n}}}"), "busy") for n in range(1, 33)]
        jobs.append(pool.enqueue(QUICK, "other"))
        for job in jobs:
            job.result.add_done_callback(lambda _, client=job.client: order.append(client))
        await asyncio.gather(*(job.result for job in jobs))
        await asyncio.sleep(0)
        assert order.index("other") <= 1
        assert len(order) == 33


async def test_a_client_has_no_more_than_its_share_of_children() -> None:
    limits = msgspec.structs.replace(UNBOUNDED, children=2, compiles_per_client=1, compile_s=0.4)
    async with running(limits) as pool:
        await asyncio.gather(compiled(pool, QUICK, "a"), compiled(pool, QUICK, "b"))
        slow = [pool.enqueue(ENDLESS, "greedy") for _ in range(2)]
        quick = await compiled(pool, QUICK, "other")
        assert quick.reply.outcome is Outcome.DFA
        assert not slow[0].result.done(), "the second of greedy did not take the other child"
        assert pool.withdraw(slow[1])
        slow[1].result.cancel()
        await slow[0].result


async def test_what_is_withdrawn_is_not_compiled() -> None:
    limits = msgspec.structs.replace(UNBOUNDED, compile_s=0.3)
    async with running(limits) as pool:
        await compiled(pool, QUICK)
        first, second = pool.enqueue(ENDLESS, "c"), pool.enqueue(ENDLESS, "c")
        await asyncio.sleep(0.05)
        assert not pool.withdraw(first), "it is under way"
        assert pool.withdraw(second)
        await first.result
        assert (await compiled(pool, QUICK)).reply.outcome is Outcome.DFA
        assert not second.result.done()


async def test_stopping_ends_what_is_under_way() -> None:
    async with running(UNBOUNDED) as pool:
        await compiled(pool, QUICK)
        job = pool.enqueue(ENDLESS, "c")
        await asyncio.sleep(0.05)
        assert not job.result.done()
    assert job.result.cancelled()


async def test_children_that_do_not_start_fail_what_waits_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenizer_svc.grammar.compiler._CHILD", "tokenizer_svc.grammar.nothing")
    async with running(msgspec.structs.replace(LIMITS, children=1)) as pool:
        with pytest.raises(CompilerFailed, match="ended while it started"):
            await compiled(pool, QUICK)
        monkeypatch.undo()
        assert (await compiled(pool, QUICK)).reply.outcome is Outcome.DFA, "it is tried again"


PARENT = """
import asyncio
from tokenizer_svc.grammar.limits import LIMITS
from tokenizer_svc.grammar.pool import Pool
from tokenizer_svc.grammar.spec import GrammarSpec, Kind

async def main():
    pool = Pool(LIMITS)
    running = asyncio.create_task(pool.run())
    await pool.enqueue(GrammarSpec(Kind.REGEX, "a"), "c").result
    print("ready", flush=True)
    await running

asyncio.run(main())
"""


def test_children_end_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, cwd=Path.cwd())
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    left = children(parent.pid)
    assert left
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs(left, timeout=10)
    assert not alive


def test_kinds_of_compiled_grammars_are_those_of_the_replies() -> None:
    assert isinstance(compile_spec(QUICK, LIMITS), Dfa)
    assert isinstance(compile_spec(GrammarSpec(Kind.LARK, 'start: "a"'), LIMITS), Guidance)
