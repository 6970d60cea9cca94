"""`medsae serve`: the engine, the service and HTTP on one cluster, until Ctrl-C."""

import contextlib
import ipaddress
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

from ray.exceptions import RayError
from rich.console import Console
from rich.status import Status

from medsae_ray.cluster.joining import cluster
from medsae_ray.cluster.ray_private import serve_address
from medsae_ray.cluster.waiting import waiting
from medsae_ray.config import Recipe
from medsae_ray.core.browser.access import Access
from medsae_ray.engine.client import start_engine
from medsae_ray.engine.holding import held
from medsae_ray.engine.leases import ABSENT, DEPLOY_FAILED, ENGINE, SERVE
from medsae_ray.engine.serve_status import controller_id, details, start_serve, status_of
from medsae_ray.engine.session import identity_of, settings_of
from medsae_ray.errors import MedsaeError, RecipeError
from medsae_ray.finished import open_run
from medsae_ray.service.deployment import check_service, deployed, phase_of
from medsae_ray.service.limits import RequestLimits
from medsae_ray.service.middleware import digest
from medsae_ray.service.wire import CALLBACK

SHORTEST_TOKEN = 16
EVERY_S = 2.0
"""The seconds between two checks of the engine while nothing else happens."""


def serve_run(
    recipe: Recipe, root: str, host: str, port: int, token_variable: str, console: Console, images: Access = "all"
) -> None:
    """Serve the finished run of `recipe` below `root` until the process is told to stop, with `images` in its pages.

    Raises ArtifactError if the run is not finished, EngineError if its engine does not start, and RecipeError for an
    address that needs a token and has none, or for models that the cluster has no room for together.
    """
    token = token_of(token_variable, needed=not is_loopback(host))
    run = replace(open_run(recipe, root), images=images)
    limits = RequestLimits()
    meanwhile = _nothing
    vlm = recipe.how.vlm if run.has_engine else None
    hosted = vlm if vlm and not vlm.url else None
    with cluster(recipe.how), contextlib.ExitStack() as engine:
        check_service(recipe, hosted is not None and status_of(ENGINE)[0] in (ABSENT, DEPLOY_FAILED))
        engine.enter_context(http(host, port, limits))
        start = engine.enter_context(contextlib.ExitStack())
        start.enter_context(waiting(console.print, phase_of(recipe, hosted is not None).demands))
        if hosted:
            with console.status("engine") as shown:
                started = start_engine(
                    settings_of(recipe),
                    lambda text: _say(shown, text),
                    identity_of(recipe),
                    who=f"medsae serve {recipe.name}",
                    idle_s=hosted.idle_s,
                    on_loss=console.print,
                )
                meanwhile = engine.enter_context(started).keep_up
        with deployed(run, token and digest(token), limits):
            start.close()
            place = f"[{host}]" if ":" in host else host
            console.print(f"serving {run.atlas.name} at http://{place}:{port}/; Ctrl-C stops it", highlight=False)
            wait(meanwhile)


def _nothing() -> None:
    pass


def _say(shown: Status, text: str) -> None:
    shown.update(f"engine: {text}")


def token_of(variable: str, needed: bool) -> str | None:
    """Return the token in an environment variable. RecipeError if it is needed and missing, or easily guessed."""
    token = os.environ.get(variable)
    if not token:
        if needed:
            raise RecipeError(
                f"the environment variable {variable} is not set: whoever reaches an address beyond this machine "
                f"could read the run. Set it to a token of {SHORTEST_TOKEN} characters or more, or use --host 127.0.0.1"
            )
        return None
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise RecipeError(
            f"the token in {variable} has to be at least {SHORTEST_TOKEN} printable ASCII characters without spaces"
        )
    return token


def is_loopback(host: str) -> bool:
    """Return True if an address is reached from its own machine only. Names other than localhost count as False."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


@contextlib.contextmanager
def http(host: str, port: int, limits: RequestLimits) -> Iterator[None]:
    """Run Serve's HTTP proxy for the length of the block; a running one has to be at the same address.

    After the block Serve ends, if one of ours has started it and nobody has an application on it.
    """
    with held(SERVE, "medsae serve", wait=True) as hold:
        hold.ask()
        ran = controller_id() is not None
        _start_proxy(host, port, limits)
        if ran:
            _check_proxy(host, port)
        yield


def _start_proxy(host: str, port: int, limits: RequestLimits) -> None:
    # On a busy machine a proxy takes longer to start than the 5 s after which Serve kills it.
    variables = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60", **CALLBACK}
    try:
        start_serve(
            proxy_location="HeadOnly",
            http_options={"host": host, "port": port, "request_timeout_s": limits.body_s + limits.engine_s},
            logging_config={"log_level": "ERROR", "enable_access_log": False},
            controller_options={"runtime_env": {"env_vars": variables}},
        )
    except (RayError, TimeoutError) as error:
        said = str(error).strip().rpartition("\n")[2]
        raise MedsaeError(f"nothing can listen at {host}:{port}, or another program does: {said}") from error


def _check_proxy(host: str, port: int) -> None:
    address, known = serve_address(), details()
    proxies = (known and known.proxies) or {}
    if not proxies or address != (host, port):
        raise MedsaeError(
            f"Ray Serve runs on this cluster already, at {address[0]}:{address[1]} with "
            f"{len(proxies)} HTTP proxies; its address cannot change while it runs. Serve at that "
            f"address, or wait until the run that uses it has ended"
        )


def wait(meanwhile: Callable[[], None] = _nothing) -> None:
    """Wait until Ctrl-C or SIGTERM. `meanwhile` is called now and then; its error ends the wait."""
    stop = threading.Event()
    before = {kind: signal.signal(kind, lambda *_: stop.set()) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not stop.wait(EVERY_S):
            meanwhile()
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
