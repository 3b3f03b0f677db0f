"""One program over many items."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import rootstream as rs
from rootstream.lang.calls import Call, CallError, Outcome, Usage
from rootstream.lang.mapping.items import Item
from rootstream.lang.mapping.progress import Progressing, Tally
from rootstream.lang.parts import Text
from tests.rootstream.lang.memory import Memory

SHOTS = "Answer the question, as in these examples of questions and answers. " * 2


class Quick(Memory):
    """Memory that looks nothing up, for thousands of calls; items whose text has "bad" fail."""

    async def run(self, call: Call, on_piece: Any = None) -> Outcome:
        if any(isinstance(part, Text) and "bad" in part.text for part in call.parts):
            raise CallError("this one is bad", 400)
        earlier, self.calls = self.calls, []
        try:
            return await super().run(call, on_piece)
        finally:
            self.calls = [*earlier, *self.calls] if len(earlier) < 200 else earlier


@rs.function
def ask(s: rs.State, question: str, hint: str = "") -> str:
    s += f"{SHOTS}Q: {question}{hint}\n" + rs.gen("answer", max_tokens=4)
    return s["answer"]


def test_items_come_in_the_order_in_which_they_were_given() -> None:
    items = ask.map(["a", ("b",), {"question": "c", "hint": "!"}], backend=Memory())
    alone = [ask.run("a", backend=Memory()), ask.run("b", backend=Memory()), ask.run("c", "!", backend=Memory())]
    assert [item.returned for item in items] == [state.returned for state in alone]
    assert [item.index for item in items] == [0, 1, 2]
    assert [item["answer"] for item in items] == [state["answer"] for state in alone]
    assert items[2].text() == alone[2].text()
    assert items.errors == []
    assert items.usage.completion_tokens == 3
    assert items[:2].raise_first() == items[:2]


def test_an_item_s_error_is_its_own() -> None:
    items = ask.map(["a", "bad", "c", ("x", "y", "too many")], backend=Quick())
    assert [item.is_good for item in items] == [True, False, True, False]
    assert isinstance(items[1].error, CallError)
    assert isinstance(items[3].error, TypeError)
    with pytest.raises(CallError, match="this one is bad"):
        _ = items[1].returned
    with pytest.raises(CallError):
        items.raise_first()


def test_so_many_run_at_once_and_no_more_tasks_are_made() -> None:
    backend, most = Quick(), 0

    async def main() -> None:
        nonlocal most
        async for _ in ask.amap_iter(map(str, range(3000)), backend=backend, concurrency=20):
            most = max(most, len(asyncio.all_tasks()))

    asyncio.run(main())
    assert backend.most_running == 20
    assert most < 3 * 20


def test_an_iterator_is_read_only_as_far_as_needed() -> None:
    read = 0

    def numbers() -> Iterator[str]:
        nonlocal read
        for number in range(10_000):
            read = number
            yield str(number)

    async def main() -> list[int]:
        seen: list[int] = []
        given = ask.amap_iter(numbers(), backend=Quick(), concurrency=4)
        async for item in given:
            seen.append(item.index)
            await asyncio.sleep(0.001)
            if len(seen) == 20:
                break
        await given.aclose()
        return seen

    assert len(asyncio.run(main())) == 20
    assert read < 20 + 3 * 4


async def test_async_iterators_and_completion_order() -> None:
    async def questions() -> AsyncIterator[str]:
        for question in "abcdef":
            await asyncio.sleep(0)
            yield question

    items = await ask.amap(questions(), backend=Memory(), concurrency=3)
    assert [item.args for item in items] == list("abcdef")

    class FirstIsSlow(Memory):
        async def run(self, call: Call, on_piece: Any = None) -> Outcome:
            if "slow" in str(call.parts):
                await asyncio.sleep(0.05)
            return await super().run(call, on_piece)

    seen = [item.index async for item in ask.amap_iter(["slow", "b", "c"], backend=FirstIsSlow())]
    assert seen[-1] == 0


async def test_an_iterator_s_error_ends_the_map() -> None:
    def broken() -> Iterator[str]:
        yield from "abcdef"
        raise OSError("the file is gone")

    backend = Memory()
    with pytest.raises(OSError, match="the file is gone"):
        await ask.amap(broken(), backend=backend, concurrency=2)
    assert backend.running == 0


def test_the_common_beginning_is_computed_first_and_given_back() -> None:
    backend = Memory()
    ask.map([f"{letter}?" for letter in "abcdef"], backend=backend)
    first, *rest = backend.calls
    assert first.prefill
    assert first.keep
    assert first.parts == (Text(f"{SHOTS}Q: "),)
    assert not any(call.prefill for call in rest)
    assert len(rest) == 6
    assert {call.group for call in backend.calls} == {first.group}
    assert first.group is not None
    assert first.id in backend.released
    assert not backend.kept


@pytest.mark.parametrize(
    ("items", "how"),
    [(["a"], {}), ([], {}), (["a", "b"], {"warm": False})],
)
def test_nothing_is_warmed_for_few_or_where_it_is_not_wanted(items: list[str], how: dict[str, Any]) -> None:
    backend = Memory()
    assert len(ask.map(items, backend=backend, **how)) == len(items)
    assert not any(call.prefill for call in backend.calls)


def test_programs_that_differ_from_the_start_are_not_warmed() -> None:
    @rs.function
    def other(s: rs.State, word: str) -> None:
        s += word + rs.gen("x")

    backend = Memory()
    other.map(["one", "two", "three"], backend=backend)
    assert not any(call.prefill for call in backend.calls)


def test_a_server_that_cannot_warm_does_without() -> None:
    class Other(Memory):
        async def run(self, call: Call, on_piece: Any = None) -> Outcome:
            if call.prefill:
                raise rs.Unsupported("no such thing here")
            return await super().run(call, on_piece)

    assert not ask.map(["a", "b"], backend=Other()).errors


def test_rehearsals_end_before_anything_is_generated() -> None:
    ran: list[str] = []

    @rs.function
    def program(s: rs.State, word: str) -> None:
        ran.append(f"before {word}")
        s += SHOTS + word + rs.gen("x")
        assert s["x"]
        ran.append(f"after {word}")

    program.map(["a", "b"], backend=Memory())
    assert sorted(ran) == ["after a", "after b", "before a", "before a", "before b", "before b"]


def test_each_item_has_its_own_seed() -> None:
    def answers(seed: int) -> list[Any]:
        return [item.returned for item in ask.map(["a"] * 4, backend=Memory(), seed=seed)]

    assert len(set(answers(1))) == 4
    assert answers(1) == answers(1)
    assert answers(1) != answers(2)


def test_time_outs_are_items_errors() -> None:
    class Never(Memory):
        async def run(self, call: Call, on_piece: Any = None) -> Outcome:
            if "slow" in str(call.parts):
                await asyncio.sleep(60)
            return await super().run(call, on_piece)

    items = ask.map(["a", "slow"], backend=Never(), timeout=0.05, warm=False)
    assert items[0].is_good
    assert isinstance(items[1].error, rs.DeadlineExceeded)


async def test_cancelling_a_map_cancels_its_calls() -> None:
    backend = Memory()
    backend.hold.clear()
    running = asyncio.create_task(ask.amap(list("abcd"), backend=backend, concurrency=3, warm=False))
    while backend.running < 3:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(backend.cancelled) == 3
    assert backend.running == 0
    assert len(asyncio.all_tasks()) == 1


def test_a_body_that_cancels_itself_ends_its_item() -> None:
    @rs.function
    async def program(s: rs.State, word: str) -> str:
        if word == "b":
            raise asyncio.CancelledError
        return word

    items = program.map(["a", "b", "c"], backend=Memory())
    assert [item.is_good for item in items] == [True, False, True]


def test_wrong_concurrency_is_refused() -> None:
    with pytest.raises(ValueError, match="concurrency is the number of items at once, not 0"):
        ask.map(["a"], backend=Memory(), concurrency=0)


@pytest.mark.parametrize("items", ["abc", {"question": "a"}])
def test_one_item_is_no_list(items: Any) -> None:
    with pytest.raises(TypeError, match="a map takes a list of items, or an iterator, not one"):
        ask.map(items, backend=Memory())


async def test_in_a_loop_it_is_awaited() -> None:
    with pytest.raises(RuntimeError, match=r"await ask\.amap"):
        ask.map(["a"], backend=Memory())


def _item(index: int, *, cached: int = 0, is_restored: bool = False, error: Exception | None = None) -> Item:
    usage = Usage(10, 1, cached)
    return Item(index=index, args=None, error=error, usage=usage, is_restored=is_restored)


def test_progress_counts_rate_hits_errors_and_what_was_there() -> None:
    tally = Tally()
    tally.add(_item(0, is_restored=True), 0.0)
    for second in range(1, 5):
        tally.add(_item(second, cached=5), float(second))
    tally.add(_item(5, cached=5, error=CallError("x")), 5.0)
    assert tally.line(5.0) == "1.2 items/s, 50% cached, 1 from before, 1 failed"
    assert tally.rate(100.0) < 0.02


def test_progress_is_a_bar_on_a_terminal_and_a_line_elsewhere() -> None:
    for is_terminal in (True, False):
        told = io.StringIO()
        console = Console(file=told, force_terminal=is_terminal, width=120)
        with Progressing("ask", 2, console) as progress:
            progress.add(_item(0))
            progress.add(_item(1))
        assert ("━" in told.getvalue()) == is_terminal
        assert "items/s" in told.getvalue()
        assert ("2/2" if is_terminal else "2 of 2") in told.getvalue()


def test_progress_goes_to_stderr_and_only_if_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    ask.map(["a", "b"], backend=Memory())
    assert capsys.readouterr() == ("", "")
    ask.map(["a", "b"], backend=Memory(), progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "ask: 2 of 2" in err


def test_a_map_s_trace_holds_its_programs(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    ask.map(["a", "b", "c"], backend=Memory(), trace=path)
    events = json.loads(path.read_text())
    assert sum(event["ph"] == "B" and event["name"] == "ask" for event in events) == 3
