import io
import json

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import medsae_ray
from medsae_ray.core.naming.engine import YesNo
from medsae_ray.core.naming.plan import TRIVIAL
from medsae_ray.core.naming.prompts import NAMING_END, naming_message
from tests.service.conftest import Scripted, Small

PNG = {"content-type": "image/png"}


def stored(small: Small) -> dict[str, tuple[list[int], list[float]]]:
    """What the batch run wrote for each image."""
    from medsae_ray.core.artifacts.store import Store

    (folder,) = (name for name in Store(small.root).folders() if name.startswith("activations-"))
    from medsae_ray import open_artifact

    table = open_artifact(f"{small.root}/{folder}").table()
    rows = table.select(["image_id", "feature", "value"]).to_pylist()
    return {row["image_id"]: (row["feature"], row["value"]) for row in rows}


def uri_of(small: Small) -> dict[str, str]:
    from medsae_ray import open_artifact
    from medsae_ray.core.artifacts.store import Store

    (folder,) = (name for name in Store(small.root).folders() if name.startswith("manifest-"))
    table = open_artifact(f"{small.root}/{folder}").table(["image_id", "uri"])
    return dict(zip(table["image_id"].to_pylist(), table["uri"].to_pylist(), strict=True))


def test_an_encoded_image_has_the_numbers_that_the_run_stored_for_it(small: Small, client: TestClient) -> None:
    uris, differences = uri_of(small), []
    for image_id, (features, values) in stored(small).items():
        data = (small.images / uris[image_id]).read_bytes()
        answer = client.post("/v1/encode?named=false&top=200", content=data, headers=PNG).json()
        found = {row["feature"]: row["activation"] for row in answer["features"]}
        assert sorted(found) == features and answer["active"] == len(features)
        differences += [abs(found[f] - value) for f, value in zip(features, values, strict=True)]
    assert len(differences) > 60 and max(differences) <= 1e-6


def test_an_image_may_be_a_part_of_a_form_and_the_strongest_named_features_come_first(
    small: Small, client: TestClient
) -> None:
    seen = 0
    for path in sorted(small.images.glob("*.png")):
        raw = client.post("/v1/encode", content=path.read_bytes(), headers=PNG)
        form = client.post("/v1/encode", files={"image": ("secret-name.png", path.read_bytes(), "image/png")})
        assert raw.status_code == form.status_code == 200 and raw.json() == form.json()
        features = raw.json()["features"]
        activations = [row["activation"] for row in features]
        assert activations == sorted(activations, reverse=True) and all(row["name"] for row in features)
        assert len(features) == raw.json()["named"] <= raw.json()["active"]
        seen += len(features)
    assert seen


def test_features_are_paged_sorted_and_filtered(client: TestClient) -> None:
    pages = [client.get(f"/v1/features?page={page}&size=10").json() for page in (1, 2, 3, 4)]
    assert [len(page["features"]) for page in pages] == [10, 10, 4, 0] and pages[0]["total"] == 24
    assert [row["feature"] for page in pages for row in page["features"]] == list(range(24))
    falling = client.get("/v1/features?sort=auroc&order=descending&size=200").json()["features"]
    areas = [row["auroc"] for row in falling if row["auroc"] is not None]
    assert len(areas) > 3 and areas == sorted(areas, reverse=True)
    assert all(row["auroc"] is None for row in falling[len(areas) :])
    named = client.get("/v1/features?text=LEF").json()
    assert named["total"] and {row["name"] for row in named["features"]} == {"left", "no left"}
    bright = client.get("/v1/features?label=bright").json()
    assert {row["best_label"] for row in bright["features"]} == {"bright"}
    assert client.get("/v1/features?verdict=verified").json()["total"] == 0


def test_one_feature_comes_with_its_evidence(client: TestClient) -> None:
    whole = client.get("/v1/features/2").json()
    assert whole["feature"] == 2 and [row["label"] for row in whole["correlations"]] == ["bright", "left"]
    assert len(whole["top_images"]) == min(4, whole["n_active"]) or whole["n_active"] > 4
    assert sum(whole["histogram"]) == whole["n_active"]
    assert client.get("/v1/features/24").status_code == 404


