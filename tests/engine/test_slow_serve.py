"""The keeper asks Serve without its lock, and Serve may be slow: what it does meanwhile, and with an old answer."""

import threading
import time

import pytest

from medsae_ray.engine import keeper as module
from medsae_ray.engine.keeper import TICK_S, Keeper
from medsae_ray.engine.leases import ABSENT, DEPLOY, RUNNING, THERE, FoundApplication, Lease

A, B = (Lease("engine", who, who) for who in "ab")


@pytest.fixture(autouse=True)
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the keeper ended. Its thread then does nothing more, as the actor would."""
    ended: list[str] = []

    def end() -> None:
        ended.append("serve")
        threading.Event().wait()

    monkeypatch.setattr(module, "kv_get", lambda key: None)
    monkeypatch.setattr(module, "kv_put", lambda key, value: None)
    monkeypatch.setattr(module, "found", lambda thing: FoundApplication(ABSENT))
    monkeypatch.setattr(module, "end_serve", end)
    return ended


def test_who_looks_while_another_deploys_does_not_deploy_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Keeper, "_watch", lambda self: None)
    keeper, looks = Keeper(), list[str]()
    assert keeper.ask(A).do == DEPLOY

    def found_late(thing: str) -> FoundApplication:
        """A look that returns what was there before the deployment that ends in its middle."""
        looks.append(thing)
        keeper.deployed("engine", "a")
        return FoundApplication(ABSENT if len(looks) == 1 else RUNNING)

    monkeypatch.setattr(module, "found", found_late)
    assert keeper.ask(B).do == THERE and len(looks) == 2


def test_a_keeper_does_not_end_while_it_is_asked(monkeypatch: pytest.MonkeyPatch, ended: list[str]) -> None:
    def slow(thing: str) -> FoundApplication:
        time.sleep(4 * TICK_S)
        return FoundApplication(ABSENT)

    monkeypatch.setattr(module, "found", slow)
    keeper = Keeper()
    time.sleep(3 * TICK_S)
    assert ended == [], "its first call may be on its way"
    assert keeper.ask(A).do == DEPLOY and ended == []
    keeper.release("engine", "a", wait=False)
    until = time.monotonic() + 20
    while not ended and time.monotonic() < until:
        time.sleep(TICK_S / 5)
    assert ended == ["serve"]
