"""Chat templates that would take the machine: each ends in an error soon, and without the memory it asks for."""

from __future__ import annotations

import resource
import time
from typing import Any

import jinja2
import pytest

from shared.chat_template import ChatTemplate, ChatTemplateError

MESSAGES = [{"role": "user", "content": "hello"}]
LOOP = "{%% for i in range(100000) %%}%s{%% endfor %%}"
DOUBLING = "{%% set ns = namespace(x=%s) %%}{%% for i in range(60) %%}{%% set ns.x = %s %%}{%% endfor %%}%s"

BOMBS: dict[str, tuple[str, str]] = {
    "range": ("{% for i in range(10**9) %}x{% endfor %}", "[Rr]ange"),
    "nested loops": (LOOP % (LOOP % (LOOP % "")), "more than"),
    "nested loops without a turn": (LOOP % "{% for j in range(100000) if false %}{% endfor %}", "more than"),
    "nested loops of text": (LOOP % (LOOP % ("text " * 100)), "characters"),
    "a long text in a loop": (LOOP % ("text " * 10_000), "characters"),
    "a macro's own loop": ("{% macro m() %}" + LOOP % (LOOP % "x") + "{% endmacro %}{{ m() }}", "more than"),
    "a block's own loop": ("{% set x %}" + LOOP % ("y" * 1000) + "{% endset %}{{ x }}", "characters"),
    "recursion": ("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", "recursion|more than"),
    "branching recursion": (
        "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
        "m",
    ),
    "recursive loop": ("{% for x in [1] recursive %}{{ loop([1, 1]) }}{% endfor %}", "recursion|more than"),
    "multiplied text": ("{{ 'a' * 10**9 }}", "characters"),
    "multiplied list": ("{{ ([0] * 10**9) | length }}", "characters"),
    "multiplied on the left": ("{{ (10**9 * 'a') | length }}", "characters"),
    "power": ("{{ 9 ** (9 ** 9) }}", "bits"),
    "squares": (DOUBLING % ("9", "ns.x * ns.x", "{{ ns.x }}"), "bits"),
    "doubled text": (DOUBLING % ("'ab'", "ns.x + ns.x", ""), "characters"),
    "joined text": (DOUBLING % ("'ab'", "ns.x ~ ns.x", ""), "characters"),
    "doubled list": (DOUBLING % ("[1]", "ns.x + ns.x", ""), "characters"),
    "laughs": (DOUBLING % ("['ha']", "[ns.x, ns.x]", "{{ ns.x }}"), "characters"),
    "laughs in a dict": (DOUBLING % ("'ha'", "{'a': ns.x, 'b': ns.x}", "{{ ns.x | tojson }}"), "characters"),
    "laughs in a tuple": (DOUBLING % ("1", "(ns.x, ns.x)", "{{ ns.x == ns.x }}"), "characters"),
    "laughs by dict()": (DOUBLING % ("'ha'", "dict(a=ns.x, b=ns.x)", "{{ ns.x | string }}"), "characters"),
    "deep": (
        "{% set ns = namespace(x=1) %}{% for i in range(5000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
        "deep|recursion",
    ),
    "center": ("{{ 'a' | center(10**9) }}", "width"),
    "ljust": ("{{ 'a'.ljust(10**9) }}", "width"),
    "zfill": ("{{ 'a'.zfill(1000000000) }}", "width"),
    "expandtabs": ("{{ ('\t' * 10000).expandtabs(10000) }}", "not available"),
    "translate": ("{{ ('a' * 10000).translate({97: 'b' * 100000}) }}", "not available"),
    "indent": ("{{ ('\n' * 100000) | indent(10000) }}", "characters"),
    "indent by text": ("{{ ('\n' * 100000) | indent('x' * 100000) }}", "characters"),
    "json": ("{{ range(100000) | list | tojson(indent=10000) }}", "characters"),
    "replace": ("{{ ('a' * 100000).replace('a', 'b' * 100000) }}", "characters"),
    "replace nothing": ("{{ ('a' * 100000) | replace('', 'b' * 100000) }}", "characters"),
    "join": ("{{ range(100000) | join('x' * 100000) }}", "characters"),
    "join of itself": ("{{ ('x' * 100000).join('y' * 100000) }}", "characters"),
    "join of a range": ("{{ ('x' * 100000).join(range(100000)) }}", "no list"),
    "sum": ("{{ (([[1]] * 100000) | sum(start=[])) | length }}", "characters"),
    "percent": ("{{ '%1000000000d' % 1 }}", "width"),
    "percent of a star": ("{{ '%*d' % (1000000000, 1) }}", "width"),
    "percent filter": ("{{ '%1000000000d' | format(1) }}", "width"),
    "percent many": ("{{ ('%(a)s' * 10000) % {'a': 'x' * 100000} }}", "characters"),
    "format": ("{{ '{:1000000000}'.format(1) }}", "width"),
    "format of a field": ("{{ '{:{}}'.format(1, 1000000000) }}", "width"),
    "format many": ("{{ ('{0}' * 10000).format('x' * 100000) }}", "characters"),
    "format_map": ("{{ ('{a}' * 10000).format_map({'a': 'x' * 100000}) }}", "characters"),
    "batch": ("{{ [1] | batch(10**9, 0) | list }}", "width"),
    "slice": ("{{ [1] | slice(10**9, 0) | list }}", "width"),
    "lipsum": ("{{ lipsum(n=10**9) }}", "lipsum"),
    "date": ("{{ strftime_now('%1000000000Y') }}", "width"),
    "a long reason": ("{{ raise_exception('x' * 100000) }}", "^x{500}$"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_an_error(name: str) -> None:
    source, reason = BOMBS[name]
    memory, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.thread_time()
    with pytest.raises(ChatTemplateError, match=reason):
        ChatTemplate(source, {}).render(MESSAGES)
    assert time.thread_time() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 300_000  # kB


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "(" * 100_000 + "1" + ")" * 100_000 + " }}",
        "{% if 1 %}" * 5_000 + "{% endif %}" * 5_000,
        "x" * (2**20 + 1),
        "{{ " + " ~ ".join(["'a'"] * 5) + " | urlize }}",
        "{{ 1" + "0" * 100_000 + " }}",
    ],
    ids=["parentheses", "blocks", "length", "no such filter", "a long number"],
)
def test_source_that_does_not_compile_is_one_error(source: str) -> None:
    with pytest.raises(jinja2.TemplateError):
        ChatTemplate(source, {})


