"""Many more requests than rows, with every kind of end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.security.bomb import TEXT, send
from tests.security.deployment import Deployment

KINDS: tuple[dict[str, Any], ...] = (
    {"max_tokens": 1},
    {"max_tokens": 100, "stop": ["e", "a"]},
    {"max_tokens": 40, "n": 8, "temperature": 1.5},
    {"max_tokens": 30, "regex": "[a-z]{5,20}"},
    {"max_tokens": 20, "logit_bias": {"2": 100}, "ignore_eos": False},
)


def attack(deployment: Deployment) -> None:
    with ThreadPoolExecutor(40) as pool:
        answers = list(
            pool.map(lambda number: send(deployment, TEXT, {"prompt": "the fox", **KINDS[number % 5]})[0], range(120))
        )
    assert set(answers) <= {200, 429}, set(answers)
