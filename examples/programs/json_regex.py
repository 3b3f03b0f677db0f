"""JSON by a regular expression: what has only one way to go on is appended, the model draws the rest.

Start a server with `rootstream serve`, then `python examples/programs/json_regex.py`; ROOTSTREAM_URL names another.
The texts are made up for this file.
"""

from __future__ import annotations

import json
from typing import Any

import rootstream as rs

WORDS = r"[A-Za-z ]{1,24}"
CITY = (
    r"\{\n"
    rf'  "name": "{WORDS}",\n'
    rf'  "country": "{WORDS}",\n'
    r'  "population": [1-9][0-9]{2,6},\n'
    r'  "on the sea": (true|false),\n'
    rf'  "famous for": \["{WORDS}", "{WORDS}"\]\n'
    r"\}"
)


@rs.function
def describe(s: rs.State, text: str) -> dict[str, Any]:
    """What a text says of a city, as an object."""
    s += f"{text}\n\nThe same as JSON:\n"
    s += rs.gen("city", regex=CITY, temperature=0)
    return json.loads(s["city"])


TEXTS = (
    "Aldermoor, in the south of Varland, has 48200 inhabitants. It is known for its bridges and its cheese.",
    "Brackwater is the oldest harbour of Varland. 9100 people live there, from fishing and from shipbuilding.",
)


def main() -> None:
    for item in describe.map(TEXTS):
        print(item.returned)


if __name__ == "__main__":
    main()
