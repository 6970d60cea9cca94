"""The service as a Ray Serve application: one replica that holds encoder, SAE and atlas, beside the engine's."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.config import BackpressureConfig

from medsae_ray.cluster.capacity import cluster_capacity
from medsae_ray.cluster.demands import Phase
from medsae_ray.cluster.joining import own_error
from medsae_ray.cluster.placing import check_placeable
from medsae_ray.cluster.ray_private import deploy, gpus_of_this_node, this_node
from medsae_ray.config import Recipe
from medsae_ray.core.naming.engine import StreamingEngine
from medsae_ray.core.naming.openai_api import OpenAiEngine
from medsae_ray.engine.client import HandleEngine
from medsae_ray.engine.holding import held
from medsae_ray.engine.leases import DEPLOY_FAILED, ENGINE, RUNNING
from medsae_ray.engine.serve_status import quiet, starting
from medsae_ray.engine.session import identity_of, vlm_of
from medsae_ray.errors import MedsaeError
from medsae_ray.finished import Finished
from medsae_ray.preflight.needs import service_phase
from medsae_ray.runtime.logs import FORM, LEVEL, set_up
from medsae_ray.service.app import make_app
from medsae_ray.service.desk import Desk
from medsae_ray.service.door import Borrowed
from medsae_ray.service.engine import Link
from medsae_ray.service.limits import RequestLimits

APPLICATION = "medsae-service"
CPUS = 0.1
"""The CPUs of the replica, which mostly waits for callers and has to fit beside an engine on a small machine."""
START_S = 180.0


@serve.ingress()
class Service:
    """The deployment. `token` is the digest of the token that callers have to send. With `door` it answers at the
    socket that is lent there (door.py), and at Serve's proxy without one."""

    def __init__(self, run: Finished, token: str | None, limits: RequestLimits, door: str | None = None) -> None:
        self.desk, self.token = Desk(run, link_of(run.recipe, limits) if run.has_engine else None, limits), token
        self.borrowed = Borrowed(door, make_app(self.desk, token), limits.drain_s) if door else None
        set_up(self.borrowed.stderr if self.borrowed else None)

    def check_health(self) -> None:
        """Raise if the socket is not answered any more; Ray Serve then replaces the replica."""
        if self.borrowed and not self.borrowed.runs:
            raise RuntimeError("the service does not answer at its socket")

    def __serve_build_asgi_app__(self) -> FastAPI:
        return make_app(self.desk, self.token)


def link_of(recipe: Recipe, limits: RequestLimits) -> Link:
    """Make the link to the recipe's engine, which is not called yet."""
    vlm = vlm_of(recipe)
    identity, patience_s, url = identity_of(recipe), limits.engine_s, vlm.url

    def find() -> StreamingEngine:
        if url:  # a short wait of its own: the caller is told to retry
            return OpenAiEngine(url, vlm.model, vlm.key_variable, patience_s, patience_s)
        return HandleEngine(identity, serve.get_app_handle(ENGINE))

    return Link(find, identity, patience_s, limits.retry_s)


def application(
    run: Finished, token: str | None, limits: RequestLimits | None = None, door: str | None = None
) -> serve.Application:
    """Return the application for `serve.run` and `serve deploy`. The replica refuses an overload before Serve does,
    so Serve's own queue is only the second line. With `door` the replica is put on this node."""
    limits = limits or RequestLimits()
    deployment: Any = serve.deployment(
        num_replicas=1,
        ray_actor_options={
            "num_cpus": CPUS,
            "num_gpus": _gpus(run.recipe),
            "resources": {this_node(): 0.001} if door else {},
            "runtime_env": {"env_vars": {name: os.environ[name] for name in (FORM, LEVEL) if name in os.environ}},
        },
        max_ongoing_requests=4 * limits.requests,
        max_queued_requests=4 * limits.requests,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=limits.retry_s),
        max_constructor_retry_count=2,
        graceful_shutdown_timeout_s=5,
        logging_config={"log_level": "ERROR", "enable_access_log": False},
    )(Service)
    app: serve.Application = deployment.bind(run, token, limits, door)
    return app


def fits_here(recipe: Recipe) -> bool:
    """Whether this node, where the command listens, has the GPUs that the replica asks for."""
    return gpus_of_this_node() >= _gpus(recipe)


def _gpus(recipe: Recipe) -> float:
    """Return the GPUs of a replica, which holds both models."""
    return max(recipe.how.embed.gpus, recipe.how.encode.gpus)


def check_service(recipe: Recipe, engine: bool) -> None:
    """Raise RecipeError if the cluster has no room for the replica, with `engine` beside an engine yet to start."""
    check_placeable([phase_of(recipe, engine)], cluster_capacity(), lambda text: None)


def phase_of(recipe: Recipe, engine: bool) -> Phase:
    """Return what the service holds at once, with `engine` beside an engine yet to start."""
    return service_phase(recipe, CPUS, _gpus(recipe), engine)


@contextlib.contextmanager
def deployed(
    run: Finished, token: str | None, limits: RequestLimits | None = None, door: str | None = None
) -> Iterator[None]:
    """Run the service for the length of the block, on the existing cluster: at the socket lent at `door`, or at its
    HTTP proxy.

    MedsaeError if the cluster has such a service already. One that a killed process left behind is replaced.
    """
    check_service(run.recipe, engine=False)
    with held(APPLICATION, f"medsae serve {run.recipe.name}", wait=True, alone=True) as hold:
        hold.ask()
        try:
            with quiet():
                deploy(application(run, token, limits, door), APPLICATION, route_prefix=None if door else "/")
        finally:
            hold.deployed()
        _wait()
        yield


def _wait() -> None:
    for status, said, seconds in starting(APPLICATION, 0.2):
        if status == DEPLOY_FAILED or (status != RUNNING and seconds > START_S):
            raise own_error(said) or MedsaeError(f"the service does not start ({status}): {said[-600:]}")
