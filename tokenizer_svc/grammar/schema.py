"""JSON Schema as a grammar: an automaton where the schema is regular, llguidance's form otherwise.

Both are made from the same reading of the schema and allow the same texts. What neither can enforce is refused, by
keyword and place.
"""

from __future__ import annotations

from shared.grammar import Dfa, Guidance, Whitespace
from tokenizer_svc.grammar.dfa import compile_dfa
from tokenizer_svc.grammar.errors import GrammarError
from tokenizer_svc.grammar.limits import LIMITS, GrammarLimits
from tokenizer_svc.grammar.nodes import Node
from tokenizer_svc.grammar.schema_json import parse, plain
from tokenizer_svc.grammar.schema_lark import ANY_RECORD, lark
from tokenizer_svc.grammar.schema_read import Shapes, read
from tokenizer_svc.grammar.schema_regular import NotRegular, Regular
from tokenizer_svc.grammar.schema_size import may_fit

__all__ = ["NotRegular", "compile_schema", "json_object", "schema_guidance", "schema_lark", "schema_node"]


def compile_schema(text: str, whitespace: Whitespace, limits: GrammarLimits = LIMITS) -> Dfa | Guidance:
    """The grammar of a JSON Schema. Raises GrammarError where it is wrong, too large or not supported."""
    shapes = read(parse(text, limits), limits)
    try:
        node = Regular(whitespace, limits).node(shapes.root)
        if may_fit(node, limits):
            return compile_dfa(node, limits)
    except GrammarError:  # not regular, or too many states after all
        pass
    return _guidance(shapes, whitespace, limits)


def json_object(whitespace: Whitespace, limits: GrammarLimits = LIMITS) -> Guidance:
    """Any JSON object."""
    return _guidance(Shapes(ANY_RECORD, {}), whitespace, limits)


def schema_node(schema: object, whitespace: Whitespace, limits: GrammarLimits = LIMITS) -> Node:
    """The tree of a schema, given as a decoded JSON value.

    Raises GrammarError where the schema is wrong or unsupported, NotRegular where no automaton can hold it.
    """
    return Regular(whitespace, limits).node(read(plain(schema, limits), limits).root)


def schema_lark(schema: object, whitespace: Whitespace, limits: GrammarLimits = LIMITS) -> str:
    """A schema, given as a decoded JSON value, in llguidance's variant of Lark; the rule is ``start``.

    Raises GrammarError where the schema is wrong or unsupported.
    """
    return lark(read(plain(schema, limits), limits), whitespace, limits)


def schema_guidance(schema: object, whitespace: Whitespace, limits: GrammarLimits = LIMITS) -> str:
    """:func:`schema_lark` in llguidance's serialised form, checked."""
    return _compiled(schema_lark(schema, whitespace, limits)).grammar


def _guidance(shapes: Shapes, whitespace: Whitespace, limits: GrammarLimits) -> Guidance:
    return _compiled(lark(shapes, whitespace, limits))


def _compiled(text: str) -> Guidance:
    from tokenizer_svc.grammar.lark import compile_lark  # llguidance: 5 MB that regular schemas never need

    return compile_lark(text)
