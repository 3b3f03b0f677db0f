"""The model's tokenizer: text to ids and back, the chat template, the ids that end an answer.

Reads Hugging Face's files directly, without transformers, in about 0.1 s. Knows nothing of requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import jinja2
import tokenizers
from tokenizers import decoders

from shared import gguf_tokenizer
from shared.chat_template import ChatTemplate
from shared.errors import UserError
from shared.inner_encoding import cuts_between_words, has_prefix, inner_backend, opening_ids
from shared.model_files import ModelFiles
from shared.spelling import Spell, Unspellable, absent_bytes, spell_vocabulary, speller
from shared.text_stream import ByteTextStream, TextStream, WindowTextStream

_SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class Tokenizer:
    """One model's tokenizer. Safe to use from several threads."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        eos_ids: Iterable[int],
        special_tokens: Mapping[str, str],
        chat_template: str | None,
        tool_template: str | None = None,
    ) -> None:
        """``special_tokens``: names such as bos_token and their text. Raises jinja2.TemplateError.

        ``tool_template``: that for conversations with tools, where a model has one of its own for them.
        """
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._special_ids = {id for id, token in backend.get_added_tokens_decoder().items() if token.special}
        self._is_byte_level = isinstance(backend.decoder, decoders.ByteLevel)
        self._token_bytes = cache(self._spell)
        self._shown_bytes = cache(self._spell_shown)
        self.special_tokens = dict(special_tokens)
        self.vocab_size = backend.get_vocab_size(with_added_tokens=True)
        self.eos_ids = tuple(sorted(set(eos_ids)))
        self.bos_id = backend.token_to_id(special_tokens["bos_token"]) if "bos_token" in special_tokens else None
        self.chat_template = ChatTemplate(chat_template, special_tokens) if chat_template is not None else None
        self.tool_template = self.chat_template
        if tool_template is not None:
            self.tool_template = ChatTemplate(tool_template, special_tokens)

    @property
    def template_variables(self) -> frozenset[str]:
        """The names that the model's chat templates look at."""
        templates = (self.chat_template, self.tool_template)
        return frozenset[str]().union(*(template.variables for template in templates if template is not None))

    @classmethod
    def load(cls, files: ModelFiles, cache: Path) -> Tokenizer:
        """The tokenizer of a model. That of a GGUF file is converted on first use, which takes some seconds.

        Raises UserError, naming the file, where one is missing or broken.
        """
        directory = gguf_tokenizer.converted(files.path, cache) if files.format == "gguf" else files.path
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise UserError(
                f"{directory} has no tokenizer.json: write one with transformers, "
                "AutoTokenizer.from_pretrained(...).save_pretrained(...)"
            )
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise UserError(f"{path} cannot be read: {error}") from error
        config = _read_json(directory / "tokenizer_config.json")
        special = _special_tokens(directory, config)
        try:
            return cls(
                backend,
                eos_ids=_eos_ids(directory, backend, special),
                special_tokens=special,
                chat_template=_chat_template(directory, config, "default"),
                tool_template=_chat_template(directory, config, "tool_use"),
            )
        except jinja2.TemplateError as error:
            raise UserError(f"a chat template in {directory} does not compile: {error}") from error

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text; with ``add_special_tokens`` framed (bos, …) as tokenizer.json says.

        Lets other threads run meanwhile: of the library's ways, only the batches release the GIL (the loop
        stood still for 0.9 s with ``encode`` on 900 kB, for 6 ms with this, which is also 3 times as fast).
        """
        return self._backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids

    def encode_inner(self, text: str) -> list[int] | None:
        """Token ids of a text that continues other text: no framing, no space before the first word.

        The text of a special token becomes ordinary tokens. None where the tokens do not spell exactly ``text`` (the
        tokenizer normalises it, or does not know a character), or where this vocabulary has no spelling at all.
        """
        if isinstance(self._spelling, Unspellable):
            return None
        spelled = self._spelling
        ids = self._inner_backend.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids if b"".join([spelled[id] for id in ids]) == text.encode() else None

    def encode_after(self, text: str) -> list[int]:
        """Token ids of a text that goes on after tokens: as ``encode``, but for no framing and no space before it."""
        return self._following_backend.encode_batch_fast([text], add_special_tokens=False)[0].ids

    @cached_property
    def opening_ids(self) -> tuple[int, ...]:
        """What ``encode`` with special tokens puts before every text."""
        return opening_ids(self._backend)

    @cached_property
    def cuts_between_words(self) -> bool:
        """Whether the tokens before and after a space between two letters have nothing to do with each other."""
        return cuts_between_words(self._backend)

    def spelling(self) -> list[bytes] | Unspellable:
        """The bytes that each token adds to a text, by id: none for special tokens and for those that end an answer."""
        return self._spelling

    def token_bytes(self, id: int) -> bytes:
        """The bytes of one token by itself, special ones included; none for an id beyond the vocabulary.

        A token may hold half a character. Where this vocabulary has no spelling, a token's text is its decoding.
        """
        return self._token_bytes(id)

    def to_json(self) -> str:
        """The description that tokenizer.json holds."""
        return self._backend.to_str()

    @cached_property
    def _spelling(self) -> list[bytes] | Unspellable:
        return spell_vocabulary(self._backend, self._special_ids | set(self.eos_ids))

    @cached_property
    def _speller(self) -> Spell | Unspellable:
        return speller(self._backend)

    @cached_property
    def _inner_backend(self) -> tokenizers.Tokenizer:
        return inner_backend(self._backend)

    @cached_property
    def _following_backend(self) -> tokenizers.Tokenizer:
        is_same = not has_prefix(self._backend)
        return self._backend if is_same else inner_backend(self._backend, knows_special=True)

    def least_tokens(self, text: str) -> int:
        """A bound from below on the tokens of a text, without tokenising it; 0 where there is none."""
        if not self._is_byte_level or self._backend.normalizer is not None:
            return 0
        return -(-len(text.encode().translate(None, self._absent_bytes)) // self._longest_token)

    @cached_property
    def _absent_bytes(self) -> bytes:
        return absent_bytes(self._backend)

    @cached_property
    def _longest_token(self) -> int:
        """Bytes of the longest token of a byte-level vocabulary (30 ms for 49k tokens)."""
        return max(max(len(token), len(token.encode())) for token in self._backend.get_vocab())

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of some ids; bytes that are no UTF-8 become U+FFFD."""
        return self._backend.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def written(self, ids: Sequence[int]) -> list[str]:
        """Some ids as the vocabulary writes them, such as ``Ġthe``; empty for an id beyond it."""
        return [self._backend.id_to_token(id) or "" for id in ids]

    def stream(self, context_ids: Sequence[int], skip_special_tokens: bool) -> TextStream:
        """Turns ids into text as they come. ``context_ids``: the last few ids before the first."""
        if self._is_byte_level:
            return ByteTextStream(self._shown_bytes if skip_special_tokens else self._token_bytes)
        return WindowTextStream(self._backend, context_ids, skip_special_tokens=skip_special_tokens)

    def hides(self, text: str) -> bool:
        """Whether ``text`` is a special token, which answers show only with ``skip_special_tokens=False``."""
        return self._backend.token_to_id(text) in self._special_ids

    def render_chat(
        self, messages: Sequence[Mapping[str, Any]], /, *, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """The prompt text for a conversation; encode it without adding special tokens.

        Raises ChatTemplateError where the template refuses, LookupError where the model has none.
        """
        if self.chat_template is None:
            raise LookupError("this model has no chat template")
        return self.chat_template.render(messages, add_generation_prompt=add_generation_prompt, **variables)

    def _spell(self, id: int) -> bytes:
        """The bytes of one token; none for an id beyond the vocabulary."""
        token = self._backend.id_to_token(id)
        if token is None:
            return b""
        spell = self._speller
        if isinstance(spell, Unspellable):
            return self.decode([id], skip_special_tokens=False).encode()
        return spell(token)

    def _spell_shown(self, id: int) -> bytes:
        return b"" if id in self._special_ids else self._spell(id)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is broken JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object")
    return value


def _special_tokens(directory: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Text of the named special tokens, as the chat template wants them."""
    entries = _read_json(directory / "special_tokens_map.json") | {k: v for k, v in config.items() if v is not None}
    found: dict[str, str] = {}
    for name in _SPECIAL_NAMES:
        entry = entries.get(name)
        content = entry.get("content") if isinstance(entry, dict) else entry
        if isinstance(content, str):
            found[name] = content
    return found


def _eos_ids(directory: Path, backend: tokenizers.Tokenizer, special: Mapping[str, str]) -> set[int]:
    """Every id that any of the model's files calls end of sequence."""
    found: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        value = _read_json(directory / name).get("eos_token_id")
        found |= {id for id in (value if isinstance(value, list) else [value]) if isinstance(id, int)}
    if "eos_token" in special and (id := backend.token_to_id(special["eos_token"])) is not None:
        found.add(id)
    return found


def _chat_template(directory: Path, config: Mapping[str, Any], name: str) -> str | None:
    """A template by the name that transformers gives it; most models have one only, "default"."""
    is_default = name == "default"
    path = directory / ("chat_template.jinja" if is_default else f"additional_chat_templates/{name}.jinja")
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):  # several, by name
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get(name)
    elif not is_default:
        template = None
    return template if isinstance(template, str) else None
