"""What the service says of images that are unlike the run, and of the uploads together."""

import io
import json
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageOps

import medsae_ray
from medsae_ray.cli import main
from medsae_ray.core.artifacts.likeness import LikenessMetrics, UnlikeTheRun
from medsae_ray.core.artifacts.metrics import metrics_of
from medsae_ray.service.app import make_app
from medsae_ray.service.desk import Desk
from medsae_ray.service.drift import FEW, Counts, Drift, shifts, unlike_figures
from tests.service.conftest import LIMITS, Small
from tests.support.typed import fits

PNG = {"content-type": "image/png"}


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def encoded(client: TestClient, data: bytes) -> dict[str, Any]:
    answer = client.post("/v1/encode?named=false&top=200", content=data, headers=PNG)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def test_an_image_of_the_run_has_the_distance_that_the_run_stored(small: Small, client: TestClient) -> None:
    likeness = small.run.artifacts["likeness"]
    table, uris = likeness.table(), small.run.artifacts["manifest"].table(["uri"])["uri"].to_pylist()
    metrics, flags = metrics_of(likeness, LikenessMetrics), []
    for uri, distance in zip(uris[:20], table["distance"].to_pylist(), strict=False):
        unlike = encoded(client, (small.images / uri).read_bytes())["unlike_the_run"]
        fits(unlike, UnlikeTheRun)
        assert unlike["distance"] == pytest.approx(distance, rel=1e-4)
        assert unlike["threshold"] == metrics["threshold"] and unlike["flag"] == (distance > metrics["threshold"])
        flags.append(unlike["flag"])
    assert sum(flags) < 10


def test_what_is_no_such_image_is_flagged(small: Small, client: TestClient) -> None:
    own = Image.open(sorted(small.images.glob("*.png"))[0])
    noise = np.random.default_rng(0).integers(0, 256, own.size, dtype=np.uint8)
    for image in (
        Image.new("L", own.size, 255),
        Image.new("L", own.size),
        Image.fromarray(noise),
        ImageOps.invert(own),
    ):
        unlike = encoded(client, png(image))["unlike_the_run"]
        assert unlike["flag"] is True and unlike["percentile"] == pytest.approx(100)


def test_an_activation_has_its_percentile_among_the_features_own(small: Small, client: TestClient) -> None:
    (feature,) = client.get("/v1/features?sort=n_active&order=descending&size=1").json()["features"]
    top = client.get(f"/v1/features/{feature['feature']}").json()["top_images"][0]
    manifest = small.run.artifacts["manifest"].table(["image_id", "uri"]).to_pylist()
    uri = next(row["uri"] for row in manifest if row["image_id"] == top["image_id"])
    rows = encoded(client, (small.images / uri).read_bytes())["features"]
    (strongest,) = (row for row in rows if row["feature"] == feature["feature"])
    assert strongest["percentile"] > 95 and all(0 <= row["percentile"] <= 100 for row in rows)


def test_the_verdict_is_called_that_of_the_name(small: Small, client: TestClient) -> None:
    data = sorted(small.images.glob("*.png"))[0].read_bytes()
    answers = [
        encoded(client, data),
        client.get("/v1/features?size=200").json(),
        client.get("/v1/features/0").json(),
        client.get("/v1/query?text=bright").json(),
        client.post("/v1/similar", content=data, headers=PNG).json(),
    ]
    for answer in answers:
        said = json.dumps(answer)
        assert '"name_verdict"' in said and '"verdict"' not in said


def test_similar_images_come_with_the_same_judgement(small: Small, client: TestClient) -> None:
    image_id, uri = (small.run.artifacts["manifest"].table([name])[name][3].as_py() for name in ("image_id", "uri"))
    data = (small.images / uri).read_bytes()
    own = client.get(f"/v1/similar?image_id={image_id}").json()["unlike_the_run"]
    sent = client.post("/v1/similar", content=data, headers=PNG).json()
    assert own == pytest.approx(sent["unlike_the_run"], rel=1e-4) and sent["unlike_the_run"] is not None
    here = medsae_ray.similar(small.recipe, small.root, small.images / uri)
    assert here["unlike_the_run"] == pytest.approx(own, rel=1e-4)
    assert [row["percentile"] for row in here["features"]] == [row["percentile"] for row in sent["features"]]


