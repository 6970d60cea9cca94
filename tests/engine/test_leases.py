"""Who may use an engine, who starts it and when it ends: the rules, with a clock of the test's own."""

from dataclasses import replace
from typing import Any

import pytest

from medsae_ray.engine.leases import (
    ABSENT,
    DELETING,
    DEPLOY,
    DEPLOY_FAILED,
    LEASE_S,
    REFUSED,
    RUNNING,
    SERVE,
    THERE,
    UNKNOWN,
    WAIT,
    FoundApplication,
    Lease,
    LeaseBook,
    unfit,
)
from tests.support.clock import Clock

NONE, RUNS = FoundApplication(ABSENT), FoundApplication(RUNNING)
ABOUT = {"same": {"model": "m-1", "dtype": "float32"}, "at_least": {"max_model_len": 2048}}
A, B, C = (Lease("engine", who, who, idle_s=15, about=ABOUT) for who in "abc")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(clock: Clock) -> LeaseBook:
    return LeaseBook(clock)


def start(book: LeaseBook, lease: Lease = A) -> None:
    assert book.ask(lease, NONE).do == DEPLOY
    book.deployed(lease.thing, lease.holder)
    assert book.ask(lease, RUNS).do == THERE


def test_of_two_that_come_together_one_deploys_and_the_other_waits(book: LeaseBook) -> None:
    assert [book.ask(lease, NONE).do for lease in (A, B, B, A)] == [DEPLOY, WAIT, WAIT, DEPLOY]
    book.deployed("engine", "a")
    assert [book.ask(lease, RUNS).do for lease in (A, B)] == [THERE, THERE]


@pytest.mark.parametrize("end", ["released", "killed", "failed"])
def test_who_waits_for_a_deployer_that_is_gone_deploys(book: LeaseBook, clock: Clock, end: str) -> None:
    book.ask(A, NONE)
    if end == "released":
        book.release("engine", "a")
    elif end == "failed":
        book.deployed("engine", "a")
    else:
        clock.now += LEASE_S
    assert book.ask(B, NONE).do == DEPLOY


def test_it_ends_with_its_last_holder_and_after_its_time_of_waiting(book: LeaseBook, clock: Clock) -> None:
    start(book)
    book.ask(B, RUNS)
    book.release("engine", "a")
    clock.now += 20
    assert book.renew(B) == "" and book.over() == []
    book.release("engine", "b")
    clock.now += 14
    assert book.over() == [] and book.waits_for("engine")
    clock.now += 1
    assert book.over() == ["engine"] and book.ask(C, RUNS).do == WAIT
    book.gone("engine")
    assert not book.waits_for("engine") and book.empty() and book.ask(C, NONE).do == DEPLOY


def test_whoever_comes_while_it_is_idle_shares_it(book: LeaseBook, clock: Clock) -> None:
    start(book)
    book.release("engine", "a")
    clock.now += 14
    assert book.ask(B, RUNS).do == THERE
    clock.now += 20
    assert book.over() == []


def test_a_killed_holder_is_missed_after_a_lease_and_the_time_of_waiting(book: LeaseBook, clock: Clock) -> None:
    start(book)
    clock.now += LEASE_S + 14
    assert book.over() == []
    clock.now += 1
    assert book.over() == ["engine"]


def test_an_engine_of_zero_waiting_ends_at_once(book: LeaseBook) -> None:
    start(book, replace(A, idle_s=0.0))
    book.release("engine", "a")
    assert book.over() == ["engine"]


def test_a_new_keeper_gives_holders_time_to_be_heard(book: LeaseBook, clock: Clock) -> None:
    start(book)
    again = LeaseBook(clock, book.ours)
    clock.now += LEASE_S - 1
    assert again.over() == [] and again.renew(A) == ""
    clock.now += LEASE_S - 1
    assert again.over() == []
    orphan = LeaseBook(clock, book.ours)
    clock.now += LEASE_S + 14
    assert orphan.over() == []
    clock.now += 1
    assert orphan.over() == ["engine"]


OTHER_MODEL = {"same": {"model": "m-2"}}
LONGER = {"same": {"model": "m-1"}, "at_least": {"max_model_len": 4096}}


@pytest.mark.parametrize(("about", "said"), [(OTHER_MODEL, "m-1, not m-2"), (LONGER, "max_model_len 2048, not 4096")])
def test_another_engine_is_refused_while_one_is_in_use_and_replaces_it_after(
    book: LeaseBook, about: dict[str, Any], said: str
) -> None:
    start(book)
    other = replace(B, about=about)
    answer = book.ask(other, RUNS)
    assert answer.do == REFUSED and said in answer.why and "a use it" in answer.why
    book.release("engine", "a")
    assert book.ask(other, RUNS).do == WAIT and book.over() == ["engine"]
    book.gone("engine")
    assert book.ask(other, NONE).do == DEPLOY and book.ours["engine"]["same"] == about["same"]


