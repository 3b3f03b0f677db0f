"""People of a small town who remember, weigh and plan, after Generative Agents (Park et al., 2023).

Start a server with `rootstream serve`, then `python examples/programs/generative_agents.py`; ROOTSTREAM_URL names
another. Who somebody is stands first in everything that is asked about them, and is computed once. People are made up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import rootstream as rs


class Moment(NamedTuple):
    """What somebody made of an hour."""

    weights: list[int]  # of each event, from 1 (nothing) to 9 (a turn of life)
    thought: str
    plan: str


@rs.function
def live(s: rs.State, person: str, events: Sequence[str], max_tokens: int = 32) -> Moment:
    """Weigh what happened, think about the weightiest, and plan the next hour."""
    s += f"{person}\n\n"
    weighing = s.fork(len(events))
    for fork, event in zip(weighing, events, strict=True):
        fork += f"What happened: {event}\nHow much it matters, from 1 for nothing to 9 for a turn of life: "
        fork += rs.gen("weight", regex="[1-9]", dtype=int, temperature=0)
    weighing.join()
    weights: list[int] = s["weight"]
    matters = events[max(range(len(events)), key=weights.__getitem__)]
    s += f"What matters most now: {matters}\nThe thought about it:"
    s += rs.gen("thought", max_tokens=max_tokens, stop="\n", temperature=0)
    s += "\nThe plan for the next hour:" + rs.gen("plan", max_tokens=max_tokens, stop="\n", temperature=0)
    return Moment(weights, s["thought"].strip(), s["plan"].strip())


PEOPLE = (
    "Ilse is sixty and keeps the lighthouse of Brackwater. She likes order, storms and strong tea.",
    "Jan is nineteen and bakes bread in Brackwater. He is saving money for a boat of his own.",
)
EVENTS = ("The kettle boils.", "A ship has run aground in front of the harbour.", "The neighbour says good morning.")


def main() -> None:
    items = live.map([(person, EVENTS) for person in PEOPLE])
    for person, item in zip(PEOPLE, items, strict=True):
        print(f"{person}\n  {item.returned}")


if __name__ == "__main__":
    main()
