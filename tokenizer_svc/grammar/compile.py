"""From what a client asks for to what a worker obeys. Pure, and possibly slow or large: see child.py."""

from __future__ import annotations

import msgspec

from shared import columns
from shared.grammar import Compiled, Dfa, Guidance, Rejected, Tokens, Whitespace
from tokenizer_svc.grammar.after_reasoning import after_reasoning
from tokenizer_svc.grammar.bad_words import without
from tokenizer_svc.grammar.dfa import compile_dfa
from tokenizer_svc.grammar.either import either_automaton, either_guidance
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import GrammarLimits
from tokenizer_svc.grammar.nodes import Literal, Node, union
from tokenizer_svc.grammar.regex import parse
from tokenizer_svc.grammar.schema import compile_schema, json_object, schema_guidance
from tokenizer_svc.grammar.schema_json import parse as read_json
from tokenizer_svc.grammar.schema_phrases import phrase
from tokenizer_svc.grammar.spec import GrammarSpec, Kind
from tokenizer_svc.grammar.template import compile_template
from tokenizer_svc.grammar.tools_spec import EitherSpec


def compile_spec(spec: GrammarSpec, limits: GrammarLimits) -> Compiled:
    """Never raises GrammarError: a grammar that cannot be used is Rejected, with the reason."""
    try:
        compiled = _compile(spec, limits)
        if spec.after is None or isinstance(compiled, Tokens):  # a set of tokens holds in reasoning, too
            return compiled
        return after_reasoning(compiled, spec.after, limits)
    except GrammarError as error:
        return Rejected(str(error))


def _compile(spec: GrammarSpec, limits: GrammarLimits) -> Dfa | Guidance | Tokens:
    match spec.kind:
        case Kind.REGEX:
            return compile_dfa(parse(spec.text, limits), limits)
        case Kind.CHOICE:
            return _choice(spec.text, limits)
        case Kind.BAD_WORDS:
            return without(msgspec.json.decode(spec.text, type=list[str]), limits)
        case Kind.TOKENS:
            return Tokens(columns.int32(msgspec.json.decode(spec.text, type=list[int])))
        case Kind.LARK:
            from tokenizer_svc.grammar.lark import compile_lark  # llguidance: 5 MB that not every child needs

            return compile_lark(spec.text)
        case Kind.TEMPLATE:
            return compile_template(spec.text, limits)
        case Kind.JSON_SCHEMA:
            return compile_schema(spec.text, spec.whitespace, limits)
        case Kind.JSON_OBJECT:
            return json_object(spec.whitespace, limits)
        case Kind.TOOLS:
            from tokenizer_svc.grammar.tools import compile_tools  # llguidance, too

            return compile_tools(spec.text, spec.whitespace, limits)
        case Kind.EITHER:
            return _either(msgspec.json.decode(spec.text, type=EitherSpec), spec.whitespace, limits)


def _either(spec: EitherSpec, whitespace: Whitespace, limits: GrammarLimits) -> Dfa | Guidance:
    """An automaton where both parts are one and it is small enough, else a grammar for llguidance."""
    from tokenizer_svc.grammar.tools import calls_guidance, compile_calls  # llguidance, too

    calls = compile_calls(spec.calls, whitespace, limits)
    text = _compile(spec.of_text(whitespace), limits)
    if isinstance(calls, Dfa) and isinstance(text, Dfa):
        automaton = either_automaton(calls, text, spec.openings, limits)
        if automaton is not None:
            return automaton
    if isinstance(calls, Dfa):
        calls = calls_guidance(spec.calls, whitespace, limits)
    if not isinstance(text, Guidance):
        text = _guidance(spec.of_text(whitespace), limits)
    return either_guidance(calls, text, spec.openings)


def _guidance(spec: GrammarSpec, limits: GrammarLimits) -> Guidance:
    """What an automaton could hold, in llguidance's form."""
    from tokenizer_svc.grammar.lark import compile_lark

    if spec.kind is Kind.JSON_SCHEMA:
        return Guidance(schema_guidance(read_json(spec.text, limits), spec.whitespace, limits))
    node = _choices(spec.text, limits) if spec.kind is Kind.CHOICE else parse(spec.text, limits)
    return compile_lark(f"start: /{phrase(node)}/")


def _choice(text: str, limits: GrammarLimits) -> Dfa:
    return compile_dfa(_choices(text, limits), limits)


def _choices(text: str, limits: GrammarLimits) -> Node:
    texts = msgspec.json.decode(text, type=list[str])
    if len(texts) > limits.enum_values:
        raise GrammarError(f"has {len(texts)} texts, at most {limits.enum_values} are allowed")
    return union([Literal(text) for text in texts])
