"""Both backends over the whole deployment: the same programs say the same, and nothing stays behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, get_args

import aiohttp
import pytest

import rootstream as rs
from rootstream.lang.backends.server import new_id
from rootstream.lang.calls import Call, Outcome, Result
from rootstream.lang.node import Slot, spoken
from rootstream.lang.parts import Close, Gen, Method, Open, Part, Select, Text
from tests.stack import Stack

GREEDY: dict[str, Any] = {"max_tokens": 8, "temperature": 0}
USER = (Open("user"), Text("you are a fox"), Close())
ENDINGS = (" over", " the lazy dog", " forest and")

SAYS = (Open("assistant"),)
FLAGS = {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}


def gen(name: str = "a", **fields: Any) -> Gen:
    return Gen(name=name, **GREEDY | fields)


def select(method: Method) -> Select:
    return Select(name="a", choices=ENDINGS, method=method)


PROGRAMS: dict[str, tuple[Part, ...]] = {
    "a text with gaps": (Text("the quick"), gen(), Text(" and then"), gen("b")),
    "a stop": (Text("the quick brown fox"), gen(stop=("e",)), Text("!"), gen("b")),
    "several": (Text("the quick"), gen(n=3, temperature=1.0, seed=3)),
    "choices": (Text("it is a"), gen(choices=(" fox", " dog")), Text(" and"), gen("b")),
    "a pattern": (Text("number "), gen(regex="[0-9]{3}-[0-9]{2}")),
    "a grammar": (Text("answer "), gen(grammar='root ::= "fox" | "dog"')),
    "a schema": (Text("json "), gen(json_schema=FLAGS, max_tokens=40)),
    "log-probabilities": (Text("the"), gen(logprobs=True, top_logprobs=2)),
    "a chat": (*USER, *SAYS, gen(), Close(), *USER, *SAYS, gen("b")),
    "an answer begun": (*USER, *SAYS, Text("it is"), gen(), Close()),
    "a choice in a chat": (*USER, *SAYS, gen(choices=("yes", "no")), Close()),
    "a schema in a chat": (*USER, *SAYS, gen(json_schema={"enum": [1, 2]}), Close()),
    **{f"select by {method}": (Text("it runs"), select(method), gen("b")) for method in get_args(Method)},
    **{f"select in a chat by {method}": (*USER, *SAYS, Text("it"), select(method)) for method in get_args(Method)},
}


async def run(backend: rs.Backend, *parts: Part, stream: bool = False) -> Outcome:
    """Call it; the pieces of a stream add up."""
    told: dict[int, str] = {}

    def on_piece(part: int, text: str) -> None:
        told[part] = told.get(part, "") + text

    outcome = await backend.run(Call(id=new_id(), parts=parts, stream=stream), on_piece)
    assert told == ({result.part: result.text for result in outcome.results if result.text} if stream else {})
    return outcome


async def one_by_one(server: rs.Server, parts: tuple[Part, ...]) -> list[Result]:
    """Each generation by a call of its own, after all before it as text: what a server that keeps nothing must say."""
    said: list[Part | Slot] = []
    found: list[Result] = []
    for part in parts:
        if not isinstance(part, Gen | Select):
            said.append(part)
            continue
        (result,) = (await run(server, *spoken(iter(said)), part)).results
        slot = Slot(part)
        slot.result = result
        said.append(slot)
        found.append(result)
    return found


@pytest.mark.parametrize("program", PROGRAMS)
def test_both_say_the_same(program: str, stack: Stack) -> None:
    """Up to the first generation at once; after it only as text: what was drawn need not be what a tokenizer makes of
    its text, and a server that keeps nothing sees the text alone.
    """
    parts = PROGRAMS[program]

    async def main() -> None:
        server, openai = rs.Server(stack.url), rs.OpenAI(stack.url)
        expected = await one_by_one(server, parts)
        for stream in (False, True):
            ours, theirs = [(await run(each, *parts, stream=stream)).results for each in (server, openai)]
            same(ours[:1], expected[:1])
            same(theirs, expected)
            assert [result.part for result in ours] == [result.part for result in theirs]
        await server.close()
        await openai.close()

    asyncio.run(main())


def same(some: Sequence[Result], others: Sequence[Result]) -> None:
    assert len(some) == len(others)
    for mine, other in zip(some, others, strict=True):
        assert (mine.name, mine.text, mine.texts) == (other.name, other.text, other.texts)
        assert (mine.finish_reason, mine.index) == (other.finish_reason, other.index)
        assert mine.completion_tokens == other.completion_tokens
        assert mine.scores == pytest.approx(other.scores, abs=1e-3)
        if mine.logprobs and mine.index is None:
            values = [[entry["logprob"] for entry in each.logprobs["content"]] for each in (mine, other)]
            assert values[0] == pytest.approx(values[1], abs=1e-3)


async def forget(stack: Stack, id: str) -> None:
    async with aiohttp.ClientSession() as http, http.delete(f"{stack.url}/v1/contexts/{id}") as response:
        assert response.status == 200


def test_what_the_server_has_forgotten_is_said_again(stack: Stack) -> None:
    async def main() -> None:
        server = rs.Server(stack.url)
        root = Call(id=new_id(), parts=(Text("the quick brown fox jumps"),))
        await server.run(root)

        def child(text: str) -> Call:
            return Call(
                id=new_id(), parent=root.id, parts=(Text(text), Gen(name="x", **GREEDY)), history=lambda: root.parts
            )

        ends = [f" over {n}" for n in range(6)]
        expected = await asyncio.gather(*(server.run(child(end)) for end in ends))
        await forget(stack, root.id)
        found = await asyncio.gather(*(server.run(child(end)) for end in ends))
        assert [outcome.results[0].text for outcome in found] == [outcome.results[0].text for outcome in expected]
        await server.release([root.id])
        await server.close()

    asyncio.run(main())


def test_what_was_said_before_is_not_computed_again(stack: Stack) -> None:
    async def main() -> None:
        server = rs.Server(stack.url)
        root = Call(
            id=new_id(), parts=(Text("a system reads the message and the answer is streamed. " * 4),), prefill=True
        )
        await server.run(root)
        outcome = await server.run(Call(id=new_id(), parent=root.id, parts=(Text(" So"), Gen(name="x", **GREEDY))))
        assert outcome.usage.cached_tokens >= 0.8 * outcome.usage.prompt_tokens
        await server.close()

    asyncio.run(main())


def test_the_same_call_again_is_not_computed_again(stack: Stack) -> None:
    async def main() -> None:
        server = rs.Server(stack.url)
        call = Call(id=new_id(), parts=(Text("once"), Gen(name="x", max_tokens=8, temperature=1.0)))
        first, second = await server.run(call), await server.run(call)
        assert first == second
        await server.close()

    asyncio.run(main())


@pytest.mark.parametrize("cause", ["cancelled", "timeout"])
@pytest.mark.parametrize("kind", [rs.Server, rs.OpenAI])
def test_a_call_that_nobody_waits_for_ends_at_the_server(kind: Any, cause: str, stack: Stack) -> None:
    endless = (Text("the quick"), Gen(name="x", max_tokens=1500, ignore_eos=True, temperature=0))

    async def main() -> None:
        backend = kind(stack.url)
        began = asyncio.Event()
        timeout = 0.2 if cause == "timeout" else None
        call = Call(id=new_id(), parts=endless, stream=True, timeout=timeout)
        task = asyncio.create_task(backend.run(call, lambda _, __: began.set()))
        if cause == "timeout":
            with pytest.raises(rs.CallError) as raised:
                await task
            assert raised.value.code == "timeout"
        else:
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await backend.close()

    before = asyncio.run(aborted(stack))
    asyncio.run(main())
    deadline = time.monotonic() + 10
    while asyncio.run(aborted(stack)) == before:
        assert time.monotonic() < deadline, "it was computed to its end"
        time.sleep(0.1)


async def aborted(stack: Stack) -> float:
    async with aiohttp.ClientSession() as http, http.get(f"{stack.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    start = 'rootstream_requests_total{outcome="abort"'
    return sum(float(line.split()[-1]) for line in lines if line.startswith(start))


def test_tokens_are_counted_as_the_model_has_them(stack: Stack) -> None:
    async def main() -> None:
        server = rs.Server(stack.url)
        outcome = await server.run(Call(id=new_id(), parts=(Text("the quick brown fox"), Gen(name="x", max_tokens=1))))
        assert await server.count_tokens("the quick brown fox") == outcome.usage.prompt_tokens
        await server.close()

    asyncio.run(main())


def test_refusals_name_the_part(stack: Stack) -> None:
    async def main() -> None:
        server = rs.Server(stack.url)
        with pytest.raises(rs.CallError, match=r"parts\[1\]") as raised:
            await server.run(Call(id=new_id(), parts=(Text("a"), Gen(name="x", regex="("))))
        assert raised.value.status == 400
        await server.close()

    asyncio.run(main())
