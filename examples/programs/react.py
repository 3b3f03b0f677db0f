"""An agent that thinks, acts and looks, in turns, after ReAct (Yao et al., 2022). Its only tool is a dictionary below.

Start a server with `rootstream serve`, then `python examples/programs/react.py`; ROOTSTREAM_URL names another server.
Each step sends only what is new: the server goes on from the context that it keeps. The facts are made up.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import rootstream as rs

ACTION = r"(Search|Finish)\[[A-Za-z0-9 ]{1,30}\]"
INSTRUCTIONS = """\
Answer a question by steps of Thought, Action and Observation. An action is one of
Search[topic], which looks the topic up, and Finish[answer], which ends the task.

Question: In which country does the river that flows through Aldermoor rise?
Thought 1: I need to know which river flows through Aldermoor.
Action 1: Search[Aldermoor]
Observation 1: Aldermoor is a town on the river Senn.
Thought 2: The river is the Senn. I need to know where it rises.
Action 2: Search[Senn]
Observation 2: The Senn rises in the hills of Varland.
Thought 3: The Senn rises in Varland, which is the answer.
Action 3: Finish[Varland]

"""


@rs.function
def agent(s: rs.State, question: str, look_up: Callable[[str], str], max_steps: int = 4) -> str | None:
    """The answer, or None where the steps do not suffice."""
    s += INSTRUCTIONS
    s += f"Question: {question}\n"
    for step in range(1, max_steps + 1):
        s += f"Thought {step}:" + rs.gen(f"thought {step}", max_tokens=32, stop="\n", temperature=0)
        s += f"\nAction {step}: " + rs.gen(f"action {step}", regex=ACTION, temperature=0) + "\n"
        action, _, argument = s[f"action {step}"].rstrip("]").partition("[")
        if action == "Finish":
            return argument
        s += f"Observation {step}: {look_up(argument)}\n"
    return None


FACTS = {
    "Brackwater": "Brackwater is a harbour town whose lighthouse was built by Ilse Maron.",
    "Ilse Maron": "Ilse Maron was an engineer who was born in Tolm.",
    "Tolm": "Tolm is a village in the north of Varland.",
}


def look_up(topic: str) -> str:
    """The fact whose title has a word in common with the topic."""
    words = set(re.findall(r"\w+", topic.lower()))
    for title, fact in FACTS.items():
        if words & set(title.lower().split()):
            return fact
    return f"Nothing is known about {topic}."


def main() -> None:
    state = agent.run("Where was the builder of the lighthouse of Brackwater born?", look_up)
    print(state.text().removeprefix(INSTRUCTIONS))
    print(f"answer: {state.returned}")


if __name__ == "__main__":
    main()
