"""Every bound on what a client may ask for, in one place. Knows nothing of how requests are read."""

from __future__ import annotations

import msgspec

SEED_MODULUS = 2**64


class Limits(msgspec.Struct, frozen=True):
    """Bounds are inclusive; lengths of texts are in characters."""

    body_bytes: int = 10 * 1024 * 1024
    max_messages: int = 4096
    max_sequences: int = 128  # answers to one HTTP request: prompts times n
    max_n: int = 64
    max_stop_strings: int = 16
    max_stop_length: int = 256
    max_stop_ids: int = 128
    max_logit_bias: int = 1024
    logit_bias: float = 100.0  # either side of 0
    max_temperature: float = 2.0
    min_temperature: float = 1e-4  # below it, 0: dividing logits by less leaves only the greatest
    penalty: float = 2.0  # either side of 0
    min_repetition_penalty: float = 0.01  # logits divided by much less are infinite
    max_repetition_penalty: float = 10.0
    max_number_digits: int = 10  # of a number that is the name of something, such as a token's in logit_bias
    max_segments: int = 256  # of one template
    max_part_tokens: int = 1_000_000  # of one generated part: the context is a closer bound
    max_label: int = 512  # cache_salt, user
    priority: int = 2**31 - 1  # either side of 0
    min_seed: int = -(2**63)
    max_seed: int = SEED_MODULUS - 1
    max_template_variables: int = 64
    max_tools: int = 128
    max_tool_name: int = 64
    max_tool_calls: int = 128  # in one message
    thread_from: int = 20_000  # longer texts are tokenised in a thread, so that the loop goes on
    retry_after_s: int = 1  # when the queue is full
    unready_retry_after_s: int = 5  # when a process is missing
