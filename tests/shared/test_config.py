"""One definition of settings: flags, environment and files agree."""

from __future__ import annotations

from pathlib import Path

import pytest
from cyclopts import App
from hypothesis import given
from hypothesis import strategies as st

from shared.config import Settings, parse_bytes, to_environment, without_settings
from shared.sources import settings_sources


def parse(*words: str) -> Settings:
    app = App(config=settings_sources(), result_action="return_value")

    @app.default
    def run(settings: Settings = Settings()) -> Settings:
        return settings

    result = app(words, exit_on_error=False, print_error=False)
    assert isinstance(result, Settings)
    return result


def test_flags_set_fields() -> None:
    settings = parse("--page-size", "1", "--no-radix-cache", "--policy", "fcfs", "--tool-format", "llama3-json")
    assert (settings.page_size, settings.radix_cache, settings.policy) == (1, False, "fcfs")
    assert settings.tool_format == "llama3-json"


def test_the_environment_sets_the_same_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOTSTREAM_PAGE_SIZE", "4")
    assert parse().page_size == 4
    assert parse("--page-size", "8").page_size == 8


@pytest.mark.parametrize(
    ("name", "text"), [("c.yaml", "page_size: 2\nlease: 3\n"), ("c.toml", "page_size = 2\nlease = 3\n")]
)
def test_a_file_sets_the_same_fields(name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / name
    file.write_text(text)
    monkeypatch.setenv("ROOTSTREAM_CONFIG", str(file))
    settings = parse("--lease", "9")
    assert (settings.page_size, settings.lease) == (2, 9)


def test_a_child_reads_back_exactly_its_parents_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = Settings(page_size=1, radix_cache=False, kv_memory="64MiB", model="/a b/c", cache_dir=Path("/x"), parent=7)
    for name, value in to_environment(parent).items():
        monkeypatch.setenv(name, value)
    assert parse() == parent


def test_the_environment_without_settings() -> None:
    assert without_settings({"ROOTSTREAM_PORT": "1", "HOME": "/h"}) == {"HOME": "/h"}


@pytest.mark.parametrize("words", [("--page-size", "0"), ("--port", "70000"), ("--policy", "best"), ("--lease", "x")])
def test_bad_values_are_refused(words: tuple[str, str]) -> None:
    with pytest.raises(Exception, match=words[0]):
        parse(*words)


@pytest.mark.parametrize(
    ("text", "value"),
    [("2GiB", 2**31), ("512 MiB", 2**29), ("1.5G", 3 * 2**29), ("100", 100), ("1kb", 1024), ("7B", 7)],
)
def test_sizes(text: str, value: int) -> None:
    assert parse_bytes(text) == value


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_a_clear_refusal(text: str) -> None:
    try:
        size = parse_bytes(text)
    except ValueError as error:
        size = 1
        refusal = str(error)
        assert "size" in refusal
    assert 1 <= size <= 2**60
