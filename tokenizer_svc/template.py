"""The ``segments`` of a /generate request: fixed text, and parts for the model to write, by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from shared.grammar import Dfa, Whitespace, decode
from shared.protocol import Jump
from tokenizer_svc.api_error import bad_grammar, invalid, of_validation
from tokenizer_svc.api_error import unsupported as refused
from tokenizer_svc.grammar.spec import GrammarSpec, Kind
from tokenizer_svc.grammar.template import Fixed, Form, Generated, TemplateSpec
from tokenizer_svc.limits import Limits
from tokenizer_svc.structure import Schema, Structure, read_whitespace
from tokenizer_svc.values import Values

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_FREE_TOKENS = 128  # of a part that nothing bounds
_PATH = "segments"


class Segment(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One part that the model writes. A misspelt field would leave it free: it is refused."""

    gen: str
    max_tokens: int | None = None
    stop: str | None = None
    regex: str | None = None
    choice: list[str] | None = None
    json_schema: Schema | None = None
    whitespace: str | None = None


class Template(NamedTuple):
    """What the segments of a request amount to."""

    prompt: str | None  # the first text, where the request has no prompt besides
    start: int  # bytes of fixed text before the first generated part
    names: tuple[str, ...]  # of the generated parts
    spec: GrammarSpec

    def structure(self, jump: Jump) -> Structure:
        """What the answer obeys. Raises ApiError 400."""
        return Structure.of(self.spec, jump, _PATH)

    def values(self, compiled: bytes) -> Values:
        """An empty fold over an answer's text. ``compiled``: the spec's grammar."""
        dfa = decode(compiled)
        if not isinstance(dfa, Dfa) or dfa.segments is None:
            raise TypeError("the grammar of a template has segments")
        return Values(dfa.segments, self.names, self.start)


def read_template(segments: Sequence[Any], limits: Limits, *, has_prompt: bool) -> Template:
    """Raises ApiError 400 naming the segment."""
    if len(segments) > limits.max_segments:
        raise invalid(f"{_PATH} has {len(segments)} segments, at most {limits.max_segments} are allowed", _PATH)
    parts: list[Fixed | Generated] = []
    names: list[str] = []
    places: list[str] = []  # in the request, of each part
    for index, segment in enumerate(segments):
        path = f"{_PATH}[{index}]"
        if isinstance(segment, str):
            if segment and parts and isinstance(parts[-1], Fixed):
                parts[-1] = Fixed(parts[-1].text + segment)
            elif segment:
                parts.append(Fixed(segment))
                places.append(path)
            continue
        asked = _asked(segment, path)
        if asked.gen in names:
            raise invalid(f"{path}.gen is {asked.gen!r} again: each generated part needs a name of its own", path)
        names.append(asked.gen)
        parts.append(_generated(asked, path, limits))
        places.append(path)
    if not names:
        raise invalid(f"{_PATH} has no generated part: add one such as {{'gen': 'answer'}}", _PATH)
    prompt = None
    if not has_prompt:
        if not isinstance(parts[0], Fixed):
            raise invalid(f"the first of {_PATH} must be text where the request has no text or input_ids", _PATH)
        prompt, parts, places = parts[0].text, parts[1:], places[1:]
    ended = _ended(parts, places)
    start = len(ended[0].text.encode()) if isinstance(ended[0], Fixed) else 0
    text = msgspec.json.encode(TemplateSpec(ended)).decode()
    return Template(prompt, start, tuple(names), GrammarSpec(Kind.TEMPLATE, text))


def _asked(segment: Any, path: str) -> Segment:
    try:
        asked = msgspec.convert(segment, Segment)
    except msgspec.ValidationError as error:
        raise of_validation(error, path) from error
    if not _NAME.fullmatch(asked.gen):
        raise invalid(f"{path}.gen is {asked.gen!r}: a name is a letter, then letters, digits and _", f"{path}.gen")
    return asked


def _generated(asked: Segment, path: str, limits: Limits) -> Generated:
    """One part, its stop still as the request has it."""
    given = [name for name in ("regex", "choice", "json_schema") if getattr(asked, name) is not None]
    if len(given) > 1:
        raise invalid(f"{path} has {given[0]} and {given[1]}: send one of them", path)
    if given and asked.stop is not None:
        raise invalid(f"{path}.stop is for free parts; {given[0]} ends by itself", f"{path}.stop")
    if asked.max_tokens is not None and not 1 <= asked.max_tokens <= limits.max_part_tokens:
        most = limits.max_part_tokens
        raise invalid(f"{path}.max_tokens must be between 1 and {most}, not {asked.max_tokens}", f"{path}.max_tokens")
    whitespace = read_whitespace(asked.whitespace, f"{path}.whitespace")
    if whitespace is not None and given != ["json_schema"]:
        raise invalid(f"{path}.whitespace is for parts in JSON", f"{path}.whitespace")
    most = asked.max_tokens or 0
    if asked.regex is not None:
        return Generated(Form.REGEX, asked.regex, max_tokens=most)
    if asked.choice is not None:
        if not asked.choice:
            raise bad_grammar(f"{path}.choice", "is an empty list: at least one text is needed")
        return Generated(Form.CHOICE, msgspec.json.encode(asked.choice).decode(), max_tokens=most)
    if asked.json_schema is not None:
        schema = asked.json_schema
        text = schema if isinstance(schema, str) else msgspec.json.encode(schema).decode()
        return Generated(Form.JSON_SCHEMA, text, "", most, whitespace or Whitespace.SPACED)
    return Generated(Form.FREE, stop=asked.stop or "", max_tokens=most or _FREE_TOKENS)


def _ended(parts: Sequence[Fixed | Generated], places: Sequence[str]) -> tuple[Fixed | Generated, ...]:
    """The same parts, each free one with the text that ends it. Raises ApiError 400 where there is none."""
    ended: list[Fixed | Generated] = []
    for place, part in enumerate(parts):
        if isinstance(part, Fixed):
            ended.append(part)
            continue
        after = parts[place + 1] if place + 1 < len(parts) else Fixed("")
        path = places[place]
        if not isinstance(after, Fixed):
            raise invalid(f"{path} is followed by another generated part: put some text between them", path)
        if part.form is not Form.FREE:
            ended.append(part)
        elif not after.text.startswith(part.stop):
            what = f"{path}.stop is {part.stop!r}, but the text after it begins with {after.text[:20]!r}"
            raise refused(f"{path}.stop", f"{what}: begin that text with what ends the part")
        else:
            ended.append(msgspec.structs.replace(part, stop=part.stop or after.text[:1]))
    return tuple(ended)
