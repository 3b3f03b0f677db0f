"""SECURITY.md claims nothing without a test, and no test that is not there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "SECURITY.md").read_text()


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


def claims() -> list[list[str]]:
    """The cells of all lines of tables about threats."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("|")]
    return [row for row in rows if len(row) == 3 and row[0] not in {"threat", "---"}]


def test_every_claim_names_tests_that_exist() -> None:
    rows = claims()
    assert len(rows) > 25
    for threat, _, cell in rows:
        file: Path | None = None
        named = re.findall(r"`([^`]+)`", cell)
        assert named, f"{threat}: no test"
        for name in named:
            path, _, function = name.partition("::")
            file = ROOT / path if path else file
            assert file is not None, name
            assert file.is_file(), name
            assert not function or function in functions(file), f"{threat}: {name}"
