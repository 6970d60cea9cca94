"""The keeper asks Serve without its lock: a status from before somebody's deployment is never acted on."""

import pytest

from medsae_ray.engine import keeper as module
from medsae_ray.engine.keeper import Keeper
from medsae_ray.engine.leases import ABSENT, DEPLOY, RUNNING, THERE, FoundApplication, Lease

A, B = (Lease("engine", who, who) for who in "ab")


def test_who_looks_while_another_deploys_does_not_deploy_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Keeper, "_watch", lambda self: None)
    monkeypatch.setattr(module, "kv_get", lambda key: None)
    monkeypatch.setattr(module, "kv_put", lambda key, value: None)
    monkeypatch.setattr(module, "found", lambda thing: FoundApplication(ABSENT))
    keeper = Keeper()
    assert keeper.ask(A).do == DEPLOY
    looks = []

    def found_late(thing: str) -> FoundApplication:
        """A look that returns what was there before the deployment that ends in its middle."""
        looks.append(thing)
        keeper.deployed("engine", "a")
        return FoundApplication(ABSENT if len(looks) == 1 else RUNNING)

    monkeypatch.setattr(module, "found", found_late)
    assert keeper.ask(B).do == THERE and len(looks) == 2
