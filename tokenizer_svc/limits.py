"""Every bound on what a client may ask for, in one place. Knows nothing of how requests are read."""

from __future__ import annotations

import msgspec

from shared.config import Settings, parse_bytes
from shared.errors import UserError

SEED_MODULUS = 2**64


class Limits(msgspec.Struct, frozen=True):
    """Bounds are inclusive; lengths of texts are in characters. ``of`` says which of them settings can change."""

    # What a connection may send before anybody looks at it.
    connections: int = 4096
    request_line_bytes: int = 8190
    header_bytes: int = 8190  # of one
    headers: int = 128
    header_s: float = 20.0  # from the first byte of a request to the last of its headers
    body_s: float = 60.0  # from there to the end of its body
    idle_s: float = 75.0  # between requests: longer than proxies keep theirs
    body_bytes: int = 10 * 1024 * 1024
    max_depth: int = 128  # of arrays and objects in each other
    # What a request may ask for.
    max_messages: int = 4096
    max_parts: int = 1024  # of one message
    max_sequences: int = 128  # answers to one HTTP request: prompts times n
    max_n: int = 64
    max_inputs: int = 2048  # texts of one request for vectors or scores
    max_native_logprobs: int = 128  # likeliest tokens beside each token
    max_prompt_logprobs: int = 2**18  # of the prompts of one request: 128k tokens with 1 beside each, or 12k with 20
    max_logprob_ids: int = 1024  # tokens whose log-probabilities are wanted whatever they are
    max_stop_strings: int = 16
    max_stop_length: int = 256
    max_stop_regexes: int = 4  # of a size that stop_regex.py bounds
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
    max_context_parts: int = 1024  # of one call
    max_choices: int = 256  # of one selection
    max_released: int = 256  # contexts that one call lets go
    context_keep_s: int = 600  # after its last use
    context_bytes: int = 256 * 2**20  # of all contexts of one tenant: beyond it the oldest are dropped
    max_label: int = 512  # cache_salt, user, a value in metadata
    max_metadata: int = 16
    max_metadata_key: int = 64
    max_logprobs: int = 20  # of the likeliest tokens at a position
    priority: int = 2**31 - 1  # either side of 0
    max_timeout_s: float = 86400.0
    min_seed: int = -(2**63)
    max_seed: int = SEED_MODULUS - 1
    max_template_variables: int = 64
    max_tools: int = 128
    max_tool_name: int = 64
    max_tool_calls: int = 128  # in one message
    thread_from: int = 20_000  # longer texts are tokenised in a thread, so that the loop goes on
    resumable_sequences: int = 16  # answers to one HTTP request that is kept
    response_keep_s: int = 3600  # for which a response that is stored can be fetched and continued; 0: none is stored
    resumable_bytes: int = 16 * 2**20  # of what is kept of one request's answers
    send_buffer_bytes: int = 32 * 1024  # of a connection, in the system, which takes twice that
    unread_bytes: int = 160 * 1024  # that may wait for a client to read, before it is cut off
    unread_s: float = 30.0  # without a byte taken by a client for which some wait
    wait_s: float = 30.0  # that a GET may wait for an answer
    retry_after_s: int = 1  # when the queue is full, at least
    max_retry_after_s: int = 30  # and at most
    unready_retry_after_s: int = 5  # when a process is missing

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """The bounds that settings make. Raises UserError."""
        try:
            body_bytes = parse_bytes(settings.max_body)
        except ValueError as error:
            raise UserError(f"--max-body: {error}") from error
        try:
            context_bytes = parse_bytes(settings.context_bytes)
        except ValueError as error:
            raise UserError(f"--context-bytes: {error}") from error
        return cls(
            body_bytes=body_bytes,
            connections=settings.max_connections,
            response_keep_s=settings.response_keep,
            context_keep_s=settings.context_keep,
            context_bytes=context_bytes,
        )
