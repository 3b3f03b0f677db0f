from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors

from shared.chat_template import ChatTemplate, ChatTemplateError
from shared.config import DEFAULT_MODEL
from shared.errors import UserError
from shared.gguf_tokenizer import _end_ids
from shared.model_files import ModelFiles, locate
from shared.text_stream import WindowTextStream
from shared.tokenizer import Tokenizer

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "  Wie heißt du? 😀\n"},
    {"role": "assistant", "content": "<|im_end|>"},
    {"role": "user", "content": ""},
]

TEXTS = [
    "",
    " ",
    "hello world",
    "  two\n\n\tlines ",
    "naïve café 😀👩‍👩‍👧 漢字",
    "<|im_start|>user\nhi<|im_end|>",
    "1234 56.78",
    "\x00\ufffd",
]


class Pair:
    """A tokenizer of ours and transformers' own, of the same model."""

    def __init__(self, ours: Tokenizer, oracle: Any) -> None:
        self.ours = ours
        self.oracle = oracle


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


LOAD = (
    "import sys; from pathlib import Path; "
    "from shared.model_files import locate; from shared.tokenizer import Tokenizer; "
    "cache = Path(sys.argv[2]); tokenizer = Tokenizer.load(locate(sys.argv[1], cache), cache); "
    "print(tokenizer.vocab_size, *sorted({'transformers', 'torch', 'gguf', 'huggingface_hub'} & set(sys.modules)))"
)


def loading(model: str, cache: Path) -> subprocess.Popen[str]:
    """A process that loads a tokenizer and prints its size and which heavy modules it imported."""
    return subprocess.Popen([sys.executable, "-c", LOAD, model, str(cache)], stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="session")
def conversions(cache: Path) -> list[list[str]]:
    """What three processes print that load the packaged model at once with a cold cache."""
    processes = [loading(DEFAULT_MODEL, cache) for _ in range(3)]
    return [process.communicate(timeout=100)[0].split() for process in processes]


@pytest.fixture(scope="session", params=["toy", "smollm2"])
def pair(request: pytest.FixtureRequest, toy_model: Path, cache: Path) -> Pair:
    from transformers import AutoTokenizer

    if request.param == "toy":
        return Pair(
            Tokenizer.load(ModelFiles("toy", "huggingface", toy_model), cache), AutoTokenizer.from_pretrained(toy_model)
        )
    request.getfixturevalue("conversions")
    files = locate(DEFAULT_MODEL, cache)
    ours = Tokenizer.load(files, cache)
    return Pair(ours, AutoTokenizer.from_pretrained(files.path.parent, gguf_file=files.path.name))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("special", [True, False])
def test_encode_equals_transformers(pair: Pair, text: str, special: bool) -> None:
    assert pair.ours.encode(text, add_special_tokens=special) == pair.oracle.encode(text, add_special_tokens=special)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("skip", [True, False])
def test_decode_equals_transformers(pair: Pair, text: str, skip: bool) -> None:
    ids = pair.oracle.encode(text)
    assert pair.ours.decode(ids, skip_special_tokens=skip) == pair.oracle.decode(ids, skip_special_tokens=skip)


@pytest.mark.parametrize("generation", [True, False])
def test_chat_template_equals_transformers(pair: Pair, generation: bool) -> None:
    expected = pair.oracle.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=generation)
    assert pair.ours.render_chat(MESSAGES, add_generation_prompt=generation) == expected


def test_special_ids_and_size_equal_transformers(pair: Pair) -> None:
    assert pair.ours.eos_ids == (pair.oracle.eos_token_id,)
    assert pair.ours.bos_id == pair.oracle.bos_token_id
    assert pair.ours.vocab_size == len(pair.oracle)


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_streamed_text_equals_decode(pair: Pair, data: st.DataObject) -> None:
    vocab = pair.ours.vocab_size
    anything = st.integers(0, vocab + 2)  # ids beyond the vocabulary decode to nothing
    pieces = st.one_of(
        anything.map(lambda token: [token]),
        st.text(max_size=4).map(lambda text: pair.ours.encode(text, add_special_tokens=False)),
    )
    ids = [id for piece in data.draw(st.lists(pieces, max_size=20)) for id in piece]
    context = data.draw(st.lists(anything, max_size=3))
    skip = data.draw(st.booleans())
    stream = pair.ours.stream(context, skip)
    shown = [stream.push(id) for id in ids]
    assert "".join(shown) + stream.flush() == pair.ours.decode(ids, skip_special_tokens=skip)


@given(text=st.text(max_size=200) | st.text(alphabet=" \n-=a", max_size=300))
@settings(max_examples=200, deadline=None)
def test_bound_on_tokens(pair: Pair, text: str) -> None:
    assert pair.ours.least_tokens(text) <= len(pair.ours.encode(text, add_special_tokens=False))


