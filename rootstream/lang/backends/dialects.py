"""What servers of OpenAI's API know beyond it, and how they want to be asked for it.

What is not known of a server is not sent to it: a field that is silently ignored would be worse than a refusal.
Sources: vLLM's docs (OpenAI-compatible server, structured outputs), SGLang's (OpenAI APIs, sampling parameters),
llama.cpp's tools/server/README.md, OpenAI's API reference, and our docs/openai.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Body = Mapping[str, Any]


class Dialect(NamedTuple):
    """One kind of server. The defaults are OpenAI's API, and nothing else."""

    name: str
    sampling: frozenset[str] = frozenset()
    """Fields of Gen, beyond OpenAI's, that it takes under the same name."""

    regex: Callable[[str], Body] | None = None
    grammar: Callable[[str], Body] | None = None
    choices: Callable[[tuple[str, ...]], Body] | None = None
    """How to ask for these; None: it does not know how."""

    raw_schema: Callable[[Body], Body] | None = None
    """How /v1/completions is asked for JSON of a schema."""

    continues: Body | None = None
    """What makes a chat go on with its last message, the assistant's; None: it begins another one."""

    echoes: bool = False
    """Whether completions with `echo` have the log-probabilities of the prompt."""

    scores_tokens: bool = False
    """Whether chats have vLLM's `prompt_logprobs`, and completions its `return_tokens_as_token_ids`."""

    template_kwargs: bool = False
    """Whether chats take `chat_template_kwargs`."""

    strict_schemas: bool = False
    """Whether schemas must be as strict as OpenAI wants them: all fields required, no others allowed."""

    max_tokens: str = "max_tokens"
    """What chats call the most tokens of an answer."""


_GO_ON = {"continue_final_message": True, "add_generation_prompt": False}
_SAMPLING = frozenset({"top_k", "min_p", "repetition_penalty", "min_tokens", "stop_token_ids", "ignore_eos"})


_METACHARACTER, _ESCAPED = re.compile(r"[\\^$.|?*+()\[\]{}]"), r"\\\g<0>"


def _response_format(schema: Body) -> Body:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}


def _structured(kind: str) -> Callable[[Any], Body]:
    return lambda value: {"structured_outputs": {kind: value}}


OPENAI = Dialect("OpenAI's API", strict_schemas=True, max_tokens="max_completion_tokens")

UNKNOWN = Dialect("a server of unknown kind")

ROOTSTREAM = Dialect(
    "rootstream",
    sampling=_SAMPLING | {"stop_regex"},
    regex=lambda pattern: {"regex": pattern},
    grammar=lambda grammar: {"grammar": grammar},
    choices=lambda choices: {"choice": choices},
    raw_schema=lambda schema: {"json_schema": schema},
    continues=_GO_ON,
    echoes=True,
    scores_tokens=True,
    template_kwargs=True,
)

VLLM = Dialect(
    "vLLM",
    sampling=_SAMPLING,
    regex=_structured("regex"),
    grammar=_structured("grammar"),
    choices=_structured("choice"),
    raw_schema=_structured("json"),
    continues=_GO_ON,
    echoes=True,
    scores_tokens=True,
    template_kwargs=True,
)

SGLANG = Dialect(
    "SGLang",
    sampling=_SAMPLING | {"stop_regex"},
    regex=lambda pattern: {"regex": pattern},
    grammar=lambda grammar: {"ebnf": grammar},
    choices=lambda choices: {"regex": "|".join(f"({_METACHARACTER.sub(_ESCAPED, choice)})" for choice in choices)},
    raw_schema=_response_format,
    continues=_GO_ON,
    echoes=True,
    template_kwargs=True,
)

LLAMA_CPP = Dialect(
    "llama.cpp",
    sampling=frozenset({"top_k", "min_p", "ignore_eos"}),
    grammar=lambda grammar: {"grammar": grammar},
    choices=lambda choices: {"grammar": "root ::= " + " | ".join(json.dumps(each) for each in choices)},
    raw_schema=lambda schema: {"json_schema": schema},
    continues={},  # it always goes on with an assistant's message
    template_kwargs=True,
)

BY_NAME: Mapping[str, Dialect] = {
    "openai": OPENAI,
    "unknown": UNKNOWN,
    "rootstream": ROOTSTREAM,
    "vllm": VLLM,
    "sglang": SGLANG,
    "llama.cpp": LLAMA_CPP,
}

_OWNERS = {"rootstream": ROOTSTREAM, "vllm": VLLM, "sglang": SGLANG, "llamacpp": LLAMA_CPP}


def recognised(host: str, owner: str | None) -> Dialect:
    """Of a host, and of what its list of models says in `owned_by`."""
    if host == "api.openai.com":
        return OPENAI
    return _OWNERS.get(owner or "", UNKNOWN)


def strict(schema: Any) -> Any:
    """A JSON schema as OpenAI's strict mode wants it: objects have all of their properties, and no others."""
    match schema:
        case dict():
            found = {name: strict(value) for name, value in schema.items() if name != "default"}
            if isinstance(schema.get("properties"), dict):
                properties = {name: strict(value) for name, value in schema["properties"].items()}
                found |= {"properties": properties, "required": [*properties], "additionalProperties": False}
            return found
        case list():
            return [strict(value) for value in schema]
        case _:
            return schema
