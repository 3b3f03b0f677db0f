"""What transformers says, in float32, about what lm-eval asks: log-likelihoods of texts, and greedy answers.

Run as a program in rootstream's own environment. ``tokenizer DIRECTORY`` writes the packaged model's tokenizer there;
``answer`` reads questions as JSON from standard input and writes the answers to standard output.
"""

from __future__ import annotations

import json
import sys
from typing import Any, NamedTuple

import torch

from tests.oracle import Oracle, load_oracle


class Likelihood(NamedTuple):
    """Of a text after another: the sum of its tokens' log-probabilities, and whether each was the likeliest."""

    logprob: float
    is_greedy: bool


def likelihood(oracle: Oracle, context: str, text: str) -> Likelihood:
    """As lm-eval reckons it: both encoded as one, and blanks at the context's end belong to the text."""
    blanks = len(context) - len(context.rstrip())
    if blanks:
        context, text = context[:-blanks], context[-blanks:] + text
    first = [oracle.tokenizer.bos_token_id]
    before = oracle.tokenizer(context).input_ids if context else first
    whole = oracle.tokenizer(context + text).input_ids if context else first + oracle.tokenizer(text).input_ids
    with torch.inference_mode():
        logprobs = oracle.model(torch.tensor([whole])).logits[0].log_softmax(-1)
    positions = range(len(before), len(whole))
    greedy = all(int(logprobs[at - 1].argmax()) == whole[at] for at in positions)
    return Likelihood(float(sum(logprobs[at - 1, whole[at]] for at in positions)), greedy)


def generated(oracle: Oracle, context: str, until: list[str], most: int) -> str:
    """The greedy continuation, up to the first of the stops."""
    prompt = oracle.tokenizer(context, return_tensors="pt")
    out = oracle.model.generate(**prompt, max_new_tokens=most, do_sample=False)
    text = oracle.tokenizer.decode(out[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    return text[: min((at for stop in until if (at := text.find(stop)) >= 0), default=len(text))]


def main(arguments: list[str]) -> None:
    oracle = load_oracle()
    if arguments[0] == "tokenizer":
        oracle.tokenizer.save_pretrained(arguments[1])
        return
    questions: dict[str, list[list[Any]]] = json.load(sys.stdin)
    answers = {
        "likelihoods": [likelihood(oracle, *question) for question in questions["likelihoods"]],
        "generated": [generated(oracle, *question) for question in questions["generated"]],
    }
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
