"""The service's figures for Prometheus, at `/metrics`. Nothing of a request is a label: routes are those of the OpenAPI
document, and codes are the service's own."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from medsae_ray.core.naming.engine import Usage

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
NO_ROUTE = "none"
"""The route of what was refused before it had one, or has none."""


class Metrics:
    """The figures of one replica."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        self.requests = Counter("medsae_http_requests", "Answers", ["route", "status"], registry=own)
        self.refusals = Counter("medsae_http_refusals", "Requests without an answer", ["route", "code"], registry=own)
        self.seconds = _times("medsae_http_seconds", "From a request's header to its answer's end", "route", own)
        self.under_way = Gauge("medsae_http_under_way", "Requests with a body that hold a place", registry=own)
        self.waiting = Gauge("medsae_encode_waiting", "Images that wait for a batch", registry=own)
        self.batch = Histogram("medsae_encode_batch_size", "Images encoded together", buckets=SIZES, registry=own)
        self.engine_calls = Counter("medsae_engine_calls", "Calls of the engine", ["call", "outcome"], registry=own)
        self.engine_seconds = _times("medsae_engine_seconds", "The wait for the engine", "call", own)
        self.engine_under_way = Gauge("medsae_engine_under_way", "Calls that wait for the engine", registry=own)
        self.tokens = Counter(
            "medsae_engine_tokens", "Tokens of prompts, of those in the cache, and of answers", ["kind"], registry=own
        )

    def watch(self, waiting: Callable[[], int]) -> None:
        """Show the length of a queue."""
        self.waiting.set_function(waiting)

    def answered(self, route: str, status: int, code: str | None, seconds: float) -> None:
        """Count an answer; `code` is that of a refusal."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)
        if code is not None:
            self.refusals.labels(route, code).inc()

    def spent(self, usage: Usage) -> None:
        """Count the tokens of an answer of the engine."""
        self.tokens.labels("prompt").inc(usage.prompt_tokens)
        self.tokens.labels("cached").inc(usage.cached_tokens)
        self.tokens.labels("output").inc(usage.output_tokens)

    def text(self) -> bytes:
        """Return all figures in Prometheus's text format."""
        return generate_latest(self.registry)


def _times(name: str, meaning: str, label: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(name, meaning, [label], buckets=SECONDS, registry=registry)
