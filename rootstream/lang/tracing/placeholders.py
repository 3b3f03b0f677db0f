"""A backend for dry runs: it keeps what it is asked, and answers at once with placeholders of the right kind.

A placeholder is the first choice, a short text that the regex matches, a small value that the schema allows, or the
generation's name in angle brackets. Knows nothing of how programs run and nothing of what is drawn from the calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from rootstream.lang.calls import Call, CallError, OnPiece, Outcome, Result, Usage
from rootstream.lang.parts import Gen, Select
from rootstream.lang.tracing.instances import allowed, matching

Answers = Mapping[str, str | Sequence[str]]
"""Texts in place of placeholders, by the name of the generation; of several, one after the other, the last again."""

MOST_CALLS = 1000


class Placeholders:
    """Answers every call, and remembers it. ``stopped`` says why it answered no more."""

    def __init__(self, answers: Answers | None = None, most_calls: int = MOST_CALLS) -> None:
        self.calls: list[tuple[Call, Outcome]] = []
        self.stopped: str | None = None
        self._answers = {
            name: [text] if isinstance(text, str) else list(text) for name, text in (answers or {}).items()
        }
        self._most_calls = most_calls
        self._tools: dict[str, tuple[dict[str, Any], ...]] = {}  # of contexts, which children inherit

    async def run(self, call: Call, on_piece: OnPiece | None = None) -> Outcome:
        """Raises CallError after too many calls: a loop that waits for a value would never end."""
        if len(self.calls) >= self._most_calls:
            names = ", ".join(part.name for part in call.parts if isinstance(part, Gen | Select)) or "a value"
            self.stopped = (
                f"the dry run ends after {self._most_calls} calls: the program may be waiting for another text than "
                f"the placeholder; give it with answers={{name: text}}, for {names}"
            )
            raise CallError(self.stopped)
        tools = call.tools or self._tools.get(call.parent or "", ())
        self._tools[call.id] = tools
        results: list[Result] = []
        for place, part in enumerate(call.parts):
            match part:
                case Gen():
                    results.append(self._generated(part, place, tools))
                case Select():
                    results.append(self._selected(part, place))
                case _:
                    continue
            if on_piece is not None and results[-1].text:
                on_piece(place, results[-1].text)
        outcome = Outcome(tuple(results), Usage())
        self.calls.append((call, outcome))
        return outcome

    async def release(self, ids: Sequence[str]) -> None:
        """Nothing is kept for anybody."""

    async def close(self) -> None:
        """Nothing is open."""

    def _given(self, name: str) -> str | None:
        texts = self._answers.get(name)
        if not texts:
            return None
        return texts.pop(0) if len(texts) > 1 else texts[0]

    def _generated(self, gen: Gen, place: int, tools: tuple[dict[str, Any], ...]) -> Result:
        text = self._given(gen.name)
        if text is None and (called := _tool_calls(gen, tools)):
            return Result(name=gen.name, text="", part=place, finish_reason="tool_calls", tool_calls=called)
        if text is None:
            text = placeholder(gen)
        return Result(
            name=gen.name,
            text=text,
            part=place,
            texts=(text,) * gen.n if gen.n > 1 else (),
            logprobs={"content": [{"token": text, "logprob": 0.0, "bytes": list(text.encode()), "top_logprobs": []}]}
            if gen.logprobs
            else None,
        )

    def _selected(self, select: Select, place: int) -> Result:
        text = self._given(select.name)
        index = select.choices.index(text) if text in select.choices else 0
        scores = tuple(0.0 if other == index else -1.0 for other in range(len(select.choices)))
        return Result(name=select.name, text=select.choices[index], part=place, index=index, scores=scores)


def placeholder(gen: Gen) -> str:
    """A text that what is asked of the generation allows."""
    if gen.choices:
        return gen.choices[0]
    if gen.regex is not None and (text := matching(gen.regex)) is not None:
        return text
    if gen.json_schema is not None:
        return msgspec.json.encode(allowed(gen.json_schema)).decode()
    return f"<{gen.name}>"


def _tool_calls(gen: Gen, tools: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    """A call of the tool that must be called; none where the model may choose, so that loops over tools end."""
    match gen.tool_choice:
        case "required":
            wanted = tools[:1]
        case {"function": {"name": name}}:
            wanted = tuple(tool for tool in tools if tool.get("function", {}).get("name") == name)
        case _:
            wanted = ()
    return tuple(
        {
            "id": f"call_{place}",
            "type": "function",
            "function": {
                "name": tool["function"]["name"],
                "arguments": msgspec.json.encode(allowed(tool["function"].get("parameters", {}))).decode(),
            },
        }
        for place, tool in enumerate(wanted)
    )
