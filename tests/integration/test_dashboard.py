"""The dashboard and the alerts ask for numbers that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from tests.stack import running

FOLDER = Path(__file__).parents[2] / "docker" / "observe"
NAME = re.compile(r"rootstream_[a-z0-9_]+")


def asked() -> dict[str, str]:
    """Names in expressions, and where."""
    dashboard = json.loads((FOLDER / "grafana" / "dashboards" / "rootstream.json").read_text())
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    expressions = [
        (panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", ())
    ]
    expressions += [(rule["alert"], rule["expr"]) for group in groups for rule in group["rules"]]
    return {name: where for where, expression in expressions for name in NAME.findall(expression)}


async def test_every_number_asked_for_is_there(
    redis_url: str, namespace: str, toy_model: Path, cache_dir: Path
) -> None:
    async with running(redis_url, namespace, toy_model, cache_dir) as stack:
        await stack.generate([1, 2, 3], max_tokens=2)
        for context in stack.contexts.values():
            await context.beat()
        async with stack.http.get(f"{stack.url}/metrics") as response:
            text = await response.text()
        assert await stack.metric("rootstream_http_ready") == 1
    told = {line.partition("{")[0].partition(" ")[0] for line in text.splitlines()}
    told |= {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}  # those without samples yet
    missing = {name: where for name, where in asked().items() if name not in told}
    assert not missing
    assert len(asked()) > 30


def test_panels_do_not_overlap() -> None:
    panels = json.loads((FOLDER / "grafana" / "dashboards" / "rootstream.json").read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for at in (panel["gridPos"] for panel in panels):
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