def test_an_engine_that_can_do_more_fits_and_what_is_unknown_is_no_fault() -> None:
    assert unfit(LONGER, ABOUT) == "" and unfit({}, ABOUT) == "" and unfit(ABOUT, {"at_least": {"x": 1}}) == ""
    assert unfit({"at_least": {"max_model_len": None}}, LONGER) == ""


@pytest.mark.parametrize(
    "found", [FoundApplication(RUNNING, from_file=True), FoundApplication(DEPLOY_FAILED, from_file=True)]
)
def test_what_an_operator_deployed_is_used_and_never_ended(
    book: LeaseBook, clock: Clock, found: FoundApplication
) -> None:
    start(book)  # one of ours ran here before
    for lease in (A, B):
        assert book.ask(lease, found).do == THERE
    assert "serve deploy" in book.stop("engine", found, force=True) and "engine" not in book.ending
    assert not book.is_ours("engine", found)
    fresh = LeaseBook(clock)
    assert fresh.ask(A, RUNS).do == THERE and not fresh.is_ours("engine", RUNS)
    assert fresh.ask(replace(B, thing="service", alone=True), RUNS).do == REFUSED


def test_a_failed_deployment_is_made_again_by_another(book: LeaseBook) -> None:
    assert book.ask(A, NONE).do == DEPLOY
    assert book.ask(B, FoundApplication(DEPLOY_FAILED)).do == WAIT
    book.release("engine", "a")
    assert book.ask(B, FoundApplication(DEPLOY_FAILED)).do == DEPLOY


@pytest.mark.parametrize("status", [DELETING, UNKNOWN])
def test_what_is_on_its_way_is_waited_for_and_the_lease_holds_meanwhile(
    book: LeaseBook, clock: Clock, status: str
) -> None:
    start(book)
    assert book.ask(A, FoundApplication(status)).do == WAIT and book.holders("engine") == [A]
    assert book.ask(A, NONE).do == DEPLOY  # deleted under its holder


def test_a_stop_is_refused_while_others_hold_it_and_force_tells_them(book: LeaseBook, clock: Clock) -> None:
    start(book)
    assert "in use by a" in book.stop("engine", RUNS, force=False) and book.over() == []
    assert book.stop("engine", RUNS, force=True) == "" and book.over() == ["engine"]
    assert "stop --force" in book.renew(A) and "stop --force" in book.ask(A, NONE).why
    book.gone("engine")
    assert book.ask(B, NONE).do == DEPLOY and not book.empty()
    book.release("engine", "b")
    clock.now += LEASE_S
    assert book.renew(A) == ""


def test_an_idle_engine_is_stopped_without_force_and_an_unknown_one_only_with(book: LeaseBook) -> None:
    start(book)
    book.release("engine", "a")
    assert book.stop("engine", RUNS, force=False) == "" and book.over() == ["engine"]
    book.gone("engine")
    assert "--force" in book.stop("engine", RUNS, force=False) and book.over() == []
    assert book.stop("engine", RUNS, force=True) == "" and book.is_ours("engine", RUNS)


def test_a_thing_for_one_is_refused_to_a_second_and_a_killed_ones_is_made_anew(book: LeaseBook, clock: Clock) -> None:
    one, two = (Lease("service", who, who, alone=True) for who in ("one", "two"))
    start(book, one)
    assert book.ask(two, RUNS).why == "service is in use by one"
    clock.now += LEASE_S
    assert book.ask(two, RUNS).do == WAIT and book.over() == ["service"]
    book.gone("service")
    assert book.ask(two, NONE).do == DEPLOY


def test_serve_itself_is_held_and_nothing_is_left_when_all_have_gone(book: LeaseBook) -> None:
    start(book, replace(A, idle_s=0.0))
    assert book.ask(Lease(SERVE, "http"), NONE).do == THERE
    book.release("engine", "a")
    assert book.over() == ["engine"]
    book.gone("engine")
    assert not book.empty()
    book.release(SERVE, "http")
    assert book.over() == [SERVE]
    book.gone(SERVE)
    assert book.empty()


def test_what_is_reported_is_who_holds_it_and_for_how_long(book: LeaseBook, clock: Clock) -> None:
    start(book)
    clock.now += 10
    assert book.left("engine") == {"leases": [("a", 20)], "idle": None}
    clock.now += 25
    assert book.left("engine") == {"leases": [], "idle": (5, 10)}
