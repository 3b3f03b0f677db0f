"""What states say, know and refuse."""

import asyncio

import pytest

import rootstream as rs
from rootstream.lang.parts import Close, Gen, Open, Text
from tests.rootstream.lang.memory import Memory, hashed


def test_a_conversation() -> None:
    @rs.function
    def program(s: rs.State) -> None:
        s += rs.system("Be brief.")
        with s.user():
            s += "Hello"
        with s.assistant():
            s += "I say: " + rs.gen("a")
        s.user("And?")
        s += rs.assistant(rs.select("b", ["yes", "no"]))

    state = program.run(backend=Memory(answers={"a": "hi"}))
    assert state.messages() == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "I say: hi"},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": state["b"]},
    ]
    assert state.text().splitlines()[1] == "user: Hello"


def test_what_cannot_be_said_where() -> None:
    @rs.function
    def program(s: rs.State) -> None:
        chat, plain = s.fork(2)
        chat += rs.user("Hello")
        for said, says in (
            ("more", "outside a message"),
            (rs.gen("a"), "outside a message"),
            (rs.user(rs.gen("a")), "in the user's message"),
        ):
            with pytest.raises(rs.Misplaced, match=says):
                chat.copy().__iadd__(said)
        with pytest.raises(rs.Misplaced, match="inside the user's message"), s.user():
            s += rs.assistant("no")
        plain += "text"
        with pytest.raises(rs.Misplaced, match="either a conversation or plain text"):
            plain += rs.user("no")
        with pytest.raises(TypeError, match="not of int"):
            plain += 3  # type: ignore[operator]
        with pytest.raises(ValueError, match="1 branch or more"):
            plain.fork(0)
        with pytest.raises(KeyError, match="none yet"):
            plain["x"]

    program.run(backend=Memory())


def test_values_of_types_lists_and_results() -> None:
    @rs.function
    def program(s: rs.State) -> None:
        s += rs.gen("number", dtype=int) + rs.gen("many", n=3) + rs.gen("numbers", n=2, dtype=int)
        s += rs.select("choice", ["a", "b"])

    state = program.run(backend=Memory(answers={"number": "42", "numbers": "7"}))
    assert state["number"] == 42
    assert state["many"] == [hashed("42", "many", None, k) for k in range(3)]
    assert state["numbers"] == [7, 7]
    assert state.meta("choice").scores in ((1.0, 0.0), (0.0, 1.0))
    assert state.meta("number").text == "42"
    assert state.usage.completion_tokens == 4
    assert state.names() == ("number", "many", "numbers", "choice")
    assert "choice" in state
    assert "other" not in state


def test_a_text_that_cannot_be_read() -> None:
    @rs.function
    def program(s: rs.State) -> str:
        s += rs.gen("number", dtype=int)
        with pytest.raises(rs.Unreadable, match="'4x' is no int"):
            s["number"]
        return s.meta("number").text

    assert program.run(backend=Memory(answers={"number": "4x"})).returned == "4x"


def test_defaults_are_for_generations_that_do_not_say() -> None:
    @rs.function
    def program(s: rs.State, top_k: str) -> None:
        s += top_k + rs.gen("a") + rs.gen("b", temperature=0, stop="x") + rs.gen("c", stop=["y"])

    backend = Memory()
    program.run(backend=backend, top_k="text", temperature=0.5, stop="\n", max_tokens=9)
    assert backend.calls[0].parts == (
        Text("text"),
        Gen(name="a", temperature=0.5, stop=("\n",), max_tokens=9),
        Gen(name="b", temperature=0, stop=("x",), max_tokens=9),
        Gen(name="c", temperature=0.5, stop=("y",), max_tokens=9),
    )
    with pytest.raises(TypeError, match="temperature is a number"):
        program.run("text", backend=backend, temperature="high")
    with pytest.raises(TypeError, match="unexpected keyword"):
        program.run("text", backend=backend, temprature=1)


def test_a_seed_gives_each_generation_its_own() -> None:
    @rs.function
    def program(s: rs.State, *, early: bool) -> None:
        s += rs.gen("a") + rs.gen("b", seed=5)
        if early:
            s["a"]
        forks = s.fork(2)
        for fork in forks:
            fork += rs.gen("c")
        if early:
            forks["c"]
        forks.join()

    texts = [program.run(backend=Memory(), seed=1, early=early) for early in (True, False)]
    assert [texts[0][name] for name in "abc"] == [texts[1][name] for name in "abc"]
    backend = Memory()
    program.run(backend=backend, seed=1, early=False)
    seeds = [part.seed for call in backend.calls for part in call.parts if isinstance(part, Gen)]
    assert seeds[1] == 5
    assert len(set(seeds)) == 4
    assert program.run(backend=Memory(), seed=2, early=True)["a"] != texts[0]["a"]


