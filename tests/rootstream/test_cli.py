"""The command line: help, where settings come from, errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rootstream import cli, launch
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
        "import sys; from rootstream import cli; cli.application(); import rootstream.launch, rootstream.doctor\n"
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
