"""What each program is asked: items made by a seed, of the sizes of the benchmarks that the programs are named after.

Pure. Sizes are smaller than in the paper (Zheng et al., 2023), for a small model and two cores: prefixes of some
hundred tokens rather than thousands.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks.programs.prose import name, prose, sentence, thing
from examples.programs import (
    chat,
    generative_agents,
    hellaswag,
    json_regex,
    llm_judge,
    mmlu,
    react,
    retrieval,
    skeleton_of_thought,
    tree_of_thought,
)


class Workload(NamedTuple):
    """A program and what it is run with."""

    name: str
    program: Any
    """A function of rootstream.lang."""

    items: Sequence[tuple[Any, ...]]
    concurrency: int = 8
    prefix_heavy: bool = False
    """Most of what is asked was asked before: the cache is what counts."""

    forking: bool = False
    """Branches run beside each other within a program."""


def names() -> list[str]:
    return list(_MAKERS)


def make(name: str, seed: int) -> Workload:
    """Raises KeyError for a name that there is not."""
    return _MAKERS[name](random.Random(f"{name} {seed}"))


def _mmlu(rng: random.Random) -> Workload:
    def question() -> mmlu.Question:
        text = f"{prose(rng, 30)} What was it about?"
        return mmlu.Question(text, [thing(rng) for _ in mmlu.LETTERS], rng.choice(mmlu.LETTERS))

    examples = [question() for _ in range(5)]
    items = [("daily life", examples, question()) for _ in range(6)]
    return Workload("mmlu", mmlu.answer, items, prefix_heavy=True)


def _hellaswag(rng: random.Random) -> Workload:
    def story() -> hellaswag.Story:
        return hellaswag.Story(prose(rng, 15), [sentence(rng) for _ in range(4)], rng.randrange(4))

    examples = [story() for _ in range(12)]
    return Workload("hellaswag", hellaswag.finish, [(examples, story()) for _ in range(6)], prefix_heavy=True)


def _react(rng: random.Random) -> Workload:
    answers = {topic: prose(rng, 20) for topic in "abcdefghijklmnopqrstuvwxyz"}

    def look_up(topic: str) -> str:
        return answers.get(topic[-1].lower(), "Nothing is known.")

    questions = [f"Where did {name(rng)} get {thing(rng)} from, and who took it to {name(rng)}?" for _ in range(8)]
    return Workload("react", react.agent, [(question, look_up) for question in questions], prefix_heavy=True)


def _generative_agents(rng: random.Random) -> Workload:
    people = [f"{prose(rng, 250)} This is about {name(rng)}." for _ in range(2)]
    items = [(rng.choice(people), [sentence(rng) for _ in range(4)], 16) for _ in range(5)]
    return Workload("generative-agents", generative_agents.live, items, concurrency=2, forking=True)


def _tree_of_thought(rng: random.Random) -> Workload:
    items = [(f"{prose(rng, 60)} How many things were there?", 3, 16) for _ in range(3)]
    return Workload("tree-of-thought", tree_of_thought.solve, items, concurrency=2, forking=True)


def _skeleton_of_thought(rng: random.Random) -> Workload:
    items = [(f"life in {name(rng)}, where this happened: {prose(rng, 100)}", 32) for _ in range(4)]
    return Workload("skeleton-of-thought", skeleton_of_thought.advise, items, concurrency=2, forking=True)


def _llm_judge(rng: random.Random) -> Workload:
    items = [(prose(rng, 250), 24) for _ in range(4)]
    return Workload("llm-judge", llm_judge.judge, items, concurrency=2, forking=True)


def _json_regex(rng: random.Random) -> Workload:
    items = [(f"{name(rng)} has {rng.randint(100, 9999)} inhabitants. {prose(rng, 50)}",) for _ in range(10)]
    return Workload("json-regex", json_regex.describe, items)


def _chat(rng: random.Random, title: str, *, words: int, max_tokens: int) -> Workload:
    items = [([prose(rng, words) for _ in range(4)], max_tokens) for _ in range(5)]
    return Workload(title, chat.converse, items)


def _retrieval(rng: random.Random) -> Workload:
    passages = [prose(rng, 25) for _ in range(100)]
    items = [(f"Who had {thing(rng)} in {name(rng)}, and {sentence(rng).lower()[:-1]}?", passages) for _ in range(12)]
    return Workload("retrieval", retrieval.answer, items)


_MAKERS: dict[str, Callable[[random.Random], Workload]] = {
    "mmlu": _mmlu,
    "hellaswag": _hellaswag,
    "react": _react,
    "generative-agents": _generative_agents,
    "tree-of-thought": _tree_of_thought,
    "skeleton-of-thought": _skeleton_of_thought,
    "llm-judge": _llm_judge,
    "json-regex": _json_regex,
    "chat-short": lambda rng: _chat(rng, "chat-short", words=60, max_tokens=8),
    "chat-long": lambda rng: _chat(rng, "chat-long", words=60, max_tokens=48),
    "retrieval": _retrieval,
}