def test_a_run_of_before_is_served_without_a_judgement(small: Small) -> None:
    rest = {name: artifact for name, artifact in small.run.artifacts.items() if name != "likeness"}
    desk = Desk(replace(small.run, artifacts=rest), None, LIMITS)
    data = sorted(small.images.glob("*.png"))[0].read_bytes()
    with TestClient(make_app(desk, None), "http://localhost") as client:
        assert encoded(client, data)["unlike_the_run"] is None
        assert client.post("/v1/similar", content=data, headers=PNG).json()["unlike_the_run"] is None
        drift = client.get("/v1/drift").json()
    assert drift["uploads"] == 2 and drift["unlike_the_run"]["judged"] == 0


def test_the_drift_view_counts_uploads_and_keeps_none(small: Small) -> None:
    desk = Desk(small.run, None, LIMITS)
    with TestClient(make_app(desk, None), "http://localhost") as client:
        assert client.get("/v1/drift").json()["features"] == []
        assert "0 uploads" in client.get("/drift").text
        for path in sorted(small.images.glob("*.png"))[:15]:
            encoded(client, path.read_bytes())
        client.post("/v1/encode", content=b"no image", headers=PNG)
        for _ in range(15):
            encoded(client, png(Image.new("L", (24, 24), 255)))
        found, page = client.get("/v1/drift?top=3").json(), client.get("/drift").text
    assert found["uploads"] == 30 and found["window"] == LIMITS.window and len(found["features"]) == 3
    unlike = found["unlike_the_run"]
    assert 0.5 <= unlike["share"] < 0.8 and unlike["low"] > unlike["expected"] == pytest.approx(0.2)
    first = found["features"][0]
    assert first["q"] < 0.05 and not first["low"] < first["run_rate"] < first["high"]
    assert "30 uploads" in page and "Unlike the run" in page and page.count("<tr>") > 3


def test_the_oldest_uploads_leave_the_window() -> None:
    drift = Drift(3, window=100)
    for _ in range(500):
        drift.add([0], True)
    for _ in range(95):
        drift.add([1, 2], False)
    counts = drift.counts()
    assert counts.uploads == 95 and counts.active_F.tolist() == [0, 95, 95] and counts.unlike == 0
    drift.add([0], None)
    assert (drift.counts().uploads, drift.counts().judged) == (96, 95)


def test_uploads_from_many_threads_are_all_counted() -> None:
    drift = Drift(2, window=100_000)

    def send() -> None:
        for _ in range(500):
            drift.add([0, 1], True)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drift.counts().uploads == drift.counts().unlike == 4000


@pytest.mark.parametrize("window", ["3", "many", "-5"])
def test_a_window_without_figures_is_refused(window: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "phantom", "--root", "none", f"--window={window}"])
    assert "is not a number from 20 to 1000000" in capsys.readouterr().err


def test_few_uploads_have_no_figures() -> None:
    few = Counts(np.array([FEW - 1, 0]), FEW - 1, FEW - 1, FEW - 1)
    assert shifts(few, np.array([0.1, 0.1]), 5) == [] and unlike_figures(few, 0.98)["share"] is None


def test_equal_rates_are_no_shift() -> None:
    """Of 2,000 features at the run's own rates hardly one differs; one at another rate comes first."""
    rng = np.random.default_rng(0)
    rate_F = rng.random(2000) * 0.5
    active_F = rng.binomial(300, rate_F)
    active_F[7] = 290
    rows = shifts(Counts(active_F, 300, 300, 6), rate_F, 200)
    assert rows[0]["feature"] == 7 and rows[0]["q"] < 1e-6
    assert sum(row["q"] < 0.05 for row in rows) <= 3
    assert unlike_figures(Counts(active_F, 300, 300, 6), 0.98)["expected"] == pytest.approx(0.02)
