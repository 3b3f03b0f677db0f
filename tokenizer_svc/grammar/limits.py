"""Every bound on a grammar, in one place."""

from __future__ import annotations

import msgspec


class GrammarLimits(msgspec.Struct, frozen=True):
    """Bounds are inclusive."""

    regex_bytes: int = 64 * 1024
    schema_bytes: int = 256 * 1024
    lark_bytes: int = 256 * 1024
    depth: int = 32  # of groups in a pattern, of subschemas in a schema
    enum_values: int = 1000  # of one enum or choice
    enum_values_in_all: int = 20_000
    bad_words: int = 64
    allowed_tokens: int = 4096
    bad_word: int = 64  # characters of one
    repeat: int = 4096  # the largest bound of a repetition
    tool_calls: int = 8  # in an answer that must be calls: a small model would go on calling to the end of its context
    nfa_states: int = 60_000
    nfa_moves: int = 2_000_000  # looked at while an automaton is made deterministic
    dfa_states: int = 20_000
    compile_s: float = 2.0  # processor time of one compile
    compile_wall_s: float = 10.0  # wall clock of one compile: children give way to the model, on a busy machine by much
    compile_bytes: int = 512 * 1024 * 1024  # address space of a compiling child
    compiles_per_client: int = 2  # at once
    children: int = 2  # compiling processes of one front door
    child_bytes: int = 128 * 1024 * 1024  # memory that a child may keep after a compile: a small one replaces it


LIMITS = GrammarLimits()
