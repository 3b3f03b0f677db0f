"""Search over thoughts: several plans, several solutions of each, and a mark for each solution; the best one wins.

Start a server with `rootstream serve`, then `python examples/programs/tree_of_thought.py`; ROOTSTREAM_URL names
another. After Tree of Thoughts (Yao et al., 2023). Branches are forks: they run beside each other, and what they have
in common is computed once.
"""

from __future__ import annotations

from typing import NamedTuple

import rootstream as rs


class Solution(NamedTuple):
    """A leaf of the tree."""

    text: str
    mark: int


@rs.function
def solve(s: rs.State, question: str, branches: int = 2, max_tokens: int = 48) -> list[Solution]:
    """All leaves, the best first."""
    s += rs.system("You solve word problems with care.")
    s += rs.user(f"{question}\nFirst make a plan. Do not calculate yet.")
    leaves: list[rs.State] = []
    for plan in s.fork(branches):
        plan += rs.assistant(rs.gen("plan", max_tokens=max_tokens, temperature=0.7))
        plan += rs.user("Now follow the plan, step by step, and give the answer.")
        for solution in plan.fork(branches):
            solution += rs.assistant(rs.gen("solution", max_tokens=max_tokens, temperature=0.7))
            solution += rs.user("How good is this solution, from 1 to 5?")
            solution += rs.assistant("My mark is " + rs.gen("mark", regex="[1-5]", dtype=int, temperature=0))
            leaves.append(solution)
    found = [Solution(leaf["solution"], leaf["mark"]) for leaf in leaves]
    return sorted(found, key=lambda solution: -solution.mark)


def main() -> None:
    state = solve.run(
        "A baker sells 12 loaves in the morning and twice as many in the afternoon. How many in all?", seed=1
    )
    for solution in state.returned:
        print(f"{solution.mark}: {' '.join(solution.text.split())}")


if __name__ == "__main__":
    main()
