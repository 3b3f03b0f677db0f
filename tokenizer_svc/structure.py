"""What an answer must look like: the fields of all APIs that ask for it, read into one canonical form.

The same wish in any spelling becomes the same GrammarSpec, and so the same key. Sizes are checked here,
everything else about a grammar when it is compiled. Knows nothing of prompts or streams.
Sources of the spellings: OpenAI's reference, vLLM's and SGLang's documentation of structured outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from shared.grammar import Whitespace
from shared.protocol import Grammar, Jump, ModelCard
from tokenizer_svc.api_error import bad_grammar, invalid
from tokenizer_svc.api_error import unsupported as refused
from tokenizer_svc.grammar.limits import LIMITS, GrammarLimits
from tokenizer_svc.grammar.spec import GrammarSpec, Kind, Reasoned

Schema = str | dict[str, Any]
"""A JSON Schema, as it is or as a text."""


class NamedSchema(msgspec.Struct, kw_only=True):
    """OpenAI's ``response_format.json_schema``. The schema is obeyed whether ``strict`` or not."""

    schema: dict[str, Any] | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, kw_only=True):
    """OpenAI's ``response_format``."""

    type: str
    json_schema: NamedSchema | None = None
    schema: Any = None  # of other servers


class StructuredOutputs(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """vLLM's ``structured_outputs``. A misspelt field would leave the answer free: it is refused."""

    json: Schema | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: Any = None
    whitespace_pattern: Any = None
    disable_any_whitespace: bool | None = None
    disable_additional_properties: bool | None = None
    disable_fallback: bool | None = None


class StructureFields(msgspec.Struct, kw_only=True):
    """The fields themselves: of a body of OpenAI's API, of ``sampling_params`` in /generate."""

    regex: str | None = None
    choice: list[str] | None = None
    ebnf: str | None = None
    grammar: str | None = None
    json_schema: Schema | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Schema | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    guided_json_object: bool | None = None
    bad_words: list[str] | None = None
    allowed_token_ids: list[int] | None = None
    whitespace: str | None = None
    jump_forward: bool | str | None = None


class Wish(NamedTuple):
    """A grammar that one field asks for."""

    param: str  # path of the field
    spec: GrammarSpec

    def check_size(self, limits: GrammarLimits = LIMITS) -> None:
        """Raises ApiError 400 where it is too large to be looked at."""
        match self.spec.kind:
            case Kind.REGEX:
                most = limits.regex_bytes
            case Kind.LARK:
                most = limits.lark_bytes
            case Kind.EITHER:  # two, each of which was checked by itself
                return
            case _:
                most = limits.schema_bytes
        if (size := len(self.spec.text.encode())) > most:
            raise bad_grammar(self.param, f"is {size} bytes long, at most {most} are allowed")


class Structure(NamedTuple):
    """A grammar that a request asks for, and where it does."""

    spec: GrammarSpec
    key: str  # of the spec
    jump: Jump
    param: str  # path of the field, for errors

    @classmethod
    def of(cls, spec: GrammarSpec, jump: Jump, param: str, limits: GrammarLimits = LIMITS) -> Structure:
        """Raises ApiError 400 where the spec is too large to be looked at."""
        Wish(param, spec).check_size(limits)
        return cls(spec, spec.key, jump, param)

    def following(self, reasoned: Reasoned) -> Structure:
        """The same, to be obeyed after reasoning."""
        if self.spec.leaves_form:
            return self
        spec = msgspec.structs.replace(self.spec, after=reasoned)
        return self._replace(spec=spec, key=spec.key)

    @property
    def grammar(self) -> Grammar:
        """What the worker is told."""
        return Grammar(self.key, self.jump)


def asks_for_form(fields: StructureFields, prefix: str = "") -> bool:
    """Whether the fields say what the answer looks like. Raises ApiError 400.

    ``prefix`` is where the fields are in the request.
    """
    return any(not spec.leaves_form for _, spec in _asked(fields, f"{prefix}." if prefix else ""))


def read_structure(
    fields: StructureFields, prefix: str = "", beside: Callable[[Wish | None], Wish | None] = lambda wish: wish
) -> Structure | None:
    """The one grammar that the fields ask for, None where they leave the answer free.

    ``prefix`` is where the fields are in the request, ``beside`` what their wish becomes beside those of other fields.
    Raises ApiError 400 naming the field.
    """
    at = f"{prefix}." if prefix else ""
    jump = read_jump(fields.jump_forward, f"{at}jump_forward")
    asked = [Wish(at + name, spec) for name, spec in _asked(fields, at)]
    if len(asked) > 1:
        (first, _), (second, _) = asked[:2]
        raise invalid(f"{first} and {second} both say what the answer must look like: send one of them", second)
    whitespace = read_whitespace(fields.whitespace, f"{at}whitespace")
    for wish in asked:
        wish.check_size()
    wish = beside(asked[0] if asked else None)
    if wish is None:
        if whitespace is not None:
            raise invalid(f"{at}whitespace is for answers in JSON: ask for a schema, too", f"{at}whitespace")
        return None
    param, spec = wish
    if whitespace is not None:
        if spec.kind not in (Kind.JSON_SCHEMA, Kind.JSON_OBJECT, Kind.TOOLS, Kind.EITHER):
            raise invalid(
                f"{at}whitespace is for answers in JSON, and {param} asks for something else", f"{at}whitespace"
            )
        spec = msgspec.structs.replace(spec, whitespace=whitespace)
    return Structure.of(spec, jump, param)


def check_structured(structure: Structure, card: ModelCard) -> None:
    """Raises ApiError 400 where the model's output cannot be constrained, or not to what is asked for."""
    param, spec = structure.param, structure.spec
    if not card.structured:
        raise refused(param, "the vocabulary of this model is not known byte by byte")
    if spec.kind is Kind.TOKENS:
        for id in msgspec.json.decode(spec.text, type=list[int]):
            if not 0 <= id < card.vocab_size:
                raise invalid(f"{param} has {id}, and the model's tokens are 0 to {card.vocab_size - 1}", param)


def read_jump(value: bool | str | None, path: str) -> Jump:
    """How forced text is handled; canonical by default. Raises ApiError 400."""
    if value is None or isinstance(value, bool):
        return Jump.OFF if value is False else Jump.CANONICAL
    try:
        return Jump(value)
    except ValueError:
        raise invalid(f"{path} must be true, false, {_options(Jump)}, not {value!r}", path) from None


def read_whitespace(value: str | None, path: str) -> Whitespace | None:
    """What may stand between the tokens of JSON. Raises ApiError 400."""
    try:
        return None if value is None else Whitespace(value)
    except ValueError:
        raise invalid(f"{path} must be {_options(Whitespace)}, not {value!r}", path) from None


def _options(kind: type[Jump | Whitespace]) -> str:
    *others, last = (f'"{option}"' for option in kind)
    return f"{', '.join(others)} or {last}"


def _asked(fields: StructureFields, at: str) -> Iterator[tuple[str, GrammarSpec]]:
    """Every field that asks for a grammar, by its path below ``at``."""
    yield from _plain(Kind.REGEX, fields, at, "regex", "guided_regex")
    yield from _plain(Kind.LARK, fields, at, "ebnf", "grammar", "guided_grammar")
    for name in ("choice", "guided_choice"):
        yield from _choice(getattr(fields, name), at, name)
    for name in ("json_schema", "guided_json"):
        yield from _schema(getattr(fields, name), at, name)
    if fields.bad_words:
        yield "bad_words", _bad_words(fields.bad_words, f"{at}bad_words")
    if fields.allowed_token_ids:
        yield "allowed_token_ids", _allowed(fields.allowed_token_ids, f"{at}allowed_token_ids")
    if fields.guided_json_object:
        yield "guided_json_object", GrammarSpec(Kind.JSON_OBJECT)
    if fields.response_format is not None:
        yield from _response_format(fields.response_format, at)
    if fields.structured_outputs is not None:
        yield from _structured_outputs(fields.structured_outputs, at)


def _plain(
    kind: Kind, fields: msgspec.Struct, at: str, *names: str, within: str = ""
) -> Iterator[tuple[str, GrammarSpec]]:
    for name in names:
        text = getattr(fields, name)
        if text == "":
            raise bad_grammar(f"{at}{within}{name}", "is empty: leave it out where the answer is free")
        if text is not None:
            yield within + name, GrammarSpec(kind, text)


def _choice(texts: list[str] | None, at: str, name: str) -> Iterator[tuple[str, GrammarSpec]]:
    if texts is None:
        return
    if not texts:
        raise bad_grammar(at + name, "is an empty list: at least one text is needed")
    if "" in texts:
        raise bad_grammar(f"{at}{name}[{texts.index('')}]", "is empty, which is no answer")
    yield name, GrammarSpec(Kind.CHOICE, msgspec.json.encode(sorted(set(texts))).decode())


def _bad_words(words: list[str], path: str) -> GrammarSpec:
    if len(words) > LIMITS.bad_words:
        raise invalid(f"{path} has {len(words)} words, at most {LIMITS.bad_words} are allowed", path)
    if not all(words):
        raise invalid(f"{path} holds an empty text, which is part of every answer", path)
    if (longest := max(map(len, words))) > LIMITS.bad_word:
        raise invalid(f"{path} has a word of {longest} characters, at most {LIMITS.bad_word} are allowed", path)
    return GrammarSpec(Kind.BAD_WORDS, msgspec.json.encode(sorted(set(words))).decode())


def _allowed(ids: list[int], path: str) -> GrammarSpec:
    if len(ids) > (most := LIMITS.allowed_tokens):
        raise invalid(f"{path} has {len(ids)} tokens, at most {most} are allowed", path)
    return GrammarSpec(Kind.TOKENS, msgspec.json.encode(sorted(set(ids))).decode())


def _schema(schema: Schema | None, at: str, name: str) -> Iterator[tuple[str, GrammarSpec]]:
    if schema is None:
        return
    if isinstance(schema, str):
        try:
            decoded = msgspec.json.decode(schema)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise bad_grammar(at + name, f"is no valid JSON: {error}") from error
        if not isinstance(decoded, dict):
            raise bad_grammar(at + name, "is no JSON object, as a schema must be")
        schema = decoded
    yield name, GrammarSpec(Kind.JSON_SCHEMA, msgspec.json.encode(schema).decode())


def _response_format(asked: ResponseFormat, at: str) -> Iterator[tuple[str, GrammarSpec]]:
    name = "response_format"
    if asked.schema is not None:
        raise refused(f"{at}{name}.schema", 'use the type "json_schema" with json_schema.schema')
    match asked.type:
        case "text":
            pass
        case "json_object":
            yield name, GrammarSpec(Kind.JSON_OBJECT)
        case "json_schema":
            path = f"{name}.json_schema"
            if asked.json_schema is None:
                raise invalid(f"{at}{path} is missing", at + path, "missing_field")
            if asked.json_schema.schema is None:
                raise invalid(f"{at}{path}.schema is missing", f"{at}{path}.schema", "missing_field")
            yield from _schema(asked.json_schema.schema, at, f"{path}.schema")
        case other:
            what = f'{other!r} is not served: use "text", "json_object" or "json_schema"'
            raise refused(f"{at}{name}.type", what)


def _structured_outputs(asked: StructuredOutputs, at: str) -> Iterator[tuple[str, GrammarSpec]]:
    within = "structured_outputs."
    for field, instead in _NOT_OF_VLLM.items():
        if getattr(asked, field):
            raise refused(f"{at}{within}{field}", instead)
    yield from _plain(Kind.REGEX, asked, at, "regex", within=within)
    yield from _plain(Kind.LARK, asked, at, "grammar", within=within)
    yield from _choice(asked.choice, at, f"{within}choice")
    yield from _schema(asked.json, at, f"{within}json")
    if asked.json_object:
        yield f"{within}json_object", GrammarSpec(Kind.JSON_OBJECT)


_NOT_OF_VLLM = {
    "structural_tag": "leave it out",
    "whitespace_pattern": "use whitespace",
    "disable_any_whitespace": "use whitespace",
    "disable_additional_properties": "set additionalProperties to false in the schema",
    "disable_fallback": "there is nothing to fall back to",
}
"""Fields of ``structured_outputs`` that are not served: what to do instead."""
