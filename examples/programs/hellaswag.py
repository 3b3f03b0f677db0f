"""Choosing the likeliest ending of a story, as HellaSwag does: whole sentences are scored, none is generated.

Start a server with `rootstream serve`, then `python examples/programs/hellaswag.py`; ROOTSTREAM_URL names another.
The stories are made up for this file. One `select` is one call, however many endings; they share all that is before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import rootstream as rs


class Story(NamedTuple):
    """A beginning, and endings of which one makes sense."""

    beginning: str
    endings: Sequence[str]
    right: int


@rs.function
def finish(s: rs.State, examples: Sequence[Story], story: Story) -> bool:
    """Does the model choose the ending that makes sense?"""
    for example in examples:
        s += f"{example.beginning} {example.endings[example.right]}\n\n"
    s += story.beginning
    s += rs.select("ending", [f" {ending}" for ending in story.endings])
    return s.meta("ending").index == story.right


EXAMPLES = (
    Story("A man fills a kettle and switches it on. When the water boils, he", ("makes a pot of tea.",), 0),
    Story("The girl kneels down and ties her shoe. Then she", ("stands up and runs on.",), 0),
    Story("It begins to rain on the market square. The traders", ("cover their stalls with sheets.",), 0),
)
STORIES = (
    Story(
        "A woman puts a loaf of bread on the board and takes a knife. She",
        ("drives it to the airport.", "cuts a few slices.", "teaches it to swim.", "paints the ceiling blue."),
        1,
    ),
    Story(
        "The goalkeeper looks at the ball as it comes. He",
        ("jumps and catches it.", "orders a bowl of soup.", "reads the second chapter.", "plants a tree."),
        0,
    ),
    Story(
        "The choir stands on the stage and the conductor raises her hands. They",
        ("peel potatoes.", "repair the engine.", "begin to sing.", "fall into the river."),
        2,
    ),
)


def main() -> None:
    items = finish.map([(EXAMPLES, story) for story in STORIES])
    for story, item in zip(STORIES, items, strict=True):
        print(f"{'✓' if item.returned else '✗'} {story.beginning}{item['ending']}")


if __name__ == "__main__":
    main()