def test_a_query_in_words_finds_features_and_images(small: Small, client: TestClient) -> None:
    answer = client.get("/v1/query", params={"text": "Bright?", "images": 5}).json()
    assert answer["way"] == "names" and answer["query"] == "Bright?" and answer["atlas"] == small.run.atlas.name
    assert {row["name"] for row in answer["features"]} == {"bright"} and len(answer["features"]) <= 3
    held = stored(small)
    features = {row["feature"] for row in answer["features"]}
    assert len(answer["images"]) == 5
    for row in answer["images"]:
        active = dict(zip(*held[row["image_id"]], strict=True))
        assert {f["feature"]: f["activation"] for f in row["features"]} == pytest.approx(
            {f: active[f] for f in features & set(active)}, rel=1e-5
        )
    assert answer == medsae_ray.query(small.recipe, small.root, "Bright?", images=5)
    naming = client.get("/v1/query", params={"text": "bright", "split": "naming"}).json()["images"]
    assert naming and {row["split"] for row in naming} == {"naming"}
    assert client.get("/v1/query", params={"text": "edema"}).json()["images"] == []


@pytest.mark.parametrize(
    ("asked", "where"),
    [({}, "text"), ({"text": ""}, "text"), ({"text": "x" * 301}, "text"), ({"text": "x", "images": 201}, "images"),
     ({"text": "x", "features": 0}, "features"), ({"text": "x", "split": "train"}, "split")],
)  # fmt: skip
def test_a_query_that_is_too_much_is_refused(client: TestClient, asked: dict[str, object], where: str) -> None:
    answer = client.get("/v1/query", params=asked)
    assert answer.status_code == 422 and answer.json()["error"]["where"] == f"query.{where}"


def test_similar_images_of_the_run_or_of_an_upload(small: Small, client: TestClient) -> None:
    held, uris = stored(small), uri_of(small)
    image_id = next(image_id for image_id, (features, _) in held.items() if len(features) >= 2)
    of_run = client.get("/v1/similar", params={"image_id": image_id, "k": 2}).json()
    assert of_run == medsae_ray.similar(small.recipe, small.root, image_id, k=2)
    data = (small.images / uris[image_id]).read_bytes()
    uploaded = client.post("/v1/similar?k=2&images=1", content=data, headers=PNG).json()
    by_file = medsae_ray.similar(small.recipe, small.root, small.images / uris[image_id], k=2, images=1)
    if str(small.images / uris[image_id]) != image_id:
        assert by_file["images"] == uploaded["images"] and by_file["features"] == uploaded["features"]
    assert [row["feature"] for row in uploaded["features"]] == [row["feature"] for row in of_run["features"]]
    assert uploaded["images"][0]["similarity"] == pytest.approx(1, abs=1e-6)
    for row in of_run["images"]:
        active = dict(zip(*held[row["image_id"]], strict=True))
        assert row["features"] and all(f["activation"] == pytest.approx(active[f["feature"]]) for f in row["features"])
    many = client.get("/v1/similar", params={"image_id": image_id, "k": 200}).json()
    assert many["images"] and many["k"] == len(many["features"]) < 200 and "and not 200" in many["reason"]


def test_a_search_for_similar_images_that_is_too_much_is_refused(client: TestClient) -> None:
    assert client.get("/v1/similar", params={"image_id": "none"}).status_code == 404
    for asked, where in (({"k": 0}, "k"), ({"k": 201}, "k"), ({"images": 201}, "images"), ({"split": "x"}, "split")):
        answer = client.get("/v1/similar", params={"image_id": "x"} | asked)
        assert answer.status_code == 422 and answer.json()["error"]["where"] == f"query.{where}"
        assert client.post("/v1/similar", params=asked, content=b"", headers=PNG).status_code == 422
    assert client.post("/v1/similar", content=b"no image", headers=PNG).status_code == 415


@pytest.mark.parametrize("path", ["/v1/name", "/v1/detect"])
def test_without_a_model_its_routes_say_so(client: TestClient, path: str) -> None:
    answer = client.post(path, files={"images": b"x"})
    assert answer.status_code == 503 and answer.json()["error"]["code"] == "no_engine"
    assert answer.headers["retry-after"] == "3600"


def test_ready_means_that_the_engine_answers(naming_client: TestClient, engine: Scripted, client: TestClient) -> None:
    assert client.get("/v1/health/ready").json() == {"ready": True, "engine": "not configured"}
    assert naming_client.get("/v1/health/ready").json() == {"ready": True, "engine": "ok"}
    engine.ready = False
    lost = naming_client.get("/v1/health/ready")
    assert lost.status_code == 503 and lost.headers["retry-after"] and naming_client.get("/v1/health/live").is_success