def test_bound_leaves_out_what_the_vocabulary_lacks(pair: Pair) -> None:
    every = "".join(map(chr, range(256)))
    assert pair.ours.least_tokens(every) <= len(pair.ours.encode(every, add_special_tokens=False))
    for letter in every:
        assert pair.ours.least_tokens(letter) <= len(pair.ours.encode(letter, add_special_tokens=False))


def test_bound_grows_with_the_text(pair: Pair) -> None:
    assert pair.ours.least_tokens("ab " * 100_000) > 1000


def test_half_an_emoji_is_held_back(pair: Pair) -> None:
    ids = pair.ours.encode("😀", add_special_tokens=False)
    assert len(ids) > 1
    stream = pair.ours.stream([], True)
    assert [stream.push(id) for id in ids] == [""] * (len(ids) - 1) + ["😀"]
    assert stream.flush() == ""
    cut = pair.ours.stream([], True)
    assert "".join(cut.push(id) for id in ids[:-1]) == ""
    assert cut.flush() == "\ufffd"


def fallback_backend() -> Backend:
    """A sentencepiece-like vocabulary, as Llama 2 has it: ▁ for space and byte-fallback tokens."""
    words = ["<unk>", "▁", "▁hello", "▁world", "a", "é", "▁▁", "�"]
    vocab = {token: index for index, token in enumerate(words + [f"<0x{byte:02X}>" for byte in range(256)])}
    backend = Backend(models.BPE(vocab=vocab, merges=[], byte_fallback=True, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    return backend


def fallback_ids(text: str) -> list[int]:
    return [8 + byte for byte in text.encode()]


def test_bytes_of_tokens_that_stand_alone(pair: Pair) -> None:
    """Spaces stay, special tokens are spelled, a byte is a byte, and what there is not has none."""
    ours = Tokenizer(fallback_backend(), eos_ids=(0,), special_tokens={}, chat_template=None)
    found = [ours.token_bytes(id) for id in (0, 2, 5, 8 + 0xE2, 10**6)]
    assert found == [b"<unk>", b" hello", "é".encode(), b"\xe2", b""]
    ids = pair.ours.encode("a 😀 é", add_special_tokens=False)
    assert b"".join(map(pair.ours.token_bytes, ids)).decode() == pair.ours.decode(ids)


@given(
    pieces=st.lists(
        st.one_of(
            st.sampled_from([[1], [2], [3], [4], [5], [6], [7]]),
            st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd").map(fallback_ids),
        ),
        max_size=15,
    )
)
@settings(max_examples=300, deadline=None)
def test_window_stream_equals_decode_on_valid_text(pieces: list[list[int]]) -> None:
    backend = fallback_backend()
    context = [2]
    ids = [id for piece in pieces for id in piece]
    stream = WindowTextStream(backend, context, skip_special_tokens=True)
    shown = "".join(stream.push(id) for id in ids) + stream.flush()
    assert backend.decode(context) + shown == backend.decode(context + ids)


@given(ids=st.lists(st.integers(0, 300), max_size=40))
@settings(max_examples=300, deadline=None)
def test_window_stream_survives_invalid_bytes_and_goes_on(ids: list[int]) -> None:
    stream = WindowTextStream(fallback_backend(), [2], skip_special_tokens=True)
    for id in ids:
        stream.push(id)
    stream.flush()
    assert "".join(map(stream.push, [3, 4, 3])) + stream.flush() == " worlda world"


def test_window_stream_does_not_wait_for_ever_on_invalid_bytes() -> None:
    stream = WindowTextStream(fallback_backend(), [2], skip_special_tokens=True)
    shown = "".join(stream.push(8 + 0xFF) for _ in range(20))
    assert set(shown) == {"\ufffd"}
    assert len(shown + stream.flush()) == 20


def test_eos_ids_come_from_all_files(toy_model: Path, tmp_path: Path) -> None:
    model = shutil.copytree(toy_model, tmp_path / "model")
    (model / "generation_config.json").write_text('{"eos_token_id": [2, 0]}')
    assert Tokenizer.load(ModelFiles("m", "huggingface", model), tmp_path).eos_ids == (0, 2)


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("framed", [True, False])
def test_framing_equals_transformers(toy_model: Path, tmp_path: Path, flag: bool, framed: bool) -> None:
    from transformers import AutoTokenizer

    model = shutil.copytree(toy_model, tmp_path / "model")
    config = json.loads((model / "tokenizer_config.json").read_text()) | {"add_bos_token": flag}
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    if framed:
        backend = Backend.from_file(str(model / "tokenizer.json"))
        backend.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", pair="<|im_start|> $A $B", special_tokens=[("<|im_start|>", 1)]
        )
        backend.save(str(model / "tokenizer.json"))
    ids = Tokenizer.load(ModelFiles("m", "huggingface", model), tmp_path).encode("the fox", add_special_tokens=True)
    assert ids == AutoTokenizer.from_pretrained(model).encode("the fox")
    assert (ids[0] == 1) == framed


def test_a_gguf_file_names_up_to_three_ends(tmp_path: Path) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_eos_token_id(7)
    for name, id in (("eot", 9), ("eom", 8), ("unk", 3)):
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", id)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert _end_ids(tmp_path / "m.gguf") == [7, 8, 9]


@pytest.mark.parametrize("in_file", [True, False])
def test_a_model_may_have_a_template_for_tools(toy_model: Path, tmp_path: Path, in_file: bool) -> None:
    model = shutil.copytree(toy_model, tmp_path / "model")
    templates = {"default": "plain", "tool_use": "tools: {{ tools }}"}
    if in_file:
        (model / "chat_template.jinja").write_text(templates["default"])
        (model / "additional_chat_templates").mkdir()
        (model / "additional_chat_templates" / "tool_use.jinja").write_text(templates["tool_use"])
    else:
        config = json.loads((model / "tokenizer_config.json").read_text())
        config["chat_template"] = [{"name": name, "template": text} for name, text in templates.items()]
        (model / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.load(ModelFiles("m", "huggingface", model), tmp_path)
    assert tokenizer.render_chat(MESSAGES) == "plain"
    assert tokenizer.tool_template is not None
    assert tokenizer.tool_template.render(MESSAGES, tools=[1]) == "tools: [1]"


def test_one_template_serves_for_all_conversations(toy_model: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(ModelFiles("m", "huggingface", toy_model), tmp_path)
    assert tokenizer.tool_template is tokenizer.chat_template


def test_template_file_outranks_configuration(toy_model: Path, tmp_path: Path) -> None:
    model = shutil.copytree(toy_model, tmp_path / "model")
    (model / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0].content }}")
    assert (
        Tokenizer.load(ModelFiles("m", "huggingface", model), tmp_path).render_chat(MESSAGES) == "<|im_start|>Be brief."
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokenizer.json", "{}"),
        ("tokenizer.json", None),
        ("tokenizer_config.json", "{"),
        ("config.json", "[]"),
        ("chat_template.jinja", "{% if %}"),
    ],
)
def test_broken_files_are_named(toy_model: Path, tmp_path: Path, name: str, text: str | None) -> None:
    model = shutil.copytree(toy_model, tmp_path / "model")
    (model / name).unlink(missing_ok=True)
    if text is not None:
        (model / name).write_text(text)
    with pytest.raises(UserError, match=name.partition(".")[0].replace("chat_template", "chat template")):
        Tokenizer.load(ModelFiles("m", "huggingface", model), tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages | tojson(indent=2) }}",
        "{% for m in messages %}\n    {%- if loop.index > 2 %}{% break %}{% endif %}\n  {{ m.content }}\n{% endfor %}",
        "{% generation %}{{ messages[0].content }}{% endgeneration %}",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        "{{ strftime_now('%Y') }}{{ bos_token }}{% if tools %}T{% endif %}{{ flag }}",
    ],
)
def test_template_environment_equals_transformers(source: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    variables = {"bos_token": "<s>", "flag": True}
    [expected], _ = render_jinja_template([MESSAGES], chat_template=source, add_generation_prompt=True, **variables)
    assert ChatTemplate(source, {"bos_token": "<s>"}).render(MESSAGES, flag=True) == expected


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception('no system role') }}", "no system role"),
        ("{{ messages[0].content + 1 }}", "concatenate"),
        ("{{ messages.append(1) }}", "append"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
    ],
)
def test_template_faults_are_values(source: str, reason: str) -> None:
    with pytest.raises(ChatTemplateError, match=reason):
        ChatTemplate(source, {}).render(MESSAGES)


def test_conversion_happens_once_for_several_processes(conversions: list[list[str]], cache: Path) -> None:
    assert [size for size, *_ in conversions] == ["49152"] * 3
    assert sum("transformers" in imported for _, *imported in conversions) == 1
    assert not list((cache / "tokenizers").glob(".new-*"))


def test_loading_from_the_cache_imports_nothing_heavy(cache: Path, toy_model: Path) -> None:
    for model in (str(toy_model), DEFAULT_MODEL):
        size = Tokenizer.load(locate(model, cache), cache).vocab_size
        assert loading(model, cache).communicate(timeout=60)[0].split() == [str(size)]
