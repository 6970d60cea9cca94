from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from medsae_ray.service.app import Desk, make_app
from medsae_ray.service.middleware import digest
from medsae_ray.service.visitors import own_path, session_of

TOKEN = "correct-horse-battery"
BROWSER = {"accept": "text/html,application/xhtml+xml"}
HOST = "http://example.org"


@pytest.fixture
def locked(desk: Desk) -> Iterator[TestClient]:
    app = make_app(desk, digest(TOKEN))
    with TestClient(app, HOST, raise_server_exceptions=False, follow_redirects=False) as client:
        yield client


def test_a_browser_is_led_to_the_sign_in_and_back(locked: TestClient) -> None:
    led = locked.get("/v1/features?size=3&text=a%20b", headers=BROWSER)
    assert led.status_code == 303 and led.headers["location"].startswith("/sign-in?next=")
    form = locked.get(led.headers["location"])
    assert 'name="next" value="/v1/features?size=3&amp;text=a%20b"' in form.text and "<script" not in form.text
    sent = {"token": TOKEN, "reader": "Dr Çelik", "next": "/v1/features?size=3&text=a%20b"}
    signed = locked.post("/sign-in", data=sent, headers={"origin": HOST})
    assert (signed.status_code, signed.headers["location"]) == (303, sent["next"])
    assert locked.get(signed.headers["location"]).json()["size"] == 3
    assert locked.post("/sign-out").headers["location"] == "/sign-in"
    assert locked.get("/v1/features").status_code == 401


def test_the_cookies_are_out_of_reach_of_scripts_and_other_sites_and_do_not_tell_the_token(locked: TestClient) -> None:
    signed = locked.post("/sign-in", data={"token": TOKEN, "reader": "r"}, headers={"origin": HOST})
    cookies = signed.headers.get_list("set-cookie")
    assert len(cookies) == 2
    for cookie in cookies:
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Secure" not in cookie
        assert TOKEN not in cookie and digest(TOKEN) not in cookie
    encrypted = {"origin": "https://example.org"}
    for cookie in locked.post("/sign-in", data={"token": TOKEN}, headers=encrypted).headers.get_list("set-cookie"):
        assert "Secure" in cookie


@pytest.mark.parametrize("token", ["", TOKEN[:-1], TOKEN + "x", digest(TOKEN), "é" * 16])
def test_a_wrong_token_shows_the_form_again(locked: TestClient, token: str) -> None:
    answer = locked.post("/sign-in", data={"token": token, "next": "/docs"})
    assert answer.status_code == 401 and "not the token" in answer.text and 'value="/docs"' in answer.text
    assert "set-cookie" not in answer.headers and "www-authenticate" not in answer.headers


@pytest.mark.parametrize("value", ["", "x", digest(TOKEN), session_of(digest("another-token-of-16")), "\xe9"])
def test_another_cookie_opens_nothing(locked: TestClient, value: str) -> None:
    headers = {"cookie": f"medsae_session={value}".encode("latin-1")}
    assert locked.get("/v1/features", headers=headers).status_code == 401
    right = {"cookie": f"a=b; medsae_session={session_of(digest(TOKEN))}"}
    assert locked.get("/v1/features", headers=right).status_code == 200


def test_without_a_token_only_the_name_is_asked_for(client: TestClient) -> None:
    assert 'name="token"' not in client.get("/sign-in").text
    signed = client.post("/sign-in", data={"reader": "<b>R"}, follow_redirects=False)
    (cookie,) = signed.headers.get_list("set-cookie")
    assert cookie.startswith("medsae_reader=%3Cb%3ER;")
    assert 'value="&lt;b&gt;R"' in client.get("/sign-in").text


@pytest.mark.parametrize("where", ["//evil.example", "https://evil.example", r"/\evil.example", "", "/a\nb", "x"])
def test_the_sign_in_leads_nowhere_else(locked: TestClient, where: str) -> None:
    assert own_path(where) == "/" and own_path("/features/3?x=1") == "/features/3?x=1"
    assert locked.post("/sign-in", data={"token": TOKEN, "next": where}).headers["location"] == "/"


FOREIGN = [
    {"origin": "https://evil.example"},
    {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
    {"origin": "null"},
    {"origin": "http://localhost:9999"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site", "origin": "http://localhost"},
    {"sec-fetch-site": "sideways"},
]
OWN = [
    {},
    {"origin": "http://localhost"},
    {"origin": "http://LOCALHOST", "sec-fetch-site": "same-origin"},
    {"origin": "null", "sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "none"},
]


@pytest.mark.parametrize("path", ["/v1/encode", "/v1/detect", "/sign-in", "/v1/nothing"])
def test_a_page_of_another_site_can_send_nothing(client: TestClient, path: str) -> None:
    for headers in FOREIGN:
        answer = client.post(path, headers=headers)
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "foreign_origin", headers
    for headers in OWN:
        assert client.post(path, headers=headers, follow_redirects=False).status_code != 403, headers


@pytest.mark.parametrize("path", ["/v1/features", "/sign-in", "/nothing", "/docs"])
def test_no_page_is_shown_within_another(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-frame-options"] == "DENY" and "frame-ancestors 'none'" in headers["content-security-policy"]
    assert (headers["referrer-policy"], headers["cross-origin-resource-policy"]) == ("same-origin", "same-origin")
