"""Versions: ours, Python's, and those of the packages, beside what the lock file has. Imports none of them."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from rootstream import __version__
from rootstream.doctor.finding import Finding, State

_SHOWN = ("torch", "transformers", "tokenizers", "aiohttp", "redis", "uvloop", "numba", "triton")
_OPTIONAL = frozenset({"triton"})
_LOCK = Path(__file__).parents[2] / "requirements.lock"
_MOST_SHOWN = 6
_INSTALL = "install rootstream again: pip install -c requirements.lock ."


def look(lock: Path = _LOCK) -> Iterator[Finding]:
    yield Finding("rootstream", __version__)
    yield Finding("Python", f"{platform.python_version()} ({sys.executable})")
    yield Finding("system", f"{platform.system()} {platform.release()} {platform.machine()}")
    for name in _SHOWN:
        version = _version(name)
        if version is not None:
            yield Finding(name, version + _build(name, version))
        elif name in _OPTIONAL:
            yield Finding(name, "not installed: only GPUs need it")
        else:
            yield Finding(name, "not installed", State.PROBLEM, _INSTALL)
    if lock.is_file():
        yield _beside(read_lock(lock.read_text()))


def read_lock(text: str) -> Mapping[str, str]:
    """Package to version, of a file with a `name==version` on each line."""
    pinned: dict[str, str] = {}
    for line in text.splitlines():
        name, equal, version = line.partition("#")[0].partition(";")[0].strip().partition("==")
        if equal:
            pinned[name.strip()] = version.strip()
    return pinned


def _beside(pinned: Mapping[str, str]) -> Finding:
    """Only what is installed counts: the lock has extras, too."""
    installed = {name: version for name in pinned if (version := _version(name)) is not None}
    other = [
        f"{name} {version} (there: {pinned[name]})"
        for name, version in installed.items()
        if _public(version) != _public(pinned[name])
    ]
    if not other:
        return Finding("lock", f"{len(installed)} packages are as requirements.lock has them")
    shown = ", ".join(other[:_MOST_SHOWN]) + (
        f" and {len(other) - _MOST_SHOWN} more" if len(other) > _MOST_SHOWN else ""
    )
    return Finding(
        "lock",
        f"{len(other)} of {len(installed)} packages are not those of requirements.lock: {shown}",
        State.WARNING,
        "only those versions are tested: pip install -c requirements.lock .",
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _public(version: str) -> str:
    """Without the build: 2.11.0+cpu is 2.11.0."""
    return version.partition("+")[0]


def _build(name: str, version: str) -> str:
    if name != "torch":
        return ""
    build = version.partition("+")[2]
    return " (a build for CPUs)" if build == "cpu" else f" (a build for {build})" if build else ""
