"""Traces of all four processes at a collector: who is whose child, what is told, and that there are none unasked."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client import CollectorRegistry

from shared import tracing
from shared.config import Settings, trace_target
from shared.errors import UserError
from tests.stack import running

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET = "zebra"
ASKED = {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 6, "temperature": 0, "ignore_eos": True}


class Collector:
    """An OTLP/HTTP collector that keeps what it is told."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, Any]] = []  # service, replica, span
        self.raw = b""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.raw += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            told = values(resource.resource.attributes)
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append((told["service.name"], told["service.instance.id"], span))
        return web.Response(content_type="application/x-protobuf")


def values(attributes: Iterable[Any]) -> dict[str, Any]:
    def value(any_value: Any) -> Any:
        kind = any_value.WhichOneof("value")
        found = getattr(any_value, kind)
        return [value(each) for each in found.values] if kind == "array_value" else found

    return {attribute.key: value(attribute.value) for attribute in attributes}


@contextlib.asynccontextmanager
async def collecting() -> AsyncIterator[tuple[Collector, str]]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield collector, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_one_request_is_one_tree_over_four_processes(
    redis_url: str, namespace: str, toy_model: Path, cache_dir: Path
) -> None:
    async with (
        collecting() as (collector, endpoint),
        running(
            redis_url,
            namespace,
            toy_model,
            cache_dir,
            otel_endpoint=endpoint,
            served_model_name=("toy-llama", "second-name"),
        ) as stack,
    ):
        for flags in ("01", "00"):
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-{flags}"}
            body = ASKED | {"n": 2, "regex": "[a-z]{200}"} if flags == "01" else ASKED
            async with stack.http.post(f"{stack.url}/v1/chat/completions", json=body, headers=headers) as response:
                assert response.status == 200, await response.text()
                answer = await response.json()
                if flags == "01":
                    usage = answer["usage"]
        async with stack.http.post(
            f"{stack.url}/v1/completions",
            json={"prompt": "a", "resumable": True, "stream": True, "max_tokens": 2},
        ) as response:
            assert "[DONE]" in await response.text()
        async with stack.http.post(f"{stack.url}/v1/completions", json={"prompt": 3.5}) as response:
            assert response.status == 400
        for model, status in (("second-name", 200), ("nobody", 404)):
            body = {"model": model, "prompt": "a", "max_tokens": 1}
            async with stack.http.post(f"{stack.url}/v1/completions", json=body) as response:
                assert response.status == status
        for path in ("/v1/streams/cmpl-00000000000000ff", "/health", "/ready", "/metrics", "/"):
            async with stack.http.get(f"{stack.url}{path}") as response:
                assert response.status in (200, 404), path
    traced = [(service, span) for service, _, span in collector.spans if span.trace_id.hex() == TRACE]
    [(service, root)] = [(service, span) for service, span in traced if span.parent_span_id.hex() == PARENT]
    assert (service, root.name, root.kind) == ("rootstream-tokenizer", "chat toy-llama", 2)
    others = [(service, span) for service, span in traced if span is not root]
    assert {span.parent_span_id for _, span in others} == {root.span_id}, "the request's own span is their parent"
    found = sorted((service.removeprefix("rootstream-"), span.name) for service, span in others)
    assert found == [
        *[("detokenizer", "detokenizer.detokenise")] * 2,
        *[("scheduler", "scheduler.prefill")] * 2,
        *[("scheduler", "scheduler.queue")] * 2,
        *[("tokenizer", f"door.{part}") for part in ("announce", "grammar", "stream", "tokenise", "wait")],
        *[("worker", "worker.decode")] * 2,
        *[("worker", "worker.prefill")] * 2,
    ]
    assert all(root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano for _, span in traced)
    told = values(root.attributes)
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.request.model"] == "toy-llama"
    assert told["gen_ai.request.max_tokens"] == 6
    assert told["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert told["gen_ai.usage.output_tokens"] == usage["completion_tokens"] == 12
    assert told["gen_ai.response.finish_reasons"] == ["length", "length"]
    assert 0 < told["gen_ai.latency.time_to_first_token"] < told["gen_ai.latency.e2e"]
    decodes = [values(span.attributes) for _, span in others if span.name == "worker.decode"]
    assert [decode["rootstream.output_tokens"] for decode in decodes] == [6, 6]
    assert len({decode["rootstream.request.id"] for decode in decodes}) == 2
    assert SECRET.encode() not in collector.raw, "no word of the prompt"
    untold = [span for _, _, span in collector.spans if span.trace_id.hex() != TRACE]
    roots = {span.trace_id: span for span in untold if not span.parent_span_id}
    assert [(span.name, values(span.attributes).get("error.type", "")) for span in roots.values()] == [
        ("text_completion toy-llama", ""),
        ("text_completion", "400"),
        ("text_completion second-name", ""),
        ("text_completion", "404"),
        ("GET /v1/streams/{id}", "404"),
    ], "all but probes, scrapes and pages; a name that is not served is nobody's span"
    models = [values(span.attributes).get("gen_ai.request.model") for span in roots.values()]
    assert models == ["toy-llama", None, "second-name", "nobody", None]
    resumed = next(iter(roots))
    names = {span.name for span in untold if span.trace_id == resumed}
    assert {"worker.decode", "detokenizer.detokenise", "door.stream"} <= names, "also of what is kept"


def test_the_environment_says_where_traces_go() -> None:
    def url(environment: dict[str, str], endpoint: str | None = None) -> str | None:
        target = trace_target(Settings(otel_endpoint=endpoint), environment)
        return target and target.url

    base = "OTEL_EXPORTER_OTLP_ENDPOINT"
    assert url({}) is None
    assert url({base: "http://c:4318/"}) == "http://c:4318/v1/traces"
    assert url({base: "http://c:4318", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/x"}) == "http://t/x"
    assert url({base: "http://c:4318"}, "http://own") == "http://own/v1/traces"
    assert url({base: "http://c:4318", "OTEL_SDK_DISABLED": "true"}, "http://own") is None
    assert url({base: "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}) is None


def test_without_the_packages_a_setting_is_refused_and_the_environment_is_not_obeyed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"rootstream\[otel\]"):
        tracing.start(Settings(otel_endpoint="http://c"), "worker", "0", CollectorRegistry())
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c")
    assert tracing.start(Settings(), "worker", "0", CollectorRegistry()) is None


def test_where_traces_are_off_nothing_of_them_is_imported() -> None:
    code = (
        "import sys, tokenizer_svc.service, scheduler_svc.service, detokenizer_svc.service, gpu_worker.tracing\n"
        "from shared.service import Context; from shared.config import Settings\n"
        "assert Context('scheduler', Settings(), None).tracing is None\n"
        "mine = ('shared.otel', 'opentelemetry.exporter', 'opentelemetry.sdk.trace', 'google.protobuf')\n"
        "assert not [name for name in sys.modules if name.startswith(mine)]"  # redis looks for metrics by itself
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
