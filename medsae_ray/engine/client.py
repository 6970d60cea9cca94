"""The client of the vision-language engine on the cluster, which also starts it: one shared Ray Serve application.

Nothing here imports vLLM or Ray Serve LLM; the replicas do.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from ray import serve
from ray.exceptions import RayError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, RayServeException

from medsae_ray.cluster.capacity import cluster_capacity
from medsae_ray.cluster.demands import Phase, engine_demand
from medsae_ray.cluster.placing import check_placeable
from medsae_ray.cluster.ray_private import deploy, ends_with_us, kv_delete, kv_get
from medsae_ray.core.naming.engine import BATCH, EngineSettings, Event, ImageAnswers, Writing, Wrote, model_identity
from medsae_ray.engine.causes import explain, known_cause
from medsae_ray.engine.holding import Hold, held
from medsae_ray.engine.leases import ABSENT, DELETING, DEPLOY, DEPLOY_FAILED, ENGINE, RUNNING, unfit
from medsae_ray.engine.replica import VlmServer, about
from medsae_ray.engine.serve_status import controller_id, quiet, start_serve, starting, status_of
from medsae_ray.engine.vllm_options import PHASE, bundles, environment, strategy
from medsae_ray.errors import EngineError

APPLICATION = ENGINE
POLL_S = 1.0
BACK_OFF_S = (0.2, 5.0)
"""The first and the longest pause before a call is repeated."""
LOSSES = 3
"""The most restarts of a lost engine within an hour: more losses are no accident."""


class Gone(Exception):
    """The error of a missing application or Serve; another may be started."""


class HandleEngine:
    """The `Engine` behind a Ray Serve handle, called once: a full queue or a lost replica raises Ray's exceptions."""

    def __init__(self, identity: str, handle: Any) -> None:
        self.identity, self.handle = identity, handle

    async def ask(self, image: bytes, questions: list[str], priority: int = BATCH, reuse: bool = True) -> ImageAnswers:
        """As `Engine.ask`; without `reuse` the prefix cache is not read."""
        answers: ImageAnswers = await self._call("ask", image, questions, priority, reuse)
        return answers

    async def write(self, writing: Writing, priority: int = BATCH) -> Wrote:
        """As `Engine.write`."""
        wrote: Wrote = await self._call("write", writing, priority)
        return wrote

    async def chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Pass on a request of OpenAI's chat API: HTTP status and body."""
        reply: tuple[int, dict[str, Any]] = await self._call("chat", body)
        return reply

    async def stream(self, body: dict[str, Any]) -> AsyncGenerator[Event, None]:
        """As `Engine.stream`; the engine stops when the caller closes this."""
        events = self.handle.options(stream=True).stream.remote(body)
        try:
            async for event in events:
                yield event
        finally:
            events.cancel()

    async def check(self) -> None:
        """Return once a replica has said that its vLLM lives."""
        await self._call("check_health")

    async def _call(self, method: str, *arguments: Any) -> Any:
        return await getattr(self.handle, method).remote(*arguments)


class ServeEngine(HandleEngine):
    """An engine that waits out full queues and lost replicas, and replaces a lost application.

    `start` brings an engine and returns its handle; `on_loss` is told when it has to.
    """

    def __init__(
        self, start: Callable[[], Any], hold: Hold, settings: EngineSettings, on_loss: Callable[[str], None]
    ) -> None:
        super().__init__(hold.lease.about["same"]["model"], start())
        self.start, self.hold, self.on_loss = start, hold, on_loss
        self.patience_s = settings.start_timeout_s
        self.lock, self.losses = threading.Lock(), list[float]()
        self.taken = 0
        """The number of engines started so far. Their handles do not distinguish them: Serve returns the same one
        for a name."""
        self._take(self.handle)

    def _take(self, handle: Any) -> None:
        self.handle, self.controller = handle, controller_id()
        self.taken += 1
        self.seen_well = self.looked = time.monotonic()

    async def _call(self, method: str, *arguments: Any) -> Any:
        """Repeat until the replica answers. It answers every request, so an exception is the engine's own."""
        pause, last = BACK_OFF_S
        deadline = None
        while True:
            asked = self.taken
            try:
                return await self._try(method, *arguments)
            except BackPressureError:
                deadline = None
            except Gone as gone:
                await asyncio.to_thread(self._again, asked, str(gone))
                deadline = None
            except (RayError, RayServeException, TaskCancelledError) as error:
                deadline = deadline or time.monotonic() + self.patience_s
                if time.monotonic() > deadline:
                    raise EngineError(
                        f"the engine was lost for {self.patience_s:.0f} s: {explain(str(error))}"
                    ) from None
            await asyncio.sleep(pause)
            pause = min(2 * pause, last)

    async def _try(self, method: str, *arguments: Any) -> Any:
        """Make one call. Any failure becomes Gone, or EngineError if no replica is left to be called again."""
        try:
            return await self._watch(asyncio.ensure_future(super()._call(method, *arguments)))
        except BackPressureError:
            raise
        except (RayError, RayServeException, TaskCancelledError):
            self.look()
            raise

    async def _watch(self, call: asyncio.Future[Any]) -> Any:
        """Watch the application during a call, which waits for ever if no replica comes back."""
        try:
            while not call.done():
                await asyncio.wait({call}, timeout=5 * POLL_S)
                if not call.done():
                    self.look()
            return call.result()
        finally:
            call.cancel()

    def look(self) -> None:
        """Raise Gone if the application is gone; EngineError if it failed, was removed on purpose or stays
        unhealthy."""
        now = time.monotonic()
        self.hold.check()
        if now - self.looked < POLL_S:
            return
        self.looked = now
        status, message = status_of(APPLICATION)
        if status in (ABSENT, DELETING):
            raise Gone(message or "it was stopped")
        if status == RUNNING and self.controller != controller_id():
            raise Gone("Ray Serve was shut down and started again")
        if status == RUNNING:
            self.seen_well = now
        elif status == DEPLOY_FAILED or now - self.seen_well > self.patience_s:
            raise EngineError(f"the engine was lost ({status}): {explain(message)}")

    def keep_up(self) -> None:
        """Start the engine again if it is gone, for a holder that makes no calls."""
        looked_at = self.taken
        try:
            self.look()
        except Gone as gone:
            self._again(looked_at, str(gone))

    def _again(self, lost: int, why: str) -> None:
        """Replace the `lost` engine, given by its number, once for all callers that noticed the loss."""
        with self.lock:
            if self.taken != lost:
                return
            now = time.monotonic()
            self.losses = [at for at in self.losses if now - at < 3600] + [now]
            if len(self.losses) > LOSSES:
                raise EngineError(f"the engine went away {len(self.losses)} times in an hour: {why}")
            self.on_loss(f"the engine went away ({why}): it is started again")
            self._take(self.start())


