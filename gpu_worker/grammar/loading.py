"""From a compiled grammar as it travels to one that rows can obey. Slow parts run off the engine's thread."""

from __future__ import annotations

import threading
from typing import NamedTuple

import llguidance

from gpu_worker.grammar.automaton import Automaton
from gpu_worker.grammar.guidance import GuidanceGrammar
from gpu_worker.grammar.lexicon import Lexicon
from gpu_worker.grammar.matcher import AutomatonGrammar, CompiledGrammar
from gpu_worker.grammar.token_set import TokensGrammar
from shared import columns
from shared.grammar import Dfa, Guidance, Rejected, Tokens, decode
from shared.undecodable import UNDECODABLE


class GrammarReady(NamedTuple):
    """A grammar that rows waited for: compiled, or why it cannot be had."""

    key: str
    grammar: CompiledGrammar | str


class GrammarLoader:
    """Makes grammars ready for one vocabulary. Safe to use from several threads."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._tokenizer: llguidance.LLTokenizer | None = None
        self._lock = threading.Lock()

    def load(self, key: str, data: bytes) -> GrammarReady:
        """Never raises: what cannot be used becomes its rows' error."""
        try:
            compiled = decode(data)
        except UNDECODABLE as error:
            return GrammarReady(key, f"the compiled grammar cannot be read: {error}")
        match compiled:
            case Dfa():
                return GrammarReady(key, AutomatonGrammar(Automaton(compiled), self._lexicon))
            case Guidance(grammar):
                try:
                    return GrammarReady(
                        key, GuidanceGrammar(self._parsing(), grammar, self._lexicon.vocabulary.eos_ids)
                    )
                except ValueError as error:
                    return GrammarReady(key, f"the grammar cannot be used with this vocabulary: {error}")
            case Tokens(ids):
                return GrammarReady(key, TokensGrammar(columns.as_int32(ids), self._lexicon.vocabulary.size))
            case Rejected(message):
                return GrammarReady(key, message)

    def _parsing(self) -> llguidance.LLTokenizer:
        """Llguidance's view of the vocabulary, made when it is first needed (0.25 s at 49,152 tokens)."""
        with self._lock:
            if self._tokenizer is None:
                vocabulary = self._lexicon.vocabulary
                self._tokenizer = llguidance.LLTokenizer(
                    self._lexicon.tokenizer_json(), n_vocab=vocabulary.size, eos_token=list(vocabulary.eos_ids)
                )
            return self._tokenizer
