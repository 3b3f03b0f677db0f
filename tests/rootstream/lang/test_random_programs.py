"""Whatever a program says and however it is cut: the same texts and values, each call once, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import rootstream as rs
from tests.rootstream.lang.memory import Memory, hashed


class Say(NamedTuple):
    text: str


class Ask(NamedTuple):
    name: str
    choices: tuple[str, ...] = ()


class Fork(NamedTuple):
    branches: tuple[tuple[Any, ...], ...]
    join: bool


Step = Say | Ask | Fork

_says = st.builds(Say, st.sampled_from(["", "x", "yz ", "\n"]))
_asks = st.builds(Ask, st.sampled_from("abc"), st.sampled_from([(), ("l", "r")]))
_steps = st.recursive(
    st.lists(_says | _asks, max_size=4).map(tuple),
    lambda bodies: st.lists(
        _says | _asks | st.builds(Fork, st.lists(bodies, min_size=1, max_size=3).map(tuple), st.booleans()), max_size=5
    ).map(tuple),
    max_leaves=8,
)


class Model:
    """What a line says and knows, worked out at once."""

    def __init__(self, text: str = "", boxes: dict[str, list[Any]] | None = None) -> None:
        self.text = text
        self.boxes = boxes or {}  # each holds one value: equal values may be different generations
        self.lines: list[Model] = [self]

    @property
    def values(self) -> dict[str, Any]:
        return {name: box[0] for name, box in self.boxes.items()}

    def run(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            match step:
                case Say(text):
                    self.text += text
                case Ask(name, choices):
                    drawn = hashed(self.text, name, None, 0)
                    value = choices[int(drawn, 16) % len(choices)] if choices else drawn
                    self.text += value
                    self.boxes[name] = [value]
                case Fork(branches, join):
                    forks = [Model(self.text, dict(self.boxes)) for _ in branches]
                    for fork, body in zip(forks, branches, strict=True):
                        fork.run(body)
                        self.lines += fork.lines
                    if join:
                        names = dict.fromkeys(name for fork in forks for name in fork.said(self))
                        gathered = {name: [[fork.said(self).get(name) for fork in forks]] for name in names}
                        self.boxes |= gathered

    def said(self, parent: Model) -> dict[str, Any]:
        return {name: box[0] for name, box in self.boxes.items() if box is not parent.boxes.get(name)}


def record(s: rs.State, steps: tuple[Step, ...], draws: random.Random, lines: list[rs.State]) -> None:
    """The steps in a plain body, which demands values wherever ``draws`` says so."""
    lines.append(s)
    for step in steps:
        match step:
            case Say(text):
                s += text
            case Ask(name, choices):
                s += rs.select(name, choices) if choices else rs.gen(name)
            case Fork(branches, join):
                forks = s.fork(len(branches))
                for fork, body in zip(forks, branches, strict=True):
                    record(fork, body, draws, lines)
                if join:
                    forks.join()
        if draws.random() < 0.3 and s.names():
            s[draws.choice(s.names())]


async def record_async(s: rs.State, steps: tuple[Step, ...], draws: random.Random, lines: list[rs.State]) -> None:
    lines.append(s)
    for step in steps:
        match step:
            case Say(text):
                s += text
            case Ask(name, choices):
                s += rs.select(name, choices) if choices else rs.gen(name)
            case Fork(branches, join):
                forks = s.fork(len(branches))
                for fork, body in zip(forks, branches, strict=True):
                    await record_async(fork, body, draws, lines)
                if join:
                    await forks.join()
        if draws.random() < 0.3:
            await s


def program_of(steps: tuple[Step, ...], draws: random.Random, lines: list[rs.State], is_async: bool) -> rs.Function:
    @rs.function
    def plain(s: rs.State) -> None:
        record(s, steps, draws, lines)

    @rs.function
    async def asynchronous(s: rs.State) -> None:
        await record_async(s, steps, draws, lines)

    return asynchronous if is_async else plain


def asks(steps: tuple[Step, ...]) -> Iterator[Ask]:
    for step in steps:
        match step:
            case Ask():
                yield step
            case Fork(branches):
                for body in branches:
                    yield from asks(body)
            case _:
                pass


@settings(max_examples=150, deadline=None)
@given(_steps, st.integers(0, 2**16), st.booleans())
def test_the_same_however_it_is_cut(steps: tuple[Step, ...], draw: int, is_async: bool) -> None:
    draws = random.Random(draw)
    backend = Memory(order=random.Random(draw))
    lines: list[rs.State] = []
    asyncio.run(program_of(steps, draws, lines, is_async).arun(backend=backend))
    model = Model()
    model.run(steps)
    assert [line.text() for line in lines] == [line.text for line in model.lines]
    assert [{name: line[name] for name in line.names()} for line in lines] == [line.values for line in model.lines]
    assert sum(len([p for p in call.parts if hasattr(p, "name")]) for call in backend.calls) == len(list(asks(steps)))
    assert not backend.kept
    assert backend.running == 0


@settings(max_examples=60, deadline=None)
@given(_steps, st.integers(0, 2**16), st.booleans(), st.sampled_from("abc"))
def test_nothing_is_left_behind_by_an_error(steps: tuple[Step, ...], draw: int, is_async: bool, broken: str) -> None:
    draws = random.Random(draw)
    backend = Memory(order=random.Random(draw), broken=lambda name: name == broken)
    program = program_of(steps, draws, [], is_async)
    if any(ask.name == broken for ask in asks(steps)):
        with pytest.raises(rs.CallError, match="is broken"):
            asyncio.run(program.arun(backend=backend))
    else:
        asyncio.run(program.arun(backend=backend))
    assert not backend.kept
    assert backend.running == 0


@settings(max_examples=60, deadline=None)
@given(_steps, st.integers(0, 2**16), st.booleans(), st.integers(0, 30))
def test_nothing_is_left_behind_by_a_cancellation(
    steps: tuple[Step, ...], draw: int, is_async: bool, after: int
) -> None:
    draws = random.Random(draw)
    backend = Memory(order=random.Random(draw))

    async def cancelled() -> None:
        state = program_of(steps, draws, [], is_async).start(backend=backend)
        for _ in range(after):
            await asyncio.sleep(0)
        state.cancel()
        with contextlib.suppress(rs.Cancelled):
            await state

    asyncio.run(cancelled())
    assert not backend.kept
    assert backend.running == 0
