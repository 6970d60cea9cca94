"""The holders of our applications on a Ray cluster, and when these end: the rules alone, without Ray.

Times are seconds of one clock.
"""

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

ABSENT, RUNNING, DEPLOY_FAILED, DELETING = "ABSENT", "RUNNING", "DEPLOY_FAILED", "DELETING"
UNKNOWN = "UNKNOWN"
"""The status while Serve's controller does not answer, for example during its restart."""
ENGINE = "medsae-engine"
"""The Serve application of the vision-language engine."""
SERVE = "ray-serve"
"""Serve itself, held like an application."""
LEASE_S = 30.0
"""The seconds until a lease ends without renewal: a killed driver is noticed after this time."""
DEPLOY, WAIT, THERE, REFUSED = "deploy", "wait", "there", "refused"


class FoundApplication(NamedTuple):
    """An application as reported by Serve."""

    status: str
    message: str = ""
    """The messages of it and its deployments."""
    from_file: bool = False
    """True if it came by `serve deploy`."""


@dataclass(frozen=True)
class Lease:
    """One holder's claim on one thing: a Serve application, or Serve itself."""

    thing: str
    holder: str
    """The id of the holder, a new one for each process and each use."""
    who: str = ""
    """A description for people: recipe, process and node."""
    lease_s: float = LEASE_S
    idle_s: float = 0.0
    """The seconds that the thing is kept after its last lease."""
    alone: bool = False
    """True if nobody else may hold the thing."""
    about: dict[str, Any] = field(default_factory=dict)
    """The requirements on the thing: see `unfit`."""


class Answer(NamedTuple):
    """The next step of a holder: DEPLOY the thing, WAIT and ask again, use the one THERE, or give up, REFUSED."""

    do: str
    why: str = ""


class Idle(NamedTuple):
    """The start of a thing's idle time, and its length."""

    since: float
    keep_s: float


def unfit(have: dict[str, Any], want: dict[str, Any]) -> str:
    """Return why the running thing does not fit, or "": values of `same` must be equal and those of `at_least` not
    less, if both sides give them."""
    for kind, differ in (("same", operator.ne), ("at_least", operator.lt)):
        for key, wanted in want.get(kind, {}).items():
            runs = have.get(kind, {}).get(key)
            if None not in (runs, wanted) and differ(runs, wanted):
                named = "" if key == "model" else f"{key} "
                return f"the cluster runs an engine with {named}{runs}, not {wanted}"
    return ""