@pytest.mark.parametrize(
    "variables",
    [{"n": 10**9}, {"n": 10**30}, {"n": [[[[1] * 10] * 10] * 10] * 10}],
    ids=["huge", "beyond", "nested"],
)
def test_a_client_s_variables_are_held_to_the_same(variables: dict[str, Any]) -> None:
    source = "{% for i in range(n) %}x{% endfor %}{{ 'a' * n }}"
    with pytest.raises(ChatTemplateError):
        ChatTemplate(source, {}).render(MESSAGES, **variables)


def test_what_is_allowed_grows_with_what_is_given() -> None:
    """A conversation of 10 MB is no bomb."""
    messages = [{"role": "user", "content": "word " * 500}] * 4000
    source = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m.content | trim ~ '\n' }}{% endfor %}"
    assert len(ChatTemplate(source, {}).render(messages)) == 4000 * (8 + 2499 + 1)


def test_ordinary_filters_and_methods_go_on() -> None:
    source = (
        "{{ [3, 1, 2] | sort | join(', ') }} {{ '%s-%05d' % ('a', 7) }} {{ '{} {:>4}'.format(1, 2) }} "
        "{{ 'a\nb' | indent(2) }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} "
        "{{ 'x' * 3 }} {{ 2 ** 10 }} {{ 'a,b'.split(',') | last }} {{ messages | map(attribute='content') | first }} "
        "{{ ['-', '+'] | join }} {{ 'aXb' | replace('X', '--') }} {{ [1, 2] + [3] }} {{ {'a': [1]} | tojson }} "
        "{{ '{{\"day\": {}}} 20240101'.format(5) }}"
    )
    assert ChatTemplate(source, {}).render(MESSAGES) == (
        '1, 2, 3 a-00007 1    2 a\n  b 1 xxx 1024 b hello -+ a--b [1, 2, 3] {"a": [1]} {"day": 5} 20240101'
    )
