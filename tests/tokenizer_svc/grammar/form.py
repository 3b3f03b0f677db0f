"""What every compiled automaton must be, whatever its language: checked by brute force."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.grammar import DEAD, START, Tables


def blocks(automaton: Tables, labels: NDArray[np.int16]) -> int:
    """How many states differ, by Moore's refinement of all states at once."""
    numbers = np.unique(np.stack([automaton.accepting, labels], 1), axis=0, return_inverse=True)[1].reshape(-1)
    while True:
        rows = np.concatenate([numbers[:, None], numbers[automaton.transitions]], 1)
        finer = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
        if finer.max() == numbers.max():
            return int(numbers.max()) + 1
        numbers = finer


def check_form(automaton: Tables, labels: NDArray[np.int16] | None = None) -> None:
    labels = np.full(len(automaton.accepting), -1, np.int16) if labels is None else labels
    states = len(automaton.accepting)
    transitions = automaton.transitions
    assert not transitions[DEAD].any()
    assert not automaton.accepting[DEAD]
    alive = automaton.accepting.copy()
    reached = np.zeros(states, np.bool_)
    reached[START] = True
    for _ in range(states):
        alive |= alive[transitions].any(1)
        reached[transitions[reached]] = True
    assert alive[START:].all(), "every state but the dead one reaches acceptance"
    assert reached[START:].all(), "every state can be reached"
    assert blocks(automaton, labels) == states, "no two states are alike"
    columns = np.unique(transitions, axis=1).shape[1]
    assert columns == transitions.shape[1] == automaton.classes.max() + 1, "no two classes of bytes are alike"
