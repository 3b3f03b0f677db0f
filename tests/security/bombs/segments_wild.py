"""Templates with gaps that are too many, empty, alike, or bombs themselves."""

from __future__ import annotations

from tests.security.bomb import NATIVE, refused


def gap(name: str, **fields: object) -> dict[str, object]:
    return {"gen": name, **fields}


BAD = (
    ["a", *(part for i in range(300) for part in (gap(f"g{i}"), "x"))],
    ["a", gap("g"), gap("g")],
    ["a", gap("g" * 100)],
    ["a", gap("g", max_tokens=10**12)],
    ["a", gap("g", regex="(a{1000}){1000}")],
    ["a", gap("g", unknown=1)],
    [[]],
    [],
    [None],
    ["a" * 10],
)
attack = refused(NATIVE, *({"segments": segments} for segments in BAD))