class LeaseBook:
    """The leases of a cluster and their things. `ours` are the things that an earlier book had deployed."""

    def __init__(self, clock: Callable[[], float], ours: dict[str, dict[str, Any]] | None = None) -> None:
        self.clock, self.ours = clock, dict(ours or {})
        """The deployments of holders, with their descriptions, in `ours`. All other things belong to others, and
        stay."""
        self.held: dict[tuple[str, str], tuple[Lease, float]] = {}
        # The holder of a thing of an earlier book is not known yet, so it gets the time of one lease.
        self.idle = {thing: Idle(clock() + LEASE_S, about.get("idle_s", 0.0)) for thing, about in self.ours.items()}
        self.deploying: dict[str, str] = {}
        self.changes = 0
        """The number of deployments made and of things gone: a status that was read before one of them is out of
        date."""
        self.ending: set[str] = set()
        self.revoked: dict[str, tuple[str, float]] = {}

    def ask(self, lease: Lease, found: FoundApplication) -> Answer:
        """Take or renew a lease, and return the holder's next step while the thing is as `found`."""
        self.expire()
        if lease.holder in self.revoked:
            return Answer(REFUSED, self.revoked[lease.holder][0])
        if lease.thing in self.ending:
            return Answer(WAIT)
        others = [other for other in self.holders(lease.thing) if other.holder != lease.holder]
        if alone := [other for other in others if lease.alone or other.alone]:
            return Answer(REFUSED, f"{lease.thing} is in use by {people(alone)}")
        answer = self._answer(lease, found, others)
        if answer.do != REFUSED:
            self.held[lease.thing, lease.holder] = lease, self.clock() + lease.lease_s
            self.idle.pop(lease.thing, None)
        return answer

    def _answer(self, lease: Lease, found: FoundApplication, others: list[Lease]) -> Answer:
        thing = lease.thing
        if thing == SERVE:
            return Answer(THERE)
        if found.status in (DELETING, UNKNOWN):
            return Answer(WAIT)
        if found.status == ABSENT or (found.status == DEPLOY_FAILED and self.is_ours(thing, found)):
            if self.deploying.get(thing) in {other.holder for other in others}:
                return Answer(WAIT)
            self.deploying[thing] = lease.holder
            self.ours[thing] = {**lease.about, "idle_s": lease.idle_s}
            return Answer(DEPLOY)
        if not self.is_ours(thing, found):
            return (
                Answer(REFUSED, f"the cluster has an application {thing} of others") if lease.alone else Answer(THERE)
            )
        why = unfit(self.ours[thing], lease.about)
        if why and others:
            return Answer(REFUSED, f"{why}, and {people(others)} use it; wait for them, or stop it or use its model")
        if why or (lease.alone and self.held.get((thing, lease.holder)) is None):
            self.ending.add(thing)
            return Answer(WAIT)
        return Answer(THERE)

    def is_ours(self, thing: str, found: FoundApplication) -> bool:
        """Return True if a holder deployed it. A thing of a configuration file (`serve deploy`) is the operator's."""
        return thing in self.ours and not found.from_file

    def deployed(self, thing: str, holder: str) -> None:
        """Note that the deployment which `holder` was told to make has been made, or has failed."""
        if self.deploying.get(thing) == holder:
            del self.deploying[thing]
            self.changes += 1

    def renew(self, lease: Lease) -> str:
        """Renew a lease; return why its holder has to give the thing up, or ""."""
        self.expire()
        if lease.holder in self.revoked:
            return self.revoked[lease.holder][0]
        self.held[lease.thing, lease.holder] = lease, self.clock() + lease.lease_s
        self.idle.pop(lease.thing, None)
        return ""

    def release(self, thing: str, holder: str) -> None:
        """End a lease; one that is not held is ignored."""
        self.revoked.pop(holder, None)
        if (thing, holder) in self.held:
            self._drop(self.held[thing, holder][0], self.clock())

    def expire(self) -> None:
        """Drop the leases that were not renewed."""
        now = self.clock()
        for lease, until in list(self.held.values()):
            if until <= now:
                self._drop(lease, until)
        self.revoked = {holder: (why, until) for holder, (why, until) in self.revoked.items() if until > now}

    def _drop(self, lease: Lease, at: float) -> None:
        del self.held[lease.thing, lease.holder]
        self.deployed(lease.thing, lease.holder)
        if not self.holders(lease.thing):
            self.idle[lease.thing] = Idle(at, lease.idle_s)

    def holders(self, thing: str) -> list[Lease]:
        """Return the leases on a thing."""
        return [lease for lease, _ in self.held.values() if lease.thing == thing]

    def stop(self, thing: str, found: FoundApplication, force: bool) -> str:
        """End a thing now. Return why not, or ""; with `force` its holders are told and lose their leases."""
        self.expire()
        holders = self.holders(thing)
        if found.from_file:
            return f"{thing} came by `serve deploy` and belongs to who did that: take it out of the configuration"
        if holders and not force:
            return f"{thing} is in use by {people(holders)}; wait for them, or --force takes it from them"
        if not force and not self.is_ours(thing, found) and found.status != ABSENT:
            return f"{thing} was not started by a run; --force stops it all the same"
        for lease in holders:
            self._drop(lease, self.clock())
            self.revoked[lease.holder] = ("`medsae engine stop --force` stopped it", self.clock() + lease.lease_s)
        self.ours.setdefault(thing, {})
        self.ending.add(thing)
        return ""

    def over(self) -> list[str]:
        """Return the things that end now."""
        self.expire()
        now = self.clock()
        due = {thing for thing, idle in self.idle.items() if now >= idle.since + idle.keep_s}
        self.ending |= due
        return sorted(self.ending)

    def gone(self, thing: str) -> None:
        """Forget a thing that has ended, or was never ours to end."""
        self.changes += 1
        self.ending.discard(thing)
        self.ours.pop(thing, None)
        self.idle.pop(thing, None)

    def waits_for(self, thing: str) -> bool:
        """Return whether a thing is about to end: nobody holds it, and it is not gone yet."""
        return not self.holders(thing) and (thing in self.ending or thing in self.idle)

    def empty(self) -> bool:
        """Return True if nothing is held, idle, ending or revoked: the keeper may end."""
        return not (self.held or self.idle or self.ending or self.revoked)

    def left(self, thing: str) -> dict[str, Any]:
        """Return the holders with the seconds left to each, and the seconds that a thing has been idle and has left."""
        self.expire()
        now = self.clock()
        leases = [(lease.who, round(until - now)) for lease, until in self.held.values() if lease.thing == thing]
        idle = self.idle.get(thing)
        waited = idle and (max(0, round(now - idle.since)), max(0, round(idle.since + idle.keep_s - now)))
        return {"leases": leases, "idle": waited}


def people(leases: Iterable[Lease]) -> str:
    """Join the holders' names for a message."""
    return "; ".join(lease.who or lease.holder for lease in leases)
