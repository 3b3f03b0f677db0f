"""Programs from beginning to end, plain and async."""

import asyncio

import pytest

import rootstream as rs
from rootstream.lang.parts import Gen, Text
from tests.rootstream.lang.memory import Memory, hashed


@rs.function
def twice(s: rs.State, question: str) -> str:
    s += question + rs.gen("a") + "; " + rs.gen("b")
    return s["b"]


@rs.function
async def twice_async(s: rs.State, question: str) -> str:
    s += question + rs.gen("a") + "; " + rs.gen("b")
    await s
    return s["b"]


@pytest.mark.parametrize("program", [twice, twice_async])
def test_a_template_is_one_call(program: rs.Function) -> None:
    backend = Memory()
    state = program.run("Q: ", backend=backend)
    a = hashed("Q: ", "a", None, 0)
    b = hashed(f"Q: {a}; ", "b", None, 0)
    assert (state["a"], state["b"], state.returned) == (a, b, b)
    assert state.text() == f"Q: {a}; {b}"
    assert [call.parts for call in backend.calls] == [(Text("Q: "), Gen(name="a"), Text("; "), Gen(name="b"))]
    assert not backend.kept
    assert backend.closed == 1


def test_forks_share_what_was_said_before() -> None:
    @rs.function
    def program(s: rs.State) -> list[str]:
        s += "Once. "
        forks = s.fork(3)
        for number, fork in enumerate(forks):
            fork += f"{number}: "
            fork += rs.gen("tip")
        forks.join()
        s += "And: " + rs.gen("end")
        return s["tip"]

    backend = Memory()
    state = program.run(backend=backend)
    tips = [hashed(f"Once. {number}: ", "tip", None, 0) for number in range(3)]
    assert state.returned == tips == state["tip"]
    first, *children, last = backend.calls
    assert first.parts == (Text("Once. "),)
    assert first.prefill
    assert {child.parent for child in children} == {first.id}
    assert len({child.group for child in children}) == 1
    assert not any(child.keep for child in children)
    assert (last.parent, last.keep) == (first.id, False)
    assert backend.most_running == 3
    assert not backend.kept


async def test_async_bodies_say_when_a_value_is_read_too_early() -> None:
    @rs.function
    async def program(s: rs.State) -> str:
        s += rs.gen("a")
        with pytest.raises(rs.NotReady, match="await"):
            s["a"]
        return await s.get("a")

    state = await program.arun(backend=Memory())
    assert state.returned == hashed("", "a", None, 0)


async def test_many_plain_bodies_share_one_loop() -> None:
    backend = Memory()
    backend.hold.clear()
    states = [twice.start(f"{number}: ", backend=backend) for number in range(50)]
    await asyncio.sleep(0.01)
    assert backend.running == 50
    backend.hold.set()
    for state in states:
        await state
    assert len({state["a"] for state in states}) == 50


async def test_run_in_a_running_loop_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"await twice\.arun"):
        twice.run("Q", backend=Memory())
