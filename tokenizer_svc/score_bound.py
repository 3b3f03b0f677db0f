"""How many log-probabilities of prompts one request may ask for. Pure.

Those of an answer come token by token; those of a prompt all at once, and every process on the way holds them.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizer_svc.api_error import invalid
from tokenizer_svc.draft import Draft
from tokenizer_svc.limits import Limits


def check_scores(drafts: Sequence[Draft], name: str, limits: Limits) -> None:
    """Holds what a request's sequences want of their prompts against the bound. Raises ApiError 400 on ``name``."""
    asked = sum(map(_of_prompt, drafts))
    if asked > limits.max_prompt_logprobs:
        message = (
            f"this asks for {asked} log-probabilities of prompts (of each token and those beside it, in all answers); "
            f"at most {limits.max_prompt_logprobs} are computed for one request. Ask for fewer at each token, or send "
            "a shorter prompt, or fewer of them"
        )
        raise invalid(message, name)


def _of_prompt(draft: Draft) -> int:
    scoring = draft.sampling.scoring
    if scoring is None:
        return 0
    positions = max(0, len(draft.input_ids) - scoring.start)
    return positions * (1 + scoring.top + len(scoring.ids))
