"""Every field with a value of every wrong type."""

from __future__ import annotations

from itertools import product

from tests.security.bomb import SAY, TEXT, refused

FIELDS = (
    "prompt",
    "n",
    "max_tokens",
    "temperature",
    "stop",
    "stream",
    "seed",
    "logit_bias",
    "stream_options",
    "regex",
    "choice",
)
FIELDS += ("stop_token_ids", "cache_salt", "priority", "model", "response_format", "structured_outputs", "json_schema")
VALUES = ({"a": {"b": []}}, [[[]]], [None], [{}])
attack = refused(
    TEXT,
    *(
        {**SAY, field: value}
        for field, value in product(FIELDS, VALUES)
        if (field, value) != ("json_schema", VALUES[0])
    ),
)
