"""The end of what would survive a killed driver on its local cluster.

The kernel ends Ray's servers with the driver, and workers end within seconds of their raylet. Its two agents first tell
the cluster of the loss, which is gone as well: they hold 200 MB for a minute, and no setting of Ray 2.60 shortens that.
"""

import contextlib
import subprocess
from collections.abc import Iterator

from medsae_ray.cluster.ray_private import AGENT, raylet_here

_WAIT_AND_KILL = """
children=$(grep -slx "PPid:[[:space:]]*$1" /proc/[0-9]*/status)
read -r _
for child in $children; do
    child=${child%/status}
    grep -Eqs "$2" "$child/cmdline" && kill -9 "${child#/proc/}"
done
"""
"""The end of the standard input is the end of the driver, however it came. What is killed still has an agent's name, so
it is no process that has got the number of another."""


@contextlib.contextmanager
def none_survives() -> Iterator[None]:
    """Have the agents of this process's raylet killed if this process ends within the block. On Linux only."""
    command = ["sh", "-c", _WAIT_AND_KILL, "medsae-survivors", str(raylet_here()), AGENT]
    # A session of its own, so that Ctrl-C and the end of a terminal do not reach it.
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    with subprocess.Popen(command, stdin=subprocess.PIPE, **quiet) as watch:  # type: ignore[call-overload]
        try:
            yield
        finally:
            watch.kill()
