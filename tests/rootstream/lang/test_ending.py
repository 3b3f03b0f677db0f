"""Deadlines, cancellations and errors: who is told, and what happens to calls and contexts."""

import asyncio
import os
import signal
import threading

import pytest

import rootstream as rs
from tests.rootstream.lang.memory import Memory


@rs.function
def plain(s: rs.State) -> None:
    s += "Q: " + rs.gen("a")
    s["a"]


@rs.function
async def asynchronous(s: rs.State) -> None:
    s += "Q: " + rs.gen("a")
    await s


def held() -> Memory:
    backend = Memory()
    backend.hold.clear()
    return backend


@pytest.mark.parametrize("program", [plain, asynchronous])
def test_a_program_out_of_time(program: rs.Function) -> None:
    backend = held()
    with pytest.raises(TimeoutError, match=r"after 0\.05 s"):
        program.run(backend=backend, timeout=0.05)
    assert len(backend.cancelled) == 1
    assert backend.released == [backend.calls[0].id]
    assert backend.calls[0].timeout is not None


async def test_a_block_out_of_time_leaves_the_program_going() -> None:
    backend = held()

    @rs.function
    def program(s: rs.State) -> str:
        other = s.copy()
        try:
            with rs.deadline(0.03):
                s += rs.gen("a")
                s["a"]
        except rs.DeadlineExceeded:
            backend.hold.set()
        other += rs.gen("b")
        return other["b"]

    state = await program.arun(backend=backend)
    assert state.returned
    assert [call.id for call in backend.calls[:1]] == backend.cancelled


async def test_the_nearest_of_nested_deadlines() -> None:
    @rs.function
    async def program(s: rs.State) -> None:
        with rs.deadline(10), rs.deadline(0.02):
            s += rs.gen("a")
            await s

    with pytest.raises(rs.DeadlineExceeded, match=r"0\.02"):
        await program.arun(backend=held(), timeout=20)


async def test_a_cancelled_task_cancels_its_calls() -> None:
    backend = held()
    task = asyncio.ensure_future(plain.arun(backend=backend))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [call.id for call in backend.calls] == backend.cancelled == backend.released


async def test_a_cancelled_program_tells_those_who_wait() -> None:
    state = plain.start(backend=held())
    await asyncio.sleep(0.01)
    state.cancel()
    with pytest.raises(rs.Cancelled):
        await state.get("a")
    with pytest.raises(rs.Cancelled):
        await state


def test_ctrl_c_cancels_the_calls() -> None:
    backend = held()
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        plain.run(backend=backend)
    timer.join()
    assert len(backend.cancelled) == 1
    assert backend.closed == 1


def test_ctrl_c_while_reading_ends_a_streamed_run() -> None:
    backend = held()
    state = plain.run(backend=backend, stream=True)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        list(state.text_iter("a"))
    timer.join()
    assert len(backend.cancelled) == 1
    assert (backend.kept, backend.closed) == ({}, 1)


def test_an_error_that_nobody_looked_at_is_raised_at_the_end() -> None:
    @rs.function
    def program(s: rs.State) -> None:
        s += rs.gen("a")

    with pytest.raises(rs.CallError, match="a is broken"):
        program.run(backend=Memory(broken=lambda name: name == "a"))


def test_an_error_that_was_caught_is_no_error() -> None:
    @rs.function
    def program(s: rs.State) -> str:
        forks = s.fork(3)
        for fork in forks:
            fork += rs.gen("a")
        try:
            forks.join()
        except rs.CallError:
            s += "instead: " + rs.gen("b")
        return s["b"]

    assert program.run(backend=Memory(broken=lambda name: name == "a")).returned


def test_what_hangs_on_a_failed_call_fails_likewise() -> None:
    @rs.function
    def program(s: rs.State) -> None:
        s += rs.gen("a")
        fork = s.fork(1)[0]
        fork += rs.gen("b")
        with pytest.raises(rs.CallError, match="a is broken"):
            fork["b"]
        with pytest.raises(rs.CallError, match="a is broken"):
            s["a"]
        fork += rs.gen("c")
        with pytest.raises(rs.CallError, match="a is broken"):
            fork["c"]

    backend = Memory(broken=lambda name: name == "a")
    program.run(backend=backend)
    assert len(backend.calls) == 1


def test_nothing_is_added_after_the_end() -> None:
    state = plain.run(backend=Memory())
    with pytest.raises(rs.Ended):
        state += "more"
    with pytest.raises(rs.Ended):
        state.fork(2)


def test_an_error_of_the_body_is_the_programs() -> None:
    backend = held()

    @rs.function
    def program(s: rs.State) -> None:
        s += rs.gen("a")
        fork = s.copy()
        fork += rs.gen("b")
        raise LookupError("of the body")

    with pytest.raises(LookupError, match="of the body"):
        program.run(backend=backend)
    assert not backend.calls


def test_a_plain_body_may_clean_up_when_cancelled() -> None:
    cleaned: list[str] = []

    @rs.function
    def program(s: rs.State) -> None:
        s += rs.gen("a")
        try:
            s["a"]
        finally:
            rs.wait(asyncio.sleep(0))
            cleaned.append("yes")

    with pytest.raises(rs.DeadlineExceeded):
        program.run(backend=held(), timeout=0.02)
    assert cleaned == ["yes"]
