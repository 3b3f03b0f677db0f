"""docs/settings.md: every option of every command, with its environment variable and its key in a file.

Made from what the command line itself is made of: `python -m rootstream.settings_table > docs/settings.md`. Knows no
option by name.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cyclopts import App, Argument

from shared.config import ENV_PREFIX, Settings
from shared.sources import SETTINGS, variable

_INTRODUCTION = """# Settings

Made by `python -m rootstream.settings_table` from the definitions themselves; a test keeps it current.

Every option is also an environment variable and a key of a YAML or TOML file, which `--config` or `ROOTSTREAM_CONFIG`
names. **Flags outrank the environment, the environment outranks the file, the file outranks the default.** A bad
value is refused with the name of the flag, the variable or the file that it comes from.

In a file, settings of a server stand at the top, and options of a command alone in a section of its name:

```yaml
model: Qwen/Qwen3-0.6B
page_size: 16
radix_cache: true
api_keys_file: /run/secrets/keys
chat:
  temperature: 0.7
run-batch:
  concurrency: 64
```

In the environment, yes and no are `true` and `false`. Secrets need not be in either: `--api-keys-file`,
`--admin-key-file`, `--redis-password-file` and, for clients, `--api-key-file` name files that hold them.
"""


class Option(NamedTuple):
    """One option of a command."""

    group: str
    flags: str
    variable: str
    key: str
    default: str
    text: str
    of_server: bool
    is_shown: bool


def page() -> str:
    """The whole document."""
    app = _application()
    parts = [_INTRODUCTION, "\n## Settings of a server\n\nFor `serve`, `run-batch` without `--url`, and `doctor`.\n"]
    settings = [option for option in options(app, SETTINGS) if option.of_server and option.is_shown]
    parts += [
        f"\n### {group}\n\n{_table([option for option in settings if option.group == group])}"
        for group in dict.fromkeys(option.group for option in settings)
    ]
    for command in _commands(app):
        own = [option for option in options(app, command) if not option.of_server and option.is_shown]
        if command != SETTINGS and own:
            parts.append(f"\n## `rootstream {command}`\n\n{_table(own)}")
    return "".join(parts)


def variables() -> set[str]:
    """The names of all environment variables that mean something."""
    app = _application()
    return {option.variable for command in _commands(app) for option in options(app, command) if option.variable} | {
        ENV_PREFIX + "CONFIG"
    }


def _application() -> App:
    from rootstream.cli import application  # which imports this module's readers, when they run

    return application()


def _commands(app: App) -> list[str]:
    return [name for name in app if not name.startswith("-")]


def options(app: App, command: str) -> Iterator[Option]:
    """The options of a command, except the one that names a file of them."""
    docs = _documented()
    settings = {f"--{name.replace('_', '-')}" for name in docs}
    for argument in app[command].assemble_argument_collection():
        long = [name for name in argument.names if name.startswith("--")]
        if not long or argument.name == "--config" or argument.children:
            continue
        key = long[0].removeprefix("--").replace("-", "_")
        of_server = long[0] in settings and argument.parameter.help is None
        explicit = argument.parameter.env_var
        named = explicit[0] if isinstance(explicit, tuple) and explicit else ""
        yield Option(
            group=_group(argument),
            flags=", ".join(f"`{name}`" for name in argument.names),
            variable=named or variable(SETTINGS if of_server else command, key),
            key=key,
            default=_default(argument),
            text=docs[key] if of_server else str(argument.parameter.help or ""),
            of_server=of_server,
            is_shown=bool(argument.show),
        )


def _group(argument: Argument) -> str:
    groups = argument.parameter.group
    group = groups[0] if isinstance(groups, tuple) else groups
    return str(getattr(group, "name", group))


def _default(argument: Argument) -> str:
    value: Any = argument.field_info.default
    if argument.required:
        return "needed"
    if value is None or value == () or value is inspect.Parameter.empty:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{value.as_posix() if isinstance(value, Path) else value}`"


def _documented() -> dict[str, str]:
    """The sentences under each field of the settings."""
    [definition] = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            assert isinstance(text.value, ast.Constant)
            found[field.target.id] = inspect.cleandoc(str(text.value.value))
    return found


def _table(shown: list[Option]) -> str:
    lines = ["| flag | variable | key | default | |", "|---|---|---|---|---|"]
    for option in shown:
        text = " ".join(option.text.split()).replace("|", "\\|")
        lines.append(f"| {option.flags} | `{option.variable}` | `{option.key}` | {option.default} | {text} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
