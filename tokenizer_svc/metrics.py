"""What the front door counts and times."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.metrics import MICROS, SECONDS


class Metrics:
    """Counters and histograms of one front door."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
            return Histogram(f"rootstream_http_{name}", text, registry=registry, buckets=buckets)

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"rootstream_http_{name}", text, labels, registry=registry)

        self.requests = counter("requests", "HTTP requests by route and status.", ("route", "status"))
        self.finished = counter("finished", "Generated sequences by how they ended.", ("reason",))
        self.prompt_tokens = counter("prompt_tokens", "Prompt tokens of accepted requests.")
        self.generated_tokens = counter("generated_tokens", "Tokens received from detokenizers.")
        self.forced_tokens = counter("forced_tokens", "Of these, tokens about which a grammar left no choice.")
        self.disconnects = counter("disconnects", "Clients that left before their answer was complete.")
        self.cut_off = counter("cut_off", "Clients that were cut off because they did not read.")
        self.constrained = counter(
            "constrained_requests", "Grammars that accepted requests asked for, by kind.", ("kind",)
        )
        self.compiles = counter(
            "grammar_compiles", "Grammars compiled, by kind and by what became of them.", ("kind", "outcome")
        )
        self.grammar_hits = counter(
            "grammar_hits", "Grammars that needed no compile, by where they were found.", ("where",)
        )
        self.contexts = counter("contexts", "Contexts that were kept.")
        self.context_bytes = counter("context_bytes", "What they took when they were written.")
        self.contexts_dropped = counter(
            "contexts_dropped", "Contexts that were dropped because of their tenants' bound."
        )
        self.open = Gauge("rootstream_http_sequences", "Sequences under way in this process.", registry=registry)
        self.ready = Gauge(
            "rootstream_http_ready", "Whether requests can be served, as /ready says.", registry=registry
        )
        self.unread = Gauge("rootstream_http_unread_bytes", "What waits for clients to read it.", registry=registry)
        self.ttft = histogram("ttft_seconds", "From the request's arrival to its first token.")
        self.itl = histogram("inter_token_seconds", "Between tokens of one sequence.")
        self.e2e = histogram("e2e_seconds", "From the request's arrival to the end of its answer.")
        self.admission = histogram("admission_seconds", "From announcing a request to word from the scheduler.")
        self.tokenise = histogram("tokenise_seconds", "Chat template and tokenisation of one request.")
        self.announce = histogram("announce_seconds", "Writing a request to the streams.")
        self.compile = histogram("grammar_compile_seconds", "Compiling one grammar, without the wait for a child.")
        self.delivery = histogram("texts_hop_seconds", "From writing a texts entry to its dispatch here.", MICROS)
