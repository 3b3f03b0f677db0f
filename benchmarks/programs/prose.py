"""Made-up prose with as many words as wanted: the same seed, the same text. Pure."""

from __future__ import annotations

import random

_WHO = ("The baker", "A sailor", "The old teacher", "My neighbour", "The captain", "A young doctor", "The gardener")
_DID = ("found", "carried", "painted", "sold", "forgot", "repaired", "wrapped", "borrowed")
_WHAT = ("a wooden box", "the blue lamp", "two letters", "an old map", "the heavy rope", "a silver coin", "the boat")
_WHERE = ("near the harbour", "behind the church", "in the market", "on the hill", "under the bridge", "at the station")
_WHEN = ("before sunrise", "in the evening", "last winter", "on Sunday", "after the storm", "at noon")
_NAMES = ("Aldermoor", "Brackwater", "Selby", "Tolm", "Varland", "Senn", "Harrow", "Ostley", "Mirfield", "Dunmore")


def sentence(rng: random.Random) -> str:
    """Some ten words."""
    return f"{' '.join(rng.choice(words) for words in (_WHO, _DID, _WHAT, _WHERE, _WHEN))}."


def prose(rng: random.Random, words: int) -> str:
    """Whole sentences, at least as many words."""
    text = sentence(rng)
    while text.count(" ") + 1 < words:
        text += f" {sentence(rng)}"
    return text


def name(rng: random.Random) -> str:
    return rng.choice(_NAMES)


def thing(rng: random.Random) -> str:
    return rng.choice(_WHAT)
