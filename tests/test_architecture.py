"""The import rules of docs/architecture.md, read off the syntax trees."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SERVICES = ("tokenizer_svc", "scheduler_svc", "gpu_worker", "detokenizer_svc")
PACKAGES = (*SERVICES, "shared", "rootstream")
MAY_IMPORT = {service: {service, "shared"} for service in SERVICES} | {
    "shared": {"shared"},
    "rootstream": {"rootstream", "shared"},
}


def sources(package: str) -> Iterator[Path]:
    yield from sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module the file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str) -> None:
    for path in sources(package):
        foreign = (roots(path) & set(PACKAGES)) - MAY_IMPORT[package]
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def test_torch_stays_in_the_worker() -> None:
    for package in set(PACKAGES) - {"gpu_worker"}:
        for path in sources(package):
            assert "torch" not in roots(path), path.relative_to(ROOT)


def test_triton_stays_in_the_kernels() -> None:
    for package in PACKAGES:
        for path in sources(package):
            if path.parent.name != "kernels":
                assert "triton" not in roots(path), path.relative_to(ROOT)


def test_only_one_module_knows_opentelemetry() -> None:
    for package in PACKAGES:
        for path in sources(package):
            assert ("opentelemetry" in roots(path)) == (path == ROOT / "shared" / "otel.py"), path.relative_to(ROOT)


@pytest.mark.parametrize("service", SERVICES)
def test_only_service_modules_touch_the_bus(service: str) -> None:
    for path in sources(service):
        if path.name != "service.py":
            assert "shared.bus" not in imports(path), path.relative_to(ROOT)
            assert "redis" not in roots(path), path.relative_to(ROOT)


def test_only_config_reads_the_environment() -> None:
    for package in PACKAGES:
        for path in sources(package):
            if path == ROOT / "shared" / "config.py":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                reads = isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
                assert not reads, f"{path.relative_to(ROOT)} reads the environment"


def test_a_wheel_has_every_package() -> None:
    """The list in pyproject.toml is written by hand; an editable install does not need it."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(path.parent.relative_to(ROOT).parts) for package in PACKAGES for path in (ROOT / package).rglob("*.py")
    }
    assert sorted(named) == sorted(found)
