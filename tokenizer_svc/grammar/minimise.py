"""The smallest automaton with the same language and the same labels.

Partition refinement in the manner of Hopcroft (1971): when a block of states is split, the largest part keeps its
number, and only states with a move into the other parts are looked at again; so each state is looked at a
logarithmic number of times. Signatures of whole rows, instead of one letter at a time, keep that number near one.
"""

from __future__ import annotations

from tokenizer_svc.grammar.subset import Automaton, Moves


def minimise(automaton: Automaton) -> Automaton:
    """States numbered in breadth-first order of their first way from the start, moves merged per target."""
    blocks = _Refinement(automaton).blocks
    moves = automaton.moves
    numbers: dict[int, int] = {blocks[0]: 0}
    order = [0]
    rows: list[Moves] = []
    for state in order:  # grows while it is read
        merged: dict[int, int] = {}
        for mask, to in moves[state]:
            block = blocks[to]
            number = numbers.get(block)
            if number is None:
                number = numbers[block] = len(order)
                order.append(to)
            merged[number] = merged.get(number, 0) | mask
        rows.append([(mask, number) for number, mask in merged.items()])
    return Automaton(
        automaton.alphabet,
        rows,
        [automaton.accepting[state] for state in order],
        [automaton.labels[state] for state in order],
        [automaton.distances[state] for state in order],
    )


class _Refinement:
    """``blocks[state]``: states with the same number cannot be told apart."""

    def __init__(self, automaton: Automaton) -> None:
        self._moves = automaton.moves
        self._sources: list[list[int]] = [[] for _ in automaton.moves]
        self.blocks: list[int] = []
        self._members: list[set[int]] = []
        self._pending: dict[int, list[int]] = {}  # of each block, states whose targets have new numbers
        self._start(automaton)
        while self._pending:
            block, states = self._pending.popitem()
            self._split(block, states)

    def _start(self, automaton: Automaton) -> None:
        """Blocks by what can be seen without looking further than one state."""
        numbers: dict[tuple[bool, int, int, int], int] = {}
        columns = zip(automaton.moves, automaton.accepting, automaton.labels, automaton.distances, strict=True)
        for state, (moves, accepting, label, distance) in enumerate(columns):
            alive = 0
            for mask, to in moves:
                alive |= mask
                self._sources[to].append(state)
            number = numbers.setdefault((accepting, label, distance, alive), len(numbers))
            if number == len(self._members):
                self._members.append(set())
            self._members[number].add(state)
            self.blocks.append(number)
        self._pending = {block: list(states) for block, states in enumerate(self._members) if len(states) > 1}

    def _split(self, block: int, states: list[int]) -> None:
        """Splits off those of ``states`` that differ; the others of the block are alike, and unlike these."""
        members = self._members[block]
        groups: dict[object, list[int]] = {}
        for state in set(states):
            groups.setdefault(self._signature(state), []).append(state)
        parts = list(groups.values())
        largest = max(parts, key=len)
        others = len(members) - sum(map(len, parts))
        if len(largest) > others:
            parts.remove(largest)
            if others:
                parts.append(list(members.difference(*parts, largest)))
        for part in parts:
            members.difference_update(part)
            for state in part:
                self.blocks[state] = len(self._members)
            self._members.append(set(part))
        self._look_again(parts)

    def _look_again(self, parts: list[list[int]]) -> None:
        """Queues whatever has a move into one of these new blocks."""
        for part in parts:
            for state in part:
                for source in self._sources[state]:
                    home = self.blocks[source]
                    if len(self._members[home]) > 1:
                        self._pending.setdefault(home, []).append(source)

    def _signature(self, state: int) -> object:
        """Where the state's moves lead. Within a block all have the same letters, so one move needs no letters."""
        moves = self._moves[state]
        blocks = self.blocks
        if len(moves) == 1:
            return blocks[moves[0][1]]
        merged: dict[int, int] = {}
        for mask, to in moves:
            block = blocks[to]
            merged[block] = merged.get(block, 0) | mask
        if len(merged) == 1:
            return next(iter(merged))
        return frozenset(merged.items())