def test_programs_inline() -> None:
    @rs.function
    def inner(s: rs.State, word: str) -> str:
        s += word + rs.gen("inner")
        return s["inner"]

    @rs.function
    async def inner_async(s: rs.State, word: str) -> str:
        s += word + rs.gen("inner")
        return await s.get("inner")

    @rs.function
    def outer(s: rs.State) -> list[str]:
        return [inner(s, "a"), inner_async(s, "b")]

    @rs.function
    async def outer_async(s: rs.State) -> list[str]:
        return [await inner(s, "a"), await inner_async(s, "b")]

    first, second = outer.run(backend=Memory()), outer_async.run(backend=Memory())
    assert first.returned == second.returned
    assert first.text() == second.text()
    with pytest.raises(TypeError, match=r"inner\.run"):
        inner("a")  # type: ignore[arg-type]


def test_branches_in_bodies_side_by_side() -> None:
    @rs.function
    def climb(s: rs.State, start: int) -> str:
        for step in range(3):
            s += f"{start + step}" + rs.gen("step")
            s["step"]
        return s["step"]

    @rs.function
    def program(s: rs.State) -> list[str]:
        return s.fork(4).each(climb, range(4))

    @rs.function
    async def program_async(s: rs.State) -> list[str]:
        return await s.fork(4).each(climb, range(4))

    backend = Memory()
    assert program.run(backend=backend).returned == program_async.run(backend=Memory()).returned
    assert backend.most_running == 4


async def test_forks_in_async_bodies_gathered_by_their_own_tasks() -> None:
    async def climb(fork: rs.State, number: int) -> str:
        fork += f"{number}" + rs.gen("a")
        await fork
        fork += rs.gen("b")
        return await fork.get("b")

    @rs.function
    async def program(s: rs.State) -> list[str]:
        s += "Once."
        forks = s.fork(3)
        found = await asyncio.gather(*(climb(fork, number) for number, fork in enumerate(forks)))
        await forks.join()
        assert await forks.get("b") == found == s["b"]
        return found

    assert len((await program.arun(backend=Memory())).returned) == 3


def test_a_joined_fork_may_go_on() -> None:
    @rs.function
    def program(s: rs.State) -> str:
        s += "Once." + rs.gen("a")
        forks = s.fork(2)
        forks += rs.gen("b")
        forks.join()
        forks[0] += "More: "
        forks[0] += rs.gen("c")
        with pytest.raises(TypeError, match="branches"):
            forks[0] = s
        return forks[0]["c"]

    backend = Memory()
    state = program.run(backend=backend)
    assert state.returned
    assert backend.calls[-1].parent is None
    assert not backend.kept


def test_a_copy_that_alone_goes_on_says_what_was_said_before_in_its_own_call() -> None:
    @rs.function
    def program(s: rs.State) -> None:
        s += "Once. "
        other = s.copy()
        other += "Then " + rs.gen("a")

    backend = Memory()
    program.run(backend=backend)
    assert [call.parts for call in backend.calls] == [(Text("Once. Then "), Gen(name="a"))]


def test_a_parent_goes_with_the_call_that_is_the_last_to_need_it() -> None:
    @rs.function
    def program(s: rs.State) -> None:
        s += rs.user("a") + rs.assistant(rs.gen("x"))
        s["x"]
        s += rs.user("b") + rs.assistant(rs.gen("y"))

    backend = Memory()
    program.run(backend=backend)
    first, second = backend.calls
    assert (first.keep, second.keep) == (True, False)
    assert second.release == (first.id,)
    assert second.parent == first.id
    assert second.parts[:2] == (Close(), Open("user"))
    assert backend.released == [first.id]


def test_a_program_that_says_nothing_calls_nobody() -> None:
    backend = Memory()
    state = rs.function(lambda s: s.text()).run(backend=backend)
    assert (state.returned, state.messages(), backend.calls) == ("", [], [])


def test_what_is_no_program() -> None:
    with pytest.raises(TypeError, match="takes no state"):
        rs.function(lambda: None)
    with pytest.raises(TypeError, match="choose another name"):
        rs.function(lambda s, timeout: None)

    def yields(s: rs.State) -> object:
        yield s

    with pytest.raises(TypeError, match="yields"):
        rs.function(yields)


def test_methods_are_programs_of_their_instances() -> None:
    class Judge:
        def __init__(self, question: str) -> None:
            self.question = question

        @rs.function
        def ask(self, s: rs.State, ending: str) -> str:
            s += self.question + ending + rs.gen("a")
            return s["a"]

        @rs.function
        async def ask_async(self, s: rs.State, ending: str) -> str:
            return await self.ask(s, ending)

    judge = Judge("Is it")
    assert judge.ask.run("?", backend=Memory()).returned == hashed("Is it?", "a", None, 0)
    assert judge.ask_async.run("?", backend=Memory()).returned == hashed("Is it?", "a", None, 0)


def test_waiting_outside_a_program() -> None:
    with pytest.raises(RuntimeError, match="no plain function"):
        rs.wait(asyncio.sleep(0))
