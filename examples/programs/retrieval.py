"""A retrieval pipeline: the model writes what to look for, passages are looked up, and it answers from them.

Start a server with `rootstream serve`, then `python examples/programs/retrieval.py`; ROOTSTREAM_URL names another.
After the pipeline that DSPy is introduced with (Khattab et al., 2023): two hops, each with worked examples before it.
The passages are made up, and looked up by words in common.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import rootstream as rs

HOPS = 2
SEARCHES = """\
Write what to look for in order to answer the question.

Context: nothing yet
Question: Who built the town hall of Aldermoor?
Look for: town hall of Aldermoor

Context: [1] The market of Selby is held by the guild of weavers.
Question: When was the guild that holds the market of Selby founded?
Look for: guild of weavers founded

"""
ANSWERS = """\
Answer the question from the context, in a few words.

Context: [1] The town hall of Aldermoor was built by Jan Holt in 1711.
Question: Who built the town hall of Aldermoor?
Answer: Jan Holt

Context: [1] The market of Selby is held by the guild of weavers. [2] The guild of weavers was founded in 1402.
Question: When was the guild that holds the market of Selby founded?
Answer: in 1402

"""


def look_up(query: str, passages: Sequence[str], best: int = 1) -> list[str]:
    """Those that have the most words in common with the query."""
    words = set(re.findall(r"\w+", query.lower()))
    return sorted(passages, key=lambda passage: -len(words & set(re.findall(r"\w+", passage.lower()))))[:best]


def shown(context: Sequence[str]) -> str:
    return " ".join(f"[{number}] {passage}" for number, passage in enumerate(context, 1)) or "nothing yet"


@rs.function
def answer(s: rs.State, question: str, passages: Sequence[str]) -> str:
    """Search, read, search again, answer."""
    context: list[str] = []
    for hop in range(1, HOPS + 1):
        search = s.copy()
        search += SEARCHES + f"Context: {shown(context)}\nQuestion: {question}\nLook for:"
        search += rs.gen(f"query {hop}", max_tokens=16, stop="\n", temperature=0)
        left = [passage for passage in passages if passage not in context]
        context += look_up(f"{question} {search[f'query {hop}']}", left)
    s += ANSWERS + f"Context: {shown(context)}\nQuestion: {question}\nAnswer:"
    s += rs.gen("answer", max_tokens=16, stop="\n", temperature=0)
    return s["answer"].strip()


PASSAGES = (
    "The lighthouse of Brackwater was built by Ilse Maron.",
    "Ilse Maron was born in the village of Tolm.",
    "The river Senn flows through Aldermoor.",
    "Cheese from Tolm ripens in caves.",
    "The bridge of Selby is made of oak.",
)
QUESTIONS = ("Who built the lighthouse of Brackwater?", "Where was the builder of the lighthouse of Brackwater born?")


def main() -> None:
    items = answer.map([(question, PASSAGES) for question in QUESTIONS])
    for question, item in zip(QUESTIONS, items, strict=True):
        print(f"{question} {item.returned}")


if __name__ == "__main__":
    main()
