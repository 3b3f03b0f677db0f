"""A long answer sooner: first its skeleton, then all its points beside each other (Ning et al., 2023).

Start a server with `rootstream serve`, then `python examples/programs/skeleton_of_thought.py`; ROOTSTREAM_URL names
another server.
"""

from __future__ import annotations

import rootstream as rs

POINTS = 5
SKELETON = "".join(rf"{number}\. [A-Z][a-z ]{{3,30}}\n" for number in range(1, POINTS + 1))


@rs.function
def advise(s: rs.State, topic: str, max_tokens: int = 64) -> str:
    """A text of several points on a topic."""
    s += f"Here are {POINTS} tips about {topic}, first as a list and then in detail.\n\n"
    s += rs.gen("skeleton", regex=SKELETON, temperature=0)
    details = s.fork(POINTS)
    for number, detail in enumerate(details, 1):
        detail += f"\nTip {number} in detail:"
        detail += rs.gen("detail", max_tokens=max_tokens, stop="\n\n", temperature=0)
    details.join()
    titles = s["skeleton"].splitlines()
    return "\n\n".join(f"{title}\n{text.strip()}" for title, text in zip(titles, s["detail"], strict=True))


def main() -> None:
    print(advise.run("learning a language").returned)


if __name__ == "__main__":
    main()
