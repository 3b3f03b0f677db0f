"""What our server reads and writes at /v1/contexts (docs/contexts.md), typed. Knows nothing of connections."""

from __future__ import annotations

from typing import Any

import msgspec

from rootstream.lang.calls import Call, Outcome, Result, Usage
from rootstream.lang.parts import Gen, Part, Select


class Request(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One call. ``parts`` is always there."""

    parts: tuple[Part, ...]
    id: str | None = None
    parent: str | None = None
    model: str | None = None
    tools: tuple[dict[str, Any], ...] = ()
    chat_template_kwargs: dict[str, Any] = {}
    group: str | None = None
    prefill: bool = False
    keep: bool = True
    release: tuple[str, ...] = ()
    stream: bool = False
    timeout: float | None = None


FIELDS = frozenset(Request.__struct_fields__)


def request(call: Call, model: str | None, parent: str | None, release: tuple[str, ...]) -> Request:
    """The request of a call on a parent that may have another name by now. Tools are inherited from the root."""
    is_root = parent is None
    return Request(
        id=call.id,
        parent=parent,
        model=model,
        parts=_distinct(call.parts),
        tools=call.tools if is_root else (),
        chat_template_kwargs=call.template_kwargs if is_root else {},
        group=call.group,
        prefill=call.prefill,
        keep=call.keep,
        release=release,
        stream=call.stream,
        timeout=call.timeout,
    )


def _distinct(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The same, with other names for generations whose names are taken: a program may use a name again, a call not."""
    names: set[str] = set()
    renamed: dict[int, Part] = {}
    for at, part in enumerate(parts):
        if isinstance(part, Gen | Select):
            name = part.name
            while name in names:
                name = f"{name}.{at}"
            names.add(name)
            if name != part.name:
                renamed[at] = msgspec.structs.replace(part, name=name)
    return tuple(renamed.get(at, part) for at, part in enumerate(parts)) if renamed else parts


def as_called(outcome: Outcome, call: Call) -> Outcome:
    """With the names that the call has."""
    results: list[Result] = []
    for result in outcome.results:
        part = call.parts[result.part]
        assert isinstance(part, Gen | Select)
        results.append(msgspec.structs.replace(result, name=part.name))
    return Outcome(tuple(results), outcome.usage)


class _Cached(msgspec.Struct, frozen=True, gc=False):
    cached_tokens: int = 0


class UsageObject(msgspec.Struct, frozen=True, gc=False):
    """As in all of OpenAI's APIs."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Cached | None = None

    def usage(self) -> Usage:
        details = self.prompt_tokens_details
        return Usage(self.prompt_tokens, self.completion_tokens, details.cached_tokens if details else 0)


class Context(msgspec.Struct, frozen=True, gc=False):
    """The answer to a call."""

    parts: tuple[Result, ...] = ()
    usage: UsageObject = UsageObject()

    def outcome(self) -> Outcome:
        return Outcome(self.parts, self.usage.usage())


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event of a stream: a piece of a part, a part's result, the whole answer, or an error."""

    part: int = 0
    delta: str | None = None
    index: int = 0  # of n texts
    result: Result | None = None
    error: Any = None
    object: str | None = None


encode = msgspec.json.Encoder().encode
decode_context = msgspec.json.Decoder(Context).decode
decode_event = msgspec.json.Decoder(Event).decode
