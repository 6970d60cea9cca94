"""The token is compared in constant time only, and nothing tells how much of a guess was right.

A measurement of times would fail by chance. Instead no secret may be compared in any other way than by
`hmac.compare_digest`: all other comparisons of it raise.
"""

import operator
from typing import Any, NoReturn

import pytest
from fastapi.testclient import TestClient

from medsae_ray.service import visitors
from medsae_ray.service.app import make_app
from medsae_ray.service.desk import Desk
from medsae_ray.service.middleware import digest
from tests.service.conftest import Small

TOKEN = "correct-horse-battery"
GUESSES = ["", TOKEN[0], TOKEN[:-1], TOKEN + "x", "x" + TOKEN[1:], TOKEN[:-1] + "x", digest(TOKEN), "é" * 16]


def _compared(*arguments: object, **more: object) -> NoReturn:
    raise AssertionError("a secret is compared, and not by hmac.compare_digest")


_COMPARISONS = (
    *("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__contains__", "__iter__", "__getitem__"),
    *("startswith", "endswith", "find", "index", "partition", "split", "removeprefix", "removesuffix"),
)


class SecretBytes(bytes):
    """Bytes that only functions of C may look at."""


class Secret(str):
    """A text that only functions of C may look at."""

    def encode(self, *how: Any) -> SecretBytes:
        return SecretBytes(super().encode(*how))


for _kind in (Secret, SecretBytes):
    _kind.__hash__ = _kind.__base__.__hash__  # type: ignore[assignment, union-attr]
    for _name in _COMPARISONS:
        if hasattr(_kind, _name):
            setattr(_kind, _name, _compared)


@pytest.fixture
def secretive(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    cookie = visitors.session_of(digest(TOKEN))
    monkeypatch.setattr(visitors, "session_of", lambda token: Secret(cookie))
    return TestClient(make_app(desk, Secret(digest(TOKEN))), "http://example.org", follow_redirects=False)


def test_another_comparison_of_a_secret_would_be_noticed() -> None:
    for compare in (lambda s: s == "x", lambda s: operator.eq("x", s), lambda s: s != "x", lambda s: s.startswith("x")):
        with pytest.raises(AssertionError, match="a secret is compared"):
            compare(Secret("secret"))
        with pytest.raises((AssertionError, TypeError)):
            compare(Secret("secret").encode())


@pytest.mark.parametrize("guess", GUESSES)
def test_a_guess_is_compared_in_constant_time_wherever_it_is_sent(secretive: TestClient, guess: str) -> None:
    bearer = {"authorization": f"Bearer {guess}".encode()}
    cookie = {"cookie": f"{visitors.SESSION}={guess}".encode()}
    answers = [secretive.get("/v1/features", headers=headers) for headers in (bearer, cookie)]
    answers.append(secretive.post("/sign-in", data={"token": guess}))
    assert [answer.status_code for answer in answers] == [401] * 3
    assert len({answer.content for answer in answers[:2]}) == 1


def test_the_right_token_is_found_by_the_same_comparison(secretive: TestClient, small: Small) -> None:
    assert secretive.get("/v1/features", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert secretive.post("/sign-in", data={"token": TOKEN}).status_code == 303
    assert secretive.get("/v1/features").status_code == 200  # by the cookie