@contextlib.contextmanager
def start_engine(
    settings: EngineSettings,
    on_progress: Callable[[str], None] = lambda text: None,
    identity: str | None = None,
    *,
    who: str = "a run",
    idle_s: float = 0.0,
    on_loss: Callable[[str], None] = lambda text: None,
) -> Iterator[ServeEngine]:
    """Provide the engine for the length of the block, on the Ray cluster that this process is connected to.

    A running engine with the same model is shared. The last of its holders ends it: `idle_s` after its block on a
    cluster that was joined, and with the block on one that ends with this process. An engine of `serve deploy` stays.
    `identity` saves hashing the model's files again; `who` describes this holder to others. Raises EngineError, with
    the cause, if it does not start.
    """
    identity = identity or model_identity(settings.model, settings.revision)
    local = ends_with_us()
    with held(
        APPLICATION,
        who,
        wait=local,
        idle_s=0.0 if local else idle_s,
        about=about(settings, identity),
        error=EngineError,
    ) as hold:
        yield ServeEngine(lambda: _bring(hold, settings, identity, on_progress), hold, settings, on_loss)


def _bring(hold: Hold, settings: EngineSettings, identity: str, on_progress: Callable[[str], None]) -> Any:
    """Return the handle of an engine that is ready: the existing one, or a new one."""
    for _ in range(LOSSES):
        with contextlib.suppress(Gone):
            if hold.ask(lambda: on_progress("waiting for another run's start or end")) == DEPLOY:
                try:
                    engine = engine_demand(settings.cpus, settings.gpus, settings.replicas)
                    check_placeable([Phase("the engine", (engine,))], cluster_capacity(), on_progress)
                    _deploy(settings, identity)
                finally:
                    hold.deployed()
            _wait(hold, settings, on_progress)
            with quiet():
                handle = serve.get_app_handle(APPLICATION)
                runs = handle.about.remote().result(timeout_s=60)
            if why := unfit(runs, hold.lease.about):
                raise EngineError(f"{why}; stop that one or use its model")
            return handle
    raise EngineError(f"the engine with {settings.model} went away {LOSSES} times while it started")


def engine_application(settings: EngineSettings, identity: str) -> serve.Application:
    """Return the bound deployment that hosts the model, for `serve.run` and `serve deploy`."""
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


def _deploy(settings: EngineSettings, identity: str) -> None:
    """Hand the application to Serve. Gone if Serve ends meanwhile."""
    try:
        start_serve(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
        kv_delete(PHASE)
        with quiet():
            deploy(engine_application(settings, identity), APPLICATION, route_prefix=None)
    except (RayServeException, RayError, TimeoutError) as error:
        if status_of(APPLICATION)[0] != ABSENT:
            raise
        raise Gone(str(error)) from error


def _wait(hold: Hold, settings: EngineSettings, on_progress: Callable[[str], None]) -> None:
    """Wait until the engine is ready. Gone if it is removed before, EngineError if it does not start."""
    shown = ""
    for status, message, seconds in starting(APPLICATION, POLL_S):
        hold.check()
        if status == RUNNING:
            on_progress(f"ready after {seconds:.0f} s")
        elif status in (ABSENT, DELETING):
            raise Gone(message)
        elif status == DEPLOY_FAILED or known_cause(message):
            raise EngineError(f"the engine with {settings.model} does not start: {explain(message)}")
        elif seconds > settings.start_timeout_s:
            raise EngineError(
                f"the engine with {settings.model} was not ready within {settings.start_timeout_s:.0f} s "
                f"({_phase()}); raise how.vlm.start_timeout_s or see why: {explain(message)}"
            )
        elif (text := f"{_phase()}, {seconds:.0f} s") != shown:
            on_progress(text)
            shown = text


def _phase() -> str:
    return (kv_get(PHASE) or b"deploying").decode()
