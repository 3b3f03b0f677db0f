"""The command line: help, where settings come from, errors."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rootstream import cli, launch, settings_table
from rootstream.chat import session
from shared.config import Settings
from shared.errors import UserError


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What the launcher would have been started with."""
    seen: list[Settings] = []

    def serve(settings: Settings) -> int:
        seen.append(settings)
        return 0

    monkeypatch.setattr(launch, "serve", serve)
    return seen


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_flags_outrank_the_environment_which_outranks_the_file(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("page_size: 1\nport: 1001\nlease: 3\nradix_cache: false\n")
    monkeypatch.setenv("ROOTSTREAM_PORT", "1002")
    monkeypatch.setenv("ROOTSTREAM_LEASE", "4")
    assert run("serve", "some/model", "--config", str(file), "--lease", "5", "--max-running", "7") == 0
    assert served == [Settings(model="some/model", page_size=1, port=1002, lease=5, radix_cache=False, max_running=7)]


@pytest.mark.parametrize("words", [["--config=F"], ["--config", "F"]])
def test_toml_and_both_ways_to_name_it(served: list[Settings], tmp_path: Path, words: list[str]) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('model = "a/b"\nkv_memory = "1GiB"\n')
    assert run("serve", *(word.replace("F", str(file)) for word in words)) == 0
    assert served == [Settings(model="a/b", kv_memory="1GiB")]


def test_a_file_named_by_the_environment(
    served: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.toml").write_text("lease = 2\n")
    monkeypatch.setenv("ROOTSTREAM_CONFIG", str(tmp_path / "s.toml"))
    assert run("serve", "--no-radix-cache") == 0
    assert served == [Settings(lease=2, radix_cache=False)]


def test_the_default_model(served: list[Settings]) -> None:
    assert run("serve") == 0
    assert served == [Settings()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serve", "--page-size", "0"], "--page-size"),
        (["serve", "--dtype", "int3"], "--dtype"),
        (["serve", "--pagesize", "4"], "--page-size"),
        (["serve", "--config", "/nonexistent.yaml"], "/nonexistent.yaml"),
        (["serve", "--config", "/etc/hosts"], ".toml"),
        (["bench", "nonsense"], "shared-prefix"),
        (["chat", "--temperature", "-1"], "--temperature"),
        (["nonsense"], "nonsense"),
    ],
)
def test_mistakes_are_explained(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    output = capsys.readouterr()
    assert message in output.out + output.err


def test_an_unknown_key_in_the_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.yaml").write_text("page_siz: 3\n")
    assert run("serve", "--config", str(tmp_path / "s.yaml")) == 2
    assert "page_siz" in capsys.readouterr().err


def test_user_errors_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def serve(settings: Settings) -> int:
        raise UserError(f"no {settings.model}: take another")

    monkeypatch.setattr(launch, "serve", serve)
    assert run("serve", "it") == 2
    assert capsys.readouterr().err == "rootstream: no it: take another\n"


def test_every_setting_has_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run("serve", "--help") == 0
    text = capsys.readouterr().out
    for flag in ("--host", "--port", "--page-size", "--kv-memory", "--no-radix-cache", "--tokenizers", "--redis"):
        assert flag in text


def test_the_command_line_imports_nothing_heavy() -> None:
    script = (
        "import sys; from rootstream import cli; cli.application(); import rootstream.launch, rootstream.doctor.report;"
        "import rootstream.batch.run, rootstream.chat.session\n"
        "heavy = {'torch', 'transformers', 'numba', 'huggingface_hub'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_help_needs_only_the_command_line() -> None:
    script = (
        "import sys; from rootstream import cli; cli.application()(['--help'], result_action='return_value')\n"
        "late = {'redis', 'aiohttp', 'numpy', 'msgspec'} & set(sys.modules); sys.exit(str(late) if late else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, stdout=subprocess.DEVNULL)


def test_the_table_of_settings_is_current() -> None:
    file = Path(__file__).parents[2] / "docs" / "settings.md"
    assert file.read_text() == settings_table.page(), "run: python -m rootstream.settings_table > docs/settings.md"


def test_every_setting_is_in_the_table() -> None:
    page = settings_table.page()
    for field in dataclasses.fields(Settings):
        hidden = field.name in {"parent", "pulse_file"}
        assert (f"`ROOTSTREAM_{field.name.upper()}`" in page) is not hidden, field.name
    assert "ROOTSTREAM_RUN_BATCH_CONCURRENCY" in page
    assert "ROOTSTREAM_CHAT_MODEL" in page


def test_no_two_options_of_a_command_share_a_variable() -> None:
    app = cli.application()
    for command in ("serve", "chat", "bench", "run-batch", "doctor"):
        names = [option.variable for option in settings_table.options(app, command)]
        assert len(set(names)) == len(names), command


@pytest.fixture
def chatted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What a chat would have been started with."""
    seen: list[tuple[Any, ...]] = []

    def run(*arguments: Any) -> int:
        seen.append(arguments)
        return 0

    monkeypatch.setattr(session, "run", run)
    return seen


def test_a_commands_own_options_have_a_section_and_a_prefix(
    chatted: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("model: the/servers\npage_size: 4\nchat:\n  temperature: 0.5\n  seed: 1\n  model: a\n")
    monkeypatch.setenv("ROOTSTREAM_CONFIG", str(file))
    monkeypatch.setenv("ROOTSTREAM_MODEL", "another/servers")
    monkeypatch.setenv("ROOTSTREAM_CHAT_SEED", "2")
    monkeypatch.setenv("ROOTSTREAM_URL", "http://there:1")
    (tmp_path / "key").write_text("secret\n")
    monkeypatch.setenv("ROOTSTREAM_CHAT_API_KEY_FILE", str(tmp_path / "key"))
    assert run("chat", "--max-tokens", "3") == 0
    [(server, system, options, prompt)] = chatted
    assert server == session.Server("http://there:1", "secret")
    assert (system, prompt) == (None, None)
    assert options == {"model": "a", "temperature": 0.5, "seed": 2, "max_tokens": 3}


def test_a_file_may_have_sections_of_all_commands(served: list[Settings], tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("page_size: 4\nlease:\nchat:\n  seed: 1\nrun-batch:\n  concurrency: 3\nserve:\n  port: 1001\n")
    assert run("serve", "--config", str(file)) == 0
    assert served == [Settings(page_size=4, port=1001)]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("s.yaml", "page_size: [1", "s.yaml is no YAML"),
        ("s.toml", "page_size = ", "s.toml is no TOML"),
        ("s.yaml", "- 1", "must hold settings"),
        ("s.yaml", "serve: 3", "must be a section"),
        ("s.yaml", "page_size: many", "s.yaml"),
        ("s.json", "{}", "must end in"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_name(
    name: str, text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    (tmp_path / name).write_text(text)
    assert run("serve", "--config", str(tmp_path / name)) in {1, 2}
    shown = capsys.readouterr().err
    assert said in shown
    assert name in shown


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ROOTSTREAM_PAGE_SIZE", "many")
    assert run("serve") in {1, 2}
    assert "ROOTSTREAM_PAGE_SIZE" in capsys.readouterr().err


def test_a_broken_file_does_not_keep_help_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("[")
    monkeypatch.setenv("ROOTSTREAM_CONFIG", str(tmp_path / "s.yaml"))
    assert run("--help") == 0


def test_a_batch_towards_a_server_takes_no_settings_of_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROOTSTREAM_MODEL", "some/model")
    words = ("run-batch", "-i", "/nonexistent", "-o", "/nonexistent.out", "--url", "http://127.0.0.1:9")
    assert run(*words, "--page-size", "3") == 2
    assert "--page-size would change nothing" in capsys.readouterr().err
    assert run(*words) == 2
    assert "/nonexistent cannot be read" in capsys.readouterr().err
