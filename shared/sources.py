"""Where settings come from besides flags: the environment, then a file. Every command has the same rules.

Settings of a server are `ROOTSTREAM_<SETTING>` in the environment and keys at the top of a file. What belongs to a
command alone is `ROOTSTREAM_<COMMAND>_<OPTION>`, and a key in a section of the command's name. Whoever reads a file is
told which file, and where in it, something is wrong.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cyclopts
from cyclopts import App, ArgumentCollection

from shared.config import ENV_PREFIX, named_config
from shared.errors import UserError

COMMANDS = ("serve", "chat", "bench", "run-batch", "doctor")
"""Which may have a section in a file."""

SETTINGS = "serve"
"""The command whose options are the settings of a server."""


def settings_sources(file: Path | None = None, command: str = SETTINGS, *, with_settings: bool = True) -> list[Any]:
    """The sources of a command's options, strongest first; ``with_settings``: the settings of a server are among them.

    ROOTSTREAM_CONFIG names the file where no flag does. It is read when a command line is: UserError comes from there.
    """
    sources: list[Any] = []
    if command != SETTINGS:
        sources.append(cyclopts.config.Env(variable(command, ""), command=False))
    if with_settings:
        sources.append(cyclopts.config.Env(ENV_PREFIX, command=False))
    if (path := file or named_config()) is not None:
        sources.append(_File(path, command, with_settings))
    return sources


class _File(NamedTuple):
    """A source for cyclopts: what a file says to a command."""

    path: Path
    command: str
    with_settings: bool

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        document = read(self.path)
        section = document.get(self.command) or {}
        if not isinstance(section, dict):
            raise UserError(f"{self.path}: {self.command} must be a section with options, not {section!r}")
        top = {key: value for key, value in document.items() if key not in COMMANDS}
        for found in (section, top if self.with_settings else {}):
            given = {key: value for key, value in found.items() if value is not None}
            if given:
                fill = cyclopts.config.Dict(given, source=str(self.path), use_commands_as_keys=False)
                fill(app, commands, arguments)


def variable(command: str, option: str) -> str:
    """The environment variable of a command's own option."""
    prefix = ENV_PREFIX if command == SETTINGS else f"{ENV_PREFIX}{command.upper().replace('-', '_')}_"
    return prefix + option.upper().replace("-", "_")


def read(path: Path) -> Mapping[str, Any]:
    """What a YAML or TOML file holds. Raises UserError."""
    path = path.expanduser()
    if path.suffix not in {".toml", ".yaml", ".yml"}:
        raise UserError(f"{path}: must end in .yaml, .yml or .toml")
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8") from None
    found = _toml(path, text) if path.suffix == ".toml" else _yaml(path, text)
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise UserError(f"{path} must hold settings, such as `page_size: 16`")
    return found


def _toml(path: Path, text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is no TOML: {error}") from None


def _yaml(path: Path, text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        said = " ".join(str(error).replace("<unicode string>", path.name).split())
        raise UserError(f"{path} is no YAML: {said}") from None
