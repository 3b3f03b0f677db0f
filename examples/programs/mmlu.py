"""Few-shot classification as MMLU asks it: worked questions first, then one more, and the likeliest of four letters.

Start a server with `rootstream serve`, then `python examples/programs/mmlu.py`; ROOTSTREAM_URL names another server.
The questions are made up for this file. All programs begin with the same examples, which the server computes once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import rootstream as rs

LETTERS = ("A", "B", "C", "D")


class Question(NamedTuple):
    """One of four is right."""

    text: str
    choices: Sequence[str]
    right: str  # its letter


def shown(question: Question, *, solved: bool) -> str:
    """As it stands in the prompt."""
    choices = "".join(f"\n{letter}. {choice}" for letter, choice in zip(LETTERS, question.choices, strict=True))
    return f"{question.text}{choices}\nAnswer:" + (f" {question.right}\n\n" if solved else "")


@rs.function
def answer(s: rs.State, subject: str, examples: Sequence[Question], question: Question) -> bool:
    """Is the model right?"""
    s += f"The following are multiple choice questions (with answers) about {subject}.\n\n"
    for example in examples:
        s += shown(example, solved=True)
    s += shown(question, solved=False)
    s += rs.select("answer", [f" {letter}" for letter in LETTERS])
    return s["answer"].strip() == question.right


EXAMPLES = (
    Question("Which of these is a river?", ("Everest", "Danube", "Sahara", "Iceland"), "B"),
    Question("What is the capital of Italy?", ("Milan", "Naples", "Turin", "Rome"), "D"),
    Question("Which ocean is the largest?", ("Pacific", "Atlantic", "Indian", "Arctic"), "A"),
    Question("On which continent is Kenya?", ("Asia", "Europe", "Africa", "America"), "C"),
)
QUESTIONS = (
    Question("What is the capital of Norway?", ("Bergen", "Oslo", "Stavanger", "Tromso"), "B"),
    Question("Which of these is a mountain?", ("Nile", "Baltic", "Kilimanjaro", "Amazon"), "C"),
    Question("Which country is an island?", ("Iceland", "Austria", "Poland", "Chad"), "A"),
    Question("Which city lies in Japan?", ("Seoul", "Beijing", "Hanoi", "Osaka"), "D"),
)


def main() -> None:
    items = answer.map([("geography", EXAMPLES, question) for question in QUESTIONS])
    for question, item in zip(QUESTIONS, items, strict=True):
        print(f"{question.text:32} {item['answer'].strip()}, right is {question.right}")
    print(f"{sum(item.returned for item in items)} of {len(items)} right")


if __name__ == "__main__":
    main()
