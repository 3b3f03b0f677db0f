"""A conversation of several turns, with short answers and with long ones.

Start a server with `rootstream serve`, then `python examples/programs/chat.py`; ROOTSTREAM_URL names another server.
Each turn sends the new message alone; the roles are written with the model's own chat template.
"""

from __future__ import annotations

from collections.abc import Sequence

import rootstream as rs


@rs.function
def converse(s: rs.State, questions: Sequence[str], max_tokens: int) -> list[str]:
    """Ask one after the other, each when the answer before is there."""
    answers: list[str] = []
    s += rs.system("You are a friendly guide in the town of Aldermoor.")
    for turn, question in enumerate(questions, 1):
        s += rs.user(question)
        s += rs.assistant(rs.gen(f"answer {turn}", max_tokens=max_tokens, temperature=0))
        answers.append(s[f"answer {turn}"])
    return answers


QUESTIONS = (
    "I have one day in your town. What should I see?",
    "And where do I eat at noon?",
    "It may rain. What do you suggest then?",
)


def main() -> None:
    for title, max_tokens in (("short", 12), ("long", 96)):
        print(f"--- {title} answers")
        for message in converse.run(QUESTIONS, max_tokens).messages()[1:]:
            print(f"{message['role']}: {' '.join(message['content'].split())}")


if __name__ == "__main__":
    main()