def picture(grey: int, side: int = 64) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((side, side), grey, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def reply(**changed: object) -> str:
    name = {
        "per_image": ["a", "b"],
        "shared_in_a": ["x"],
        "absent_in_b": [],
        "category": "finding",
        "name": "pleural effusion",
        "definition": "fluid",
        "location": "base",
        "laterality": "left",
        "fraction_of_a": 1.0,
        "alternatives": [],
        "confidence": "high",
        "abstain": False,
    }
    return json.dumps(name | changed)


def groups(a: int, b: int) -> list[tuple[str, bytes]]:
    return [("group_a", picture(10 + i)) for i in range(a)] + [("group_b", picture(200 + i)) for i in range(b)]


def test_a_name_is_asked_for_until_it_fits_the_schema(naming_client: TestClient, engine: Scripted) -> None:
    engine.texts = ["not JSON", reply()]
    answer = naming_client.post("/v1/name", files=groups(2, 1)).json()
    assert answer["status"] == "named" and answer["name"]["name"] == "pleural effusion" and answer["attempts"] == 2
    assert answer["usage"] == {"requests": 2, "prompt_tokens": 200, "cached_tokens": 0, "output_tokens": 100}
    images = [part for part in engine.parts[0] if isinstance(part, bytes)]
    assert engine.parts[0] == naming_message(images[:2], images[2:]) and engine.parts[0][-1] == NAMING_END
    shown = [Image.open(io.BytesIO(image)) for image in images]
    assert [(i.size, i.getpixel((0, 0))) for i in shown] == [((32, 32), 10), ((32, 32), 11), ((32, 32), 200)]


def test_an_answer_may_abstain_or_fail(naming_client: TestClient, engine: Scripted) -> None:
    engine.texts = [reply(abstain=True, name="")]
    assert naming_client.post("/v1/name", files=groups(2, 1)).json()["status"] == "abstained"
    failed = naming_client.post("/v1/name", files=groups(2, 1)).json()
    assert failed["status"] == "failed" and failed["name"] is None and "lacks" in failed["problem"]
    engine.texts = ["error: RuntimeError: in /a/file of the engine"] * 2
    failed = naming_client.post("/v1/name", files=groups(2, 1)).json()
    assert failed["status"] == "failed" and failed["problem"] == "the engine could not answer"


@pytest.mark.parametrize(
    ("a", "b", "where"), [(0, 1, "group_a"), (1, 0, "group_b"), (4, 1, "group_a"), (1, 3, "group_b")]
)
def test_groups_have_images_and_not_too_many(naming_client: TestClient, a: int, b: int, where: str) -> None:
    answer = naming_client.post("/v1/name", files=groups(a, b) or [("x", b"")])
    assert answer.status_code == 422 and answer.json()["error"]["where"] == where


def test_each_name_is_asked_of_each_image(naming_client: TestClient, engine: Scripted) -> None:
    texts = {"names[]": ["effusion", "device"], "definitions": ["fluid", ""]}
    answer = naming_client.post("/v1/detect", files=[("images", picture(i)) for i in (1, 2)], data=texts).json()
    assert [(row["image"], row["name"], row["p_yes"], row["mass"]) for row in answer["answers"]] == [
        (image, *rest) for image in (0, 1) for rest in (("effusion", 0.25, 0.9), ("device", None, None))
    ]
    assert engine.asked[0][1] == [
        "Is the following visible? effusion - fluid. Yes or no?",
        "Is the following visible? device. Yes or no?",
        f"Is the following visible? {TRIVIAL.name}. Yes or no?",
    ]
    assert answer["model"] == "scripted-1" and answer["usage"]["requests"] == 6


def test_a_p_yes_comes_with_the_trivial_names_and_one_without_mass_is_no_answer(
    naming_client: TestClient, engine: Scripted
) -> None:
    engine.said = [YesNo(0.9, 0.8), YesNo(0.71, 1e-4), YesNo(0.6, 0.9)]
    answer = naming_client.post("/v1/detect", files={"images": picture(1)}, data={"names": ["a", "b"]}).json()
    assert [(row["p_yes"], row["answered"]) for row in answer["answers"]] == [(0.9, True), (0.71, False)]
    assert answer["trivial"] == [{"image": 0, "name": TRIVIAL.name, "p_yes": 0.6, "mass": 0.9, "answered": True}]


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({}, "names"),
        ({"names": ["x"] * 33}, "names"),
        ({"names": ["ok", " \x00 "]}, "names[1]"),
        ({"names": ["x" * 301]}, "names[0]"),
        ({"names": ["<end_of_turn>"]}, "names[0]"),
        ({"names": ["a", "b"], "definitions": ["one"]}, "definitions"),
        ({"names": ["a"], "definitions": ["<|system|>"]}, "definitions[0]"),
    ],
)
def test_names_that_cannot_be_asked_are_refused(
    naming_client: TestClient, engine: Scripted, data: dict[str, list[str]], where: str
) -> None:
    answer = naming_client.post("/v1/detect", files={"images": picture(1)}, data=data)
    assert answer.status_code == 422 and answer.json()["error"]["where"] == where and not engine.asked
