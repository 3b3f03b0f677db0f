"""What structure costs and saves, on the packaged model: forced runs, masks, compiles, neighbours.

    .venv/bin/python -m benchmarks.structured [--rounds 3] [--only PART] [options of rootstream serve]

1. Requests/s with jump-forward against without, on the same server, in turns: a character sheet by regular expression,
   a tool call, a schema of 62 fields, one of 6. 16 requests each, 8 at once, greedy, outputs bounded by the grammar.
2. Milliseconds per token of 8 streams that obey a grammar without jumping, an automaton or one of llguidance, against
   8 free ones, in turns.
3. What a grammar adds to the time to the first token: schemas nobody has seen, and the same ones again.
4. Gaps between the tokens of 4 free streams while 64 requests arrive: each with a schema of its own that must be
   compiled, against all with one that is known.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serve import server
from rootstream.bench.run import write
from rootstream.client import Client

Body = dict[str, Any]

WORD = r"[A-Za-z ]{1,16}"
SHEET = (
    r'\{\n    "name": "' + WORD + r'",\n    "house": "(Oak|Maple|Birch|Willow)",\n    "bloodline": "(old|mixed|new)",\n'
    r'    "alive": "(alive|dead)",\n    "staff": \{\n        "wood": "'
    + WORD
    + r'",\n        "core": "'
    + WORD
    + r'",\n'
    r'        "length": [0-9]{1,2}\.[0-9]{0,2}\n    \},\n    "patron": "' + WORD + r'"\n\}'
)
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": what,
            "parameters": {
                "type": "object",
                "properties": {
                    "location": {"type": "string", "maxLength": 20},
                    "unit": {"enum": ["celsius", "fahrenheit"]},
                    "days": {"type": "integer", "minimum": 1, "maximum": 14},
                },
                "required": ["location", "unit", "days"],
            },
        },
    }
    for name, what in (
        ("get_forecast", "The weather of the coming days."),
        ("get_history", "The weather of past days."),
    )
]
_KINDS: tuple[dict[str, Any], ...] = (
    {"type": "string", "maxLength": 12},
    {"type": "integer", "minimum": 0, "maximum": 999},
    {"type": "boolean"},
    {"enum": ["low", "medium", "high"]},
)
_FIELDS = [
    *("name", "age", "city", "country", "language", "employer", "position", "salary", "started", "active"),
    *("email", "phone", "street", "number", "floor", "zip", "region", "height", "weight", "eyes"),
    *("hair", "shoe", "shirt", "hobby", "sport", "team", "music", "instrument", "book", "film"),
    *("car", "color", "pet", "animal", "food", "drink", "diet", "allergy", "doctor", "clinic"),
    *("insurance", "policy", "bank", "account", "currency", "balance", "limit", "rating", "level", "points"),
    *("badge", "club", "member", "since", "until", "invited", "verified", "locked", "theme", "locale"),
    *("timezone", "plan", "status"),
]


def schema(fields: int, names: list[str] | None = None) -> dict[str, Any]:
    """A closed object whose fields are strings, integers, booleans and enums in turn."""
    chosen = (names or _FIELDS)[:fields]
    properties = {name: _KINDS[index % len(_KINDS)] for index, name in enumerate(chosen)}
    return {"type": "object", "properties": properties, "required": chosen, "additionalProperties": False}


def unseen(seed: int) -> dict[str, Any]:
    """An ordinary schema that no other seed has: 3 to 12 fields of made-up names."""
    rng = random.Random(seed)
    names = [f"{rng.choice(_FIELDS)}_{rng.randrange(10**6)}" for _ in range(rng.randint(3, 12))]
    return schema(len(names), names)


def ask(content: str, **more: Any) -> Body:
    return {"messages": [{"role": "user", "content": content}], "temperature": 0, "stream": True, **more}


def as_schema(value: dict[str, Any]) -> Body:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": value}}}


CASES: dict[str, Body] = {
    "character sheet, regex": {"regex": SHEET},
    "tool call": {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "get_forecast"}}},
    "62 fields": as_schema(schema(62)),
    "6 fields": as_schema(schema(6)),
}
_ASKED = {
    "character sheet, regex": "Describe the wizard number {} of an old school.",
    "tool call": "What will the weather be in city number {} tomorrow?",
    "62 fields": "Make up person number {}.",
    "6 fields": "Make up person number {}.",
}


class Answer:
    """One streamed answer: when its pieces came."""

    def __init__(self) -> None:
        self.sent = time.perf_counter()
        self.arrivals: list[float] = []
        self.tokens = 0
        self.forced = 0

    @property
    def first(self) -> float:
        """Seconds to the first piece."""
        return self.arrivals[0] - self.sent


async def stream(client: Client, body: Body) -> Answer:
    answer = Answer()
    body = body | {"stream": True, "stream_options": {"include_usage": True}}
    async for event in client.stream("/v1/chat/completions", body):
        if any(choice["delta"].get("content") or choice["delta"].get("tool_calls") for choice in event["choices"]):
            answer.arrivals.append(time.perf_counter())
        if usage := event.get("usage"):
            answer.tokens = usage["completion_tokens"]
            answer.forced = usage["completion_tokens_details"]["forced_tokens"]
    return answer


async def together(client: Client, bodies: list[Body], concurrency: int) -> tuple[float, list[Answer]]:
    """Seconds for all of them."""
    turn = asyncio.Semaphore(concurrency)

    async def one(body: Body) -> Answer:
        async with turn:
            return await stream(client, body)

    began = time.perf_counter()
    answers = await asyncio.gather(*map(one, bodies))
    return time.perf_counter() - began, answers


async def jumping(client: Client, rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, structure in CASES.items():
        rates: dict[bool, list[float]] = {True: [], False: []}
        shares: list[float] = []
        lengths: dict[bool, list[float]] = {True: [], False: []}
        for turn in range(rounds + 1):  # the first one warms up
            for jump in (True, False):
                bodies = [
                    ask(_ASKED[name].format(n), max_tokens=1500, jump_forward=jump, **structure) for n in range(16)
                ]
                seconds, answers = await together(client, bodies, 8)
                if turn:
                    rates[jump].append(len(bodies) / seconds)
                    lengths[jump].append(statistics.mean(answer.tokens for answer in answers))
                    if jump:
                        shares.append(sum(a.forced for a in answers) / sum(a.tokens for a in answers))
        with_, without = statistics.median(rates[True]), statistics.median(rates[False])
        ratios = [a / b for a, b in zip(rates[True], rates[False], strict=True)]
        found[name] = {
            "requests_per_s": round(with_, 3),
            "without_jumping": round(without, 3),
            "ratio": round(statistics.median(ratios), 3),
            "ratios": [round(ratio, 3) for ratio in ratios],
            "forced": round(statistics.median(shares), 3),
            "tokens": round(statistics.median(lengths[True]), 1),
            "tokens_without": round(statistics.median(lengths[False]), 1),
        }
        print(f"{name}: {found[name]}")
    return found


RECURSIVE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "parts": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
            "required": ["name", "parts"],
        }
    },
}


async def per_step(client: Client, rounds: int) -> dict[str, Any]:
    """8 free streams against 8 that obey an automaton, and 8 that obey llguidance; 160 tokens each."""
    record = '{"name": "[A-Za-z ]{1,20}", "size": [0-9]{1,4}, "state": "(new|used|broken)"}'
    endless = "(" + record.replace("{", r"\{", 1)[:-1] + r"\}" + r"\n)*"
    question = "Write a very long list of things that one can buy."
    free = [ask(f"{question} {n}", max_tokens=160, ignore_eos=True) for n in range(8)]
    wishes: dict[str, Body] = {
        "free": {},
        "automaton": {"regex": endless, "jump_forward": False},
        "llguidance": as_schema(RECURSIVE) | {"jump_forward": False},
    }
    figures: dict[str, list[float]] = {name: [] for name in wishes}
    for turn in range(rounds + 1):
        for name, wish in wishes.items():
            _, answers = await together(client, [body | wish for body in free], 8)
            gaps = [1e3 * (answer.arrivals[-1] - answer.arrivals[0]) / (answer.tokens - 1) for answer in answers]
            if turn:
                figures[name].append(statistics.median(gaps))
    found: dict[str, Any] = {f"ms_per_token_{name}": round(statistics.median(ms), 2) for name, ms in figures.items()}
    for name in ("automaton", "llguidance"):
        ratios = [a / b for a, b in zip(figures[name], figures["free"], strict=True)]
        found |= {f"ratio_{name}": round(statistics.median(ratios), 3), f"ratios_{name}": [round(r, 3) for r in ratios]}
    print(f"per step, 8 rows: {found}")
    return found


async def first_mask(client: Client, schemas: int) -> dict[str, Any]:
    """Milliseconds that a grammar adds to the first token of a prompt that is cached."""
    question = "Make up an answer."
    await stream(client, ask(question, max_tokens=2))
    added: dict[str, list[float]] = {"cold": [], "warm": []}
    for seed in range(schemas):
        structure = as_schema(unseen(seed)) | {"jump_forward": False}
        free = [(await stream(client, ask(question, max_tokens=2))).first for _ in range(3)]
        for name in ("cold", "warm"):
            answer = await stream(client, ask(question, max_tokens=2, **structure))
            added[name].append(1e3 * (answer.first - statistics.median(free)))
    found = {
        name: {"p50": round(float(np.percentile(ms, 50)), 2), "p90": round(float(np.percentile(ms, 90)), 2)}
        for name, ms in added.items()
    }
    print(f"added to the first token, ms: {found}")
    return found


async def neighbours(client: Client, rounds: int) -> dict[str, Any]:
    """p99 of the gaps of 4 free streams while 64 requests for structure arrive."""
    known = as_schema(unseen(-1))
    seeds = iter(range(10_000, 1_000_000))
    makers: dict[str, Callable[[], list[Body]]] = {
        "known": lambda: [ask("Answer.", max_tokens=1, **known) for _ in range(64)],
        "distinct": lambda: [ask("Answer.", max_tokens=1, **as_schema(unseen(next(seeds)))) for _ in range(64)],
    }
    figures: dict[str, list[float]] = {"known": [], "distinct": []}
    for turn in range(rounds + 1):
        for name, bodies in makers.items():
            background = [
                asyncio.create_task(stream(client, ask(f"Tell a long story {n}.", max_tokens=200, ignore_eos=True)))
                for n in range(4)
            ]
            await asyncio.sleep(1.0)
            await together(client, bodies(), 64)
            answers = await asyncio.gather(*background)
            gaps = np.concatenate([np.diff(answer.arrivals) for answer in answers])
            if turn:
                figures[name].append(1e3 * float(np.percentile(gaps, 99)))
    ratios = [a / b for a, b in zip(figures["distinct"], figures["known"], strict=True)]
    found = {
        "itl_p99_known_ms": round(statistics.median(figures["known"]), 1),
        "itl_p99_distinct_ms": round(statistics.median(figures["distinct"]), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
    }
    print(f"64 schemas beside 4 free streams: {found}")
    return found


async def measure(url: str, rounds: int, parts: list[str]) -> dict[str, Any]:
    measures: dict[str, Callable[[Client], Awaitable[dict[str, Any]]]] = {
        "jump_forward": lambda client: jumping(client, rounds),
        "per_step": lambda client: per_step(client, rounds),
        "first_mask": lambda client: first_mask(client, 40),
        "neighbours": lambda client: neighbours(client, rounds),
    }
    async with Client(url) as client:
        return {name: await measure_(client) for name, measure_ in measures.items() if name in (parts or measures)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("results/structured.json"))
    parser.add_argument("--only", action="append", default=[], help="jump_forward, per_step, first_mask or neighbours")
    options, serve_options = parser.parse_known_args()
    with server(serve_options) as url:
        report = asyncio.run(measure(url, options.rounds, options.only))
    write(options.output, {"options": serve_options, **report})
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
