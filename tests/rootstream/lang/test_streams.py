"""Texts as they come: in plain and async bodies, beside a running program, and in a loop that reading drives."""

import asyncio

import pytest

import rootstream as rs
from tests.rootstream.lang.memory import Memory, hashed

A = hashed("Q: ", "a", None, 0)


@rs.function
def answer(s: rs.State) -> str:
    s += "Q: " + rs.gen("a")
    return s["a"]


async def test_pieces_in_a_plain_body() -> None:
    @rs.function
    def program(s: rs.State) -> list[str]:
        s += "Q: " + rs.gen("a")
        return list(s.text_iter("a"))

    assert (await program.arun(backend=Memory())).returned == list(A)


async def test_pieces_in_an_async_body_and_the_value_after_them() -> None:
    @rs.function
    async def program(s: rs.State) -> list[str]:
        s += "Q: " + rs.gen("a")
        pieces = [piece async for piece in s.stream("a")]
        return [*pieces, s["a"]]

    assert (await program.arun(backend=Memory())).returned == [*A, A]


async def test_a_call_whose_pieces_nobody_reads_is_not_streamed() -> None:
    backend = Memory()
    await answer.arun(backend=backend)
    await answer.arun(backend=backend, stream=True)
    assert [call.stream for call in backend.calls] == [False, True]


async def test_somebody_beside_the_program_waits_for_a_value_and_reads_its_pieces() -> None:
    state = answer.start(backend=Memory(), stream=True)
    assert [piece async for piece in state.stream("a")] == list(A)
    assert await state.get("a") == A
    await state


async def test_all_that_is_said_comes_in_order() -> None:
    @rs.function
    async def program(s: rs.State) -> None:
        s += "Q: " + rs.gen("a")
        await s
        s += "; " + rs.gen("b") + "."

    state = program.start(backend=Memory())
    assert "".join([piece async for piece in state.stream()]) == state.text()


async def test_a_value_that_never_comes() -> None:
    state = answer.start(backend=Memory())
    with pytest.raises(KeyError, match="there is 'a'"):
        await state.get("b")
    await state


def test_reading_drives_a_streamed_run() -> None:
    backend = Memory()
    state = answer.run(backend=backend, stream=True)
    assert not backend.calls
    assert list(state.text_iter("a")) == list(A)
    assert state.returned == A == state["a"]
    assert state.text() == f"Q: {A}"
    assert (backend.kept, backend.closed) == ({}, 1)
    assert "".join(state.text_iter()) == state.text()


def test_a_streamed_run_that_is_left_ends_its_call() -> None:
    backend = Memory(answers={"a": "long" * 100})
    with answer.run(backend=backend, stream=True) as state:
        assert next(state.text_iter("a")) == "l"
    assert (backend.running, backend.kept) == (0, {})
    assert len(backend.cancelled) == 1


def test_a_streamed_run_tells_of_its_error() -> None:
    state = answer.run(backend=Memory(broken=lambda name: name == "a"), stream=True)
    with pytest.raises(rs.CallError, match="a is broken"):
        list(state.text_iter("a"))
    with pytest.raises(rs.CallError, match="a is broken"):
        state.text()


async def test_an_error_comes_to_those_who_stream() -> None:
    state = answer.start(backend=Memory(broken=lambda name: name == "a"))
    with pytest.raises(rs.CallError, match="a is broken"):
        async for _ in state.stream("a"):
            pass
    with pytest.raises(rs.CallError, match="a is broken"):
        await state
    assert isinstance(state.error, rs.CallError)


async def test_two_read_the_same_pieces() -> None:
    state = answer.start(backend=Memory(), stream=True)

    async def read() -> str:
        return "".join([piece async for piece in state.stream("a")])

    assert await asyncio.gather(read(), read()) == [A, A]
    await state
