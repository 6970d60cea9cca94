"""`medsae serve`: the engine, the service and HTTP on one cluster, until Ctrl-C."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from ray.exceptions import RayError
from rich.console import Console

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
from medsae_ray.errors import MedsaeError, one_line
from medsae_ray.finished import Finished, open_run
from medsae_ray.service.address import Address
from medsae_ray.service.deployment import check_service, deployed, fits_here, phase_of
from medsae_ray.service.door import Door
from medsae_ray.service.limits import RequestLimits
from medsae_ray.service.middleware import digest
from medsae_ray.service.wire import CALLBACK

EVERY_S = 2.0
"""The seconds between two checks of the engine while nothing else happens."""


def serve_run(
    recipe: Recipe, root: str, address: Address, console: Console, images: Access = "all", window: int = 1000
) -> None:
    """Serve the finished run of `recipe` below `root` at an address that listens, until the process is told to stop.
    Its pages show `images`, and the drift view counts the last `window` uploads.

    Raises ArtifactError if the run is not finished, EngineError if its engine does not start, and RecipeError for
    models that the cluster has no room for together.
    """
    limits = RequestLimits(window=window)
    token = address.token and digest(address.token)
    with Door(address.listening, limits.retry_s) as door, Phases(console) as phase:
        phase.begins("opening the run")
        run = replace(open_run(recipe, root), images=images)
        phase.begins("starting Ray")
        with cluster(recipe.how), contextlib.ExitStack() as open_:
            here = fits_here(recipe)
            if not here:  # the replica cannot listen at this machine's address
                door.close()
                open_.enter_context(http(address.host, address.port, limits))
            keep_up = _engine(run, console, phase, open_)
            phase.begins("loading encoder and SAE")
            open_.enter_context(deployed(run, token, limits, door.path if here else None))
            phase.end()
            console.print(f"serving {run.atlas.name} at {address.url}/; Ctrl-C stops it", highlight=False)
            wait(keep_up)
            console.print("stopping: what is under way is finished first; Ctrl-C again ends it", highlight=False)
            door.drain(limits.drain_s)


def _engine(run: Finished, console: Console, phase: "Phases", open_: contextlib.ExitStack) -> Callable[[], None]:
    """Start the recipe's engine on the cluster, if it has one, until `open_` ends; return what keeps it up."""
    recipe = run.recipe
    vlm = recipe.how.vlm if run.has_engine else None
    hosted = vlm if vlm and not vlm.url else None
    check_service(recipe, hosted is not None and status_of(ENGINE)[0] in (ABSENT, DEPLOY_FAILED))
    open_.enter_context(serving())
    if hosted is None:
        return _nothing
    with waiting(console.print, phase_of(recipe, True).demands):
        started = start_engine(
            settings_of(recipe),
            lambda text: phase.begins(f"engine: {text}"),
            identity_of(recipe),
            who=f"medsae serve {recipe.name}",
            idle_s=hosted.idle_s,
            on_loss=console.print,
        )
        return open_.enter_context(started).keep_up


class Phases:
    """What the start is at: shown in place on a terminal, and a line for each phase elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console, self.phase, self.begun = console, "", time.monotonic()
        self.status = console.status("") if console.is_terminal else None

    def __enter__(self) -> "Phases":
        if self.status:
            self.status.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def begins(self, text: str) -> None:
        """Show the phase that begins, or its progress behind a comma."""
        phase = text.partition(",")[0]
        if self.status:
            self.status.update(text)
        elif phase != self.phase:
            self.console.print(f"{time.monotonic() - self.begun:4.0f} s  {phase}", highlight=False)
        self.phase = phase

    def end(self) -> None:
        """Show no phase any more."""
        if self.status:
            self.status.stop()


def _nothing() -> None:
    pass


@contextlib.contextmanager
def serving() -> Iterator[None]:
    """Run Ray Serve for the length of the block; it ends if one of ours has started it and nobody uses it."""
    with held(SERVE, "medsae serve", wait=True) as hold:
        hold.ask()
        try:
            start_serve(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
        except (RayError, TimeoutError) as error:
            raise MedsaeError(f"Ray Serve does not start: {one_line(str(error))[-300:]}") from error
        yield


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
