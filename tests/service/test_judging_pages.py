import io
import re
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from medsae_ray.service.app import make_app
from medsae_ray.service.desk import Desk
from tests.service.test_judgements import judged, judges, log_of, tested

__all__ = ["judged", "judges", "tested"]  # fixtures
HOST = {"origin": "http://localhost", "sec-fetch-site": "same-origin"}


def forms(page: str) -> list[dict[str, str]]:
    """The fields of each form, as a browser without scripts would send them."""
    found = []
    for action, body in re.findall(r'<form method="post" action="([^"]+)".*?>(.*?)</form>', page, flags=re.DOTALL):
        fields = re.findall(r'<input[^>]*? name="(\w+)"(?: value="([^"]*)")?', body)
        found.append({"action": action} | {name: unescape(value) for name, value in fields})
    return found


def send(client: TestClient, form: dict[str, str], **filled: str) -> Any:
    sent = {**form, **filled}
    return client.post(sent.pop("action"), data=sent, headers=HOST, follow_redirects=False)


def test_a_reader_judges_before_the_verdict_is_shown(tested: Desk) -> None:
    with TestClient(make_app(tested, None), "http://localhost") as client:
        found = client.get("/v1/features?size=200").json()["features"]
        feature = next(one["feature"] for one in found if one["name"] and one["name_verdict"])
        path, verdict = f"/judge/{feature}", tested.atlas.verdicts()[feature]
        assert verdict is not None
        blind = client.get(path).text
        assert verdict not in blind and "once you have voted" in blind and len(forms(blind)) == 4
        vote = forms(blind)[0]
        for _ in range(2):  # a form that is sent twice counts once
            answer = send(client, vote, reader="Ada <b>", value="agree", reason="<script>alert(1)</script>")
            assert (answer.status_code, answer.headers["location"]) == (303, path)
        assert verdict not in client.get(path).text and verdict in client.get(f"{path}?verdict=shown").text
        client.post("/sign-in", data={"reader": "Ada <b>"}, headers=HOST)
        shown = client.get(path).text
        assert verdict in shown and "Ada &lt;b&gt;" in shown and "<script>alert" not in shown and "<b>" not in shown
        send(client, forms(shown)[1], value="a better one")
        send(client, forms(shown)[3], reason="a letter")
    kept = log_of(tested).read().judgements
    assert [(one.kind, one.value, one.blind) for one in kept] == [
        ("vote", "agree", True),
        ("rename", "a better one", False),
        ("not_a_finding", None, False),
    ]
    assert {one.reader for one in kept} == {"Ada <b>"}


def test_a_study_is_read_to_its_end_without_a_script(tested: Desk) -> None:
    with TestClient(make_app(tested, None), "http://localhost") as client:
        start = send(client, forms(client.get("/study").text)[0], name="pilot", size="5", seed="7")
        assert start.headers["location"] == "/study/pilot" and 'href="/study/pilot"' in client.get("/study").text
        asked = client.get("/study/pilot", follow_redirects=False)
        assert asked.headers["location"] == "/sign-in?next=/study/pilot"
        client.post("/sign-in", data={"reader": "Ada"}, headers=HOST)
        seen = []
        for place in range(5):
            page = client.get("/study/pilot").text
            (form,) = forms(page)
            assert f"feature {place + 1} of 5" in page and "verified" not in page and "rejected" not in page
            seen.append(int(form["feature"]))
            value = "agree" if seen[-1] % 2 == 0 else "disagree"
            assert send(client, form, value=value).headers["location"] == "/study/pilot"
        end = client.get("/study/pilot").text
        assert "is read" in end and "Ada and the model" in end and "100 %" in end
        assert client.get("/v1/studies/pilot?reader=Bo").json()["left"] == len(set(seen)) == 5
    assert all(one.blind and one.study == "pilot" for one in log_of(tested).read().judgements)


def test_the_images_are_the_features_strongest(judges: TestClient) -> None:
    page = judges.get("/v1/features?sort=n_active&order=descending&size=1").json()["features"]
    feature = page[0]["feature"]
    count = len(judges.get(f"/v1/features/{feature}").json()["top_images"])
    sources = re.findall(r'<img src="([^"]+)"', judges.get(f"/judge/{feature}").text)
    assert len(sources) == count > 0
    for source in sources:
        answer = judges.get(source)
        assert answer.headers["content-type"] == "image/png" and Image.open(io.BytesIO(answer.content)).mode == "L"
    assert judges.get(f"/judge/{feature}/{count}.png").status_code == judges.get("/judge/24").status_code == 404


@pytest.mark.parametrize("path", ["/judge/2", "/study"])
def test_no_form_of_another_site_is_taken(judges: TestClient, judged: Desk, path: str) -> None:
    sent = {"reader": "r", "kind": "vote", "value": "agree", "name": "x", "size": "1"}
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        assert judges.post(path, data=sent, headers=headers).status_code == 403
    assert log_of(judged).read() == ([], 0)
    policy = judges.get(path).headers["content-security-policy"]
    assert "default-src 'self'" in policy and "style=" not in judges.get(path).text


def test_what_a_form_lacks_is_refused(judges: TestClient) -> None:
    for sent in ({"value": "agree"}, {"reader": "r", "value": "maybe"}, {"reader": "r", "kind": "praise"}):
        assert judges.post("/judge/2", data=sent, headers=HOST).status_code == 422
    assert judges.get("/judging.js").headers["content-type"].startswith("text/javascript")


def test_a_run_whose_images_are_hidden_shows_none_to_a_reader(tested: Desk) -> None:
    feature = next(f for f, v in tested.atlas.verdicts().items() if v is not None)
    with TestClient(make_app(tested, None), "http://localhost") as client:
        assert client.get(f"/judge/{feature}/0.png").status_code == 200
    hidden = Desk(replace(tested.run, images="none"), None, tested.limits)
    with TestClient(make_app(hidden, None), "http://localhost") as client:
        assert client.get(f"/judge/{feature}/0.png").status_code == 404
