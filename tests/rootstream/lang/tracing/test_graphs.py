"""Dry runs and what is drawn from them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pydantic
import pytest

import rootstream as rs
from rootstream.lang.parts import Text
from rootstream.lang.tracing.prefixes import common_beginning
from tests.rootstream.lang.memory import Memory


class Verdict(pydantic.BaseModel):
    score: int
    why: str


@rs.function
def judge(s: rs.State, essay: str) -> str:
    s += f"Judge this: {essay}\n" + rs.gen("outline", max_tokens=30)
    forks = s.fork(12)
    for number, fork in enumerate(forks):
        fork += f"Point {number}: " + rs.gen("point", max_tokens=10)
    forks.join()
    s += "Score: " + rs.gen("score", dtype=int, max_tokens=4) + rs.gen("verdict", json_schema=Verdict, max_tokens=50)
    assert s["score"] >= 0
    assert s["verdict"].why == ""
    s += " Good: " + rs.select("good", ["yes", "no"])
    return s["good"]


def test_a_dry_run_makes_the_calls_that_the_program_makes() -> None:
    backend = Memory(answers={"score": "3", "verdict": '{"score": 1, "why": ""}'})
    judge.run("x", backend=backend)
    graph = judge.trace("x")
    assert graph.error is None
    assert len(graph) == len(backend.calls)
    assert sorted(node.text for node in graph.nodes) == sorted(
        "".join(part.text if isinstance(part, Text) else f"{{{part.name}}}" for part in call.parts)  # type: ignore[union-attr]
        for call in backend.calls
    )
    assert graph.tokens.generated == 30 + 120 + 54
    [shared] = graph.shared
    assert shared.users == 14
    assert len(graph.children(shared)) == 13
    assert graph.tokens.sent < graph.tokens.whole
    assert len(graph.edges) == len(graph) - 1


def test_it_prints_as_a_tree() -> None:
    told = str(judge.trace("a long essay"))
    first, *rest = told.splitlines()
    assert first.startswith("judge: 15 calls, 16 generations, 13 branches, about")
    assert sum("Point" in line for line in rest) == 5
    assert "… and 7 more like these" in told
    assert any("score, verdict" in line for line in rest)
    assert any("said once, used by 14 calls: Judge this: a long essay" in line for line in rest)


def test_values_go_the_way_of_answers() -> None:
    @rs.function
    def agent(s: rs.State) -> str:
        s += "Go. "
        while True:
            s += rs.gen("step")
            if s["step"] == "stop":
                return "done"

    assert len(agent.trace(answers={"step": ["a", "b", "stop"]})) == 3
    endless = agent.trace()
    assert len(endless) == 1000
    assert endless.error is not None
    assert "answers={name: text}, for step" in endless.error


def test_a_body_that_fails_on_a_placeholder_leaves_a_graph() -> None:
    @rs.function
    def program(s: rs.State) -> int:
        s += "n = " + rs.gen("n")
        return int(s["n"])

    graph = program.trace()
    assert len(graph) == 1
    assert graph.error is not None
    assert "ValueError" in graph.error
    assert program.trace(answers={"n": "4"}).error is None


def test_tools_that_must_be_called_are_called() -> None:
    def weather(city: str, days: int) -> str:
        """The weather."""
        return f"{days} fine days in {city}"

    @rs.function
    def program(s: rs.State) -> str:
        s.tools = [weather]
        s += rs.user("How is it?") + rs.assistant(rs.gen("ask", tool_choice="required"))
        [call] = s.tool_calls("ask")
        s += rs.tool_result(call, weather(**call.arguments))
        s += rs.assistant(rs.gen("answer"))
        return call.name

    graph = program.trace()
    assert graph.error is None
    assert [node.name for node in graph.nodes] == ["ask", "answer"]


def test_a_backend_counts_tokens() -> None:
    class Counting(Memory):
        async def count_tokens(self, text: str) -> int:
            return len(text.split())

    @rs.function
    def program(s: rs.State) -> None:
        s += "one two three" + rs.gen("x", max_tokens=2)

    backend = Counting()
    graph = program.trace(backend=backend)
    assert graph.tokens == (3, 3, 2, True)
    assert "3 tokens sent" in str(graph)
    assert "about" not in str(graph)
    assert not backend.calls
    assert backend.closed == 1


async def test_in_a_loop_it_is_awaited() -> None:
    with pytest.raises(RuntimeError, match=r"await judge\.atrace"):
        judge.trace("x")
    assert len(await judge.atrace("x")) == 15


HOSTILE = '"];\n</code><script>alert(1)</script>\\" -->'


def hostile() -> rs.Graph:
    @rs.function
    def program(s: rs.State) -> None:
        s += HOSTILE + rs.gen(HOSTILE)
        s += HOSTILE + rs.gen("b")

    return program.trace()


def test_drawings_are_escaped() -> None:
    graph = hostile()
    assert "<script>" not in graph._repr_html_()
    assert "<script>" not in graph.mermaid()
    labels = [line for line in graph.mermaid().splitlines()[1:] if "[" in line]
    assert all(line.count('"') == 2 for line in labels)


@pytest.mark.skipif(shutil.which("dot") is None, reason="no Graphviz here")
def test_graphviz_reads_it() -> None:
    for graph in (hostile(), judge.trace("x")):
        subprocess.run(["dot", "-Tsvg"], input=graph.dot().encode(), check=True, capture_output=True)


def test_dot_names_each_node_and_edge() -> None:
    dot = judge.trace("x").dot()
    assert dot.count(" -> ") == 14
    assert dot.count("[label=") == 15


@pytest.mark.parametrize(
    ("several", "common"),
    [
        ([["ab", "c"], ["abd"]], ["ab"]),
        ([["ab"], ["ab"]], ["ab"]),
        ([["x"], ["y"]], []),
        ([[]], []),
    ],
)
def test_common_beginnings(several: list[list[str]], common: list[str]) -> None:
    assert list(common_beginning([[Text(text) for text in texts] for texts in several])) == [
        Text(text) for text in common
    ]


def test_conversations_share_whole_messages_and_the_beginning_of_the_next() -> None:
    def said(question: str) -> Any:
        return tuple(rs.system("Be brief.") + rs.user(f"Question: {question}") + rs.assistant(rs.gen("a")))

    common = common_beginning([said("why"), said("how")])
    assert common == (*rs.system("Be brief."), *tuple(rs.user("x"))[:1], Text("Question: "))


def test_the_document_prints_what_is_printed() -> None:
    document = (Path(__file__).parents[4] / "docs" / "maps.md").read_text()
    names: dict[str, Any] = {"rs": rs, "print": lambda graph: printed.append(str(graph))}
    printed: list[str] = []
    code = next(block for block in re.findall(r"```python\n(.*?)```", document, re.DOTALL) if "def tips" in block)
    exec(compile(code, "maps.md", "exec", dont_inherit=True), names)
    assert f"```\n{printed[0]}\n```" in document
