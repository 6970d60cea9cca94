"""Starts the vision-language engine on the cluster and speaks to it: one Ray Serve application, shared by all.

Nothing here imports vLLM or Ray Serve LLM; the replicas do.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from ray import serve
from ray.exceptions import RayError, TaskCancelledError
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get
from ray.serve.exceptions import BackPressureError, RayServeException

from medsae_ray.core.naming.engine import BATCH, Asked, EngineSettings, Writing, Wrote, model_identity
from medsae_ray.errors import EngineError
from medsae_ray.stages.capacity import cluster_capacity
from medsae_ray.stages.demands import Phase, engine_demand
from medsae_ray.stages.engine_causes import explain, known_cause
from medsae_ray.stages.engine_server import VlmServer
from medsae_ray.stages.engine_vllm import PHASE, bundles, environment, strategy
from medsae_ray.stages.placing import check_placeable
from medsae_ray.stages.serving import ABSENT, DELETING, DEPLOY_FAILED, RUNNING, quiet, status_of

APPLICATION = "medsae-engine"
POLL_S = 1.0
BACK_OFF_S = (0.2, 5.0)
"""First and longest pause before a call is repeated."""


class ServeEngine:
    """The engine behind a Ray Serve handle. Waits out full queues and lost replicas."""

    def __init__(self, handle: Any, identity: str, patience_s: float) -> None:
        self.handle, self.identity, self.patience_s = handle, identity, patience_s
        self.seen_well = self.looked = time.monotonic()

    async def ask(self, image: bytes, questions: list[str], priority: int = BATCH, reuse: bool = True) -> Asked:
        return await self._call("ask", image, questions, priority, reuse)

    async def write(self, writing: Writing, priority: int = BATCH) -> Wrote:
        return await self._call("write", writing, priority)

    async def chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """A request of OpenAI's chat API: HTTP status and body."""
        return await self._call("chat", body)

    async def models(self) -> dict[str, Any]:
        """The list of models of OpenAI's API."""
        return await self._call("models")

    async def _call(self, method: str, *arguments: Any) -> Any:
        """Repeat until the replica answers. It answers for every request, so an exception is the engine's own."""
        pause, last = BACK_OFF_S
        deadline = None
        while True:
            try:
                return await self._watch(asyncio.ensure_future(self._remote(method, *arguments)))
            except BackPressureError:
                deadline = None
            except (RayError, RayServeException, TaskCancelledError) as error:
                deadline = deadline or time.monotonic() + self.patience_s
                if time.monotonic() > deadline:
                    raise EngineError(
                        f"the engine was lost for {self.patience_s:.0f} s: {explain(str(error))}"
                    ) from None
            await asyncio.sleep(pause)
            pause = min(2 * pause, last)

    async def _remote(self, method: str, *arguments: Any) -> Any:
        return await getattr(self.handle, method).remote(*arguments)

    async def _watch(self, call: asyncio.Future[Any]) -> Any:
        """A call waits for ever where no replica comes back, so look after the application meanwhile."""
        try:
            while not call.done():
                await asyncio.wait({call}, timeout=5 * POLL_S)
                if not call.done():
                    self._look()
            return call.result()
        finally:
            call.cancel()

    def _look(self) -> None:
        now = time.monotonic()
        if now - self.looked < POLL_S:
            return
        self.looked = now
        status, message = status_of(APPLICATION)
        if status == RUNNING:
            self.seen_well = now
        elif status in (ABSENT, DEPLOY_FAILED) or now - self.seen_well > self.patience_s:
            raise EngineError(f"the engine was lost ({status}): {explain(message)}")


