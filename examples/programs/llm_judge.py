"""A judge that branches, solves and merges (Saha et al., 2023): one opinion for each criterion, then one verdict.

Start a server with `rootstream serve`, then `python examples/programs/llm_judge.py`; ROOTSTREAM_URL names another.
The essay is read once: the opinions are forks behind it, and the verdict goes on behind it too. It is made up.
"""

from __future__ import annotations

import rootstream as rs

CRITERIA = {
    "clarity": "Is it easy to understand?",
    "evidence": "Are its claims supported?",
    "originality": "Does it say something new?",
    "structure": "Is it well ordered?",
}


@rs.function
def judge(s: rs.State, essay: str, max_tokens: int = 40) -> int:
    """A grade from 1 to 10."""
    s += rs.system("You are a fair and attentive judge of essays.")
    s += rs.user(f"Here is an essay.\n\n{essay}\n\nI shall ask you about it.")
    opinions = s.fork(len(CRITERIA))
    for opinion, (criterion, question) in zip(opinions, CRITERIA.items(), strict=True):
        opinion += rs.user(f"What about its {criterion}? {question} Answer in two sentences.")
        opinion += rs.assistant(rs.gen("opinion", max_tokens=max_tokens, temperature=0))
    opinions.join()
    said = "\n".join(f"{criterion}: {text.strip()}" for criterion, text in zip(CRITERIA, s["opinion"], strict=True))
    s += rs.user(f"Others have judged it so:\n{said}\nSum that up, and give a grade from 1 to 10.")
    s += rs.assistant(
        rs.gen("summary", max_tokens=max_tokens, stop="\n", temperature=0)
        + "\nGrade: "
        + rs.gen("grade", regex="[1-9]|10", dtype=int, temperature=0)
    )
    return s["grade"]


ESSAY = """\
A town that wants fewer cars should begin with its buses. People do not love traffic; they love arriving. Where a bus
comes every six minutes, nobody needs a timetable, who needs no timetable does not plan, and who does not plan takes the
bus. In Aldermoor the council doubled the buses on two lines. After a year, a third of those who had driven to work no
longer did. It was not cheap. But a car park for as many would have cost more, and nobody has met a friend in one."""


def main() -> None:
    state = judge.run(ESSAY)
    for criterion, opinion in zip(CRITERIA, state["opinion"], strict=True):
        print(f"{criterion}: {opinion.strip()}")
    print(f"\n{state['summary'].strip()}\ngrade: {state.returned}")


if __name__ == "__main__":
    main()
