"""Tools that are too many, deep, alike, or have schemas that are bombs."""

from __future__ import annotations

from tests.security.bomb import CHAT, HI, bounded, refused
from tests.security.deployment import Deployment


def tool(name: str, **parameters: object) -> dict[str, object]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


DEEP: dict[str, object] = {"type": "string"}
for _ in range(200):
    DEEP = {"type": "object", "properties": {"a": DEEP}, "required": ["a"]}
TOOLS = (
    [tool(f"f{i}") for i in range(1000)],
    [tool("f"), tool("f")],
    [tool("f" * 1000)],
    [tool("../../etc/passwd")],
    [tool("f", type="string")],
    [{}],
    [None],
    "tools",
)
WILD = ([tool("f", **DEEP)], [tool("f", properties={f"p{i}": {"enum": list(range(900))} for i in range(50)})])


def attack(deployment: Deployment) -> None:
    refused(CHAT, *({**HI, "tools": tools} for tools in TOOLS))(deployment)
    bounded(CHAT, *({**HI, "tools": tools, "tool_choice": "required"} for tools in WILD))(deployment)