@contextlib.contextmanager
def start_engine(
    settings: EngineSettings, on_progress: Callable[[str], None] = lambda text: None, identity: str | None = None
) -> Iterator[ServeEngine]:
    """The engine for the length of the block, on the Ray cluster that this process is connected to.

    One that runs there already with the same model is shared and left running. `identity` saves hashing the model's
    files again. Raises EngineError, with the cause, if it does not start.
    """
    identity = identity or model_identity(settings.model, settings.revision)
    serve_ran = bool(serve.status().proxies) or bool(serve.status().applications)
    found = status_of(APPLICATION)[0]
    if found in (ABSENT, DEPLOY_FAILED, DELETING):
        engine = engine_demand(settings.cpus, settings.gpus, settings.replicas)
        check_placeable([Phase("the engine", (engine,))], cluster_capacity(), on_progress)
        _deploy(settings, identity, serve_ran)
        found = ABSENT
    try:
        _wait(settings, on_progress)
        with quiet():
            handle = serve.get_app_handle(APPLICATION)
            runs = handle.identity.remote().result(timeout_s=60)
        if runs != identity:
            raise EngineError(f"the cluster runs an engine with {runs}, not {identity}; stop that one or use its model")
        yield ServeEngine(handle, identity, settings.start_timeout_s)
    finally:
        if found == ABSENT:
            _stop(serve_ran)


def engine_application(settings: EngineSettings, identity: str) -> serve.Application:
    """The bound deployment that hosts the model: what `serve.run` and `serve deploy` take."""
    deployment = serve.deployment(
        num_replicas=settings.replicas,
        ray_actor_options={
            "num_cpus": bundles(settings)[0]["CPU"],
            "runtime_env": {"env_vars": environment(settings)},
        },
        placement_group_bundles=bundles(settings),
        placement_group_strategy=strategy(settings),
        max_ongoing_requests=settings.max_ongoing,
        max_queued_requests=settings.max_ongoing,
        max_constructor_retry_count=2,
        health_check_period_s=2,
        health_check_timeout_s=60,
        graceful_shutdown_timeout_s=5,
        logging_config={"log_level": "WARNING"},
    )(VlmServer)
    return deployment.bind(settings, identity)


def _deploy(settings: EngineSettings, identity: str, serve_ran: bool) -> None:
    if not serve_ran:
        with quiet():
            serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
    _internal_kv_del(PHASE)
    with quiet():
        serve._run(engine_application(settings, identity), name=APPLICATION, route_prefix=None, _blocking=False)


def _wait(settings: EngineSettings, on_progress: Callable[[str], None]) -> None:
    start = time.monotonic()
    shown = ""
    while True:
        status, message = status_of(APPLICATION)
        seconds = time.monotonic() - start
        if status == RUNNING:
            on_progress(f"ready after {seconds:.0f} s")
            return
        if status in (ABSENT, DEPLOY_FAILED) or known_cause(message):
            raise EngineError(f"the engine with {settings.model} does not start: {explain(message)}")
        if seconds > settings.start_timeout_s:
            raise EngineError(
                f"the engine with {settings.model} was not ready within {settings.start_timeout_s:.0f} s "
                f"({_phase()}); raise how.vlm.start_timeout_s or see why: {explain(message)}"
            )
        text = f"{_phase()}, {seconds:.0f} s"
        if text != shown:
            on_progress(text)
            shown = text
        time.sleep(POLL_S)


def _phase() -> str:
    return (_internal_kv_get(PHASE) or b"deploying").decode()


def _stop(serve_ran: bool) -> None:
    with quiet():
        serve.delete(APPLICATION)  # before Serve itself ends, so that the replica has time to end vLLM's processes
        if serve_ran:
            return
        with contextlib.redirect_stdout(_WithoutController(sys.stdout)):
            serve.shutdown()
            time.sleep(POLL_S / 2)


class _WithoutController:
    """Standard output without what Ray prints about Serve's controller, whose end it takes for an accident."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.dropped = stream, False

    def write(self, text: str) -> int:
        drop = "ServeController." in text or (self.dropped and text == "\n")
        self.dropped = drop and text != "\n"
        return len(text) if drop else self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
