"""Names ranked among five, by servers that see, that do not, and that cannot rank, through the client of OpenAI's API.

Every image has one to three of twelve signs, each a bright block; a sign is a label and activates three features.
"""

import base64
import io
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from rich.console import Console

from medsae_ray.config import parse_recipe
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.rankings import RankingsMetrics
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.datasets.rows import Rows, to_manifest
from medsae_ray.core.report.rankings import rankings_section
from medsae_ray.errors import RecipeError
from medsae_ray.outputs.rankings import rankings_table
from medsae_ray.pipeline import STAGES
from medsae_ray.preflight.judge_columns import column_problems
from medsae_ray.runtime.run import Run
from tests.core.made import Cohort, activations_table, artifact, embeddings_table
from tests.engine.chat_server import Reply, chat_server
from tests.support.small import recipe_data
from tests.support.typed import fits

SIGNS, COPIES, IMAGES, SIDE, SHARD = 12, 3, 360, 32, 50
BLOCK = SIDE // 4


def drawn(signs: np.ndarray) -> Image.Image:
    pixels = np.full((SIDE, SIDE), 60, np.uint8)
    for sign in np.flatnonzero(signs):
        row, column = divmod(int(sign), 4)
        pixels[row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK] = 220
    return Image.fromarray(pixels)


class Made(NamedTuple):
    root: Path
    parents: dict[str, Artifact]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root, rng = tmp_path_factory.mktemp("signs"), np.random.default_rng(0)
    y = np.zeros((IMAGES, SIGNS))
    for row in y:
        row[rng.choice(SIGNS, rng.integers(1, 4), replace=False)] = 1
    z = np.tile(y, COPIES) * rng.uniform(0.5, 3, (IMAGES, SIGNS * COPIES))
    (root / "files").mkdir()
    for number, signs in enumerate(y):
        drawn(signs).save(root / "files" / f"i{number:05d}.png")
    images = [f"i{n:05d}" for n in range(IMAGES)]
    first = [int(np.flatnonzero(row)[0]) for row in y]
    metadata = {
        "sex": pa.array(rng.choice(["F", "M"], IMAGES).tolist()),
        "ward": pa.array([f"w{s if rng.random() < 0.8 else rng.integers(SIGNS)}" for s in first]),
        "note": pa.array([f"came from {n}" for n in images]),
    }
    labels = {f"sign {s}": pa.array(y[:, s].astype(np.int8)) for s in range(SIGNS)}
    rows = Rows("small", images, [f"p{n}" for n in range(IMAGES)], [f"{n}.png" for n in images], labels, metadata)
    manifest = to_manifest(rows, {"sae": 0.2, "naming": 0.4, "detection": 0.4}, "s", SHARD)
    cohort = Cohort(np.array(rows.patient_id), y, rng.normal(size=(IMAGES, 3)).astype(np.float32),
                    z.astype(np.float32), np.ones(IMAGES, dtype=bool))  # fmt: skip
    shards = np.split(np.arange(IMAGES), range(SHARD, IMAGES, SHARD))
    parents = {
        "manifest": artifact(root, "manifest", [manifest]),
        "embeddings": artifact(root, "embeddings", [embeddings_table(cohort, part) for part in shards]),
        "activations": artifact(root, "activations", [activations_table(cohort, part) for part in shards]),
        "sae": artifact(root, "sae", [manifest]),
    }
    parents["manifest"].record.metrics.update({"labels": list(labels), "audit": {"patients": IMAGES}})
    parents["sae"].record.metrics.update({"config": {"width": SIGNS * COPIES}})
    return Made(root, parents)


def recipe(made: Made, url: str, **judge: Any) -> dict[str, Any]:
    data = recipe_data(made.root / "files" / "t.csv", made.root / "w.onnx", engine="loop")
    data["what"]["naming"] = {"image_size": SIDE, "judge": judge}
    data["how"]["vlm"] = {"model": "tiny", "url": url, "in_flight": 4}
    return data


class Ranked(NamedTuple):
    artifact: Artifact
    metrics: dict[str, Any]
    asked: int


def ranked(made: Made, place: Path, reply: Reply, **judge: Any) -> Ranked:
    """What the stage makes with a server, below a root of its own."""
    with (
        chat_server(reply) as (url, asked),
        Run(parse_recipe(recipe(made, url, **judge)), Store(str(place)), STAGES, Console(quiet=True)) as run,
    ):
        stage = STAGES["rankings"]
        draft = run.draft(stage, made.parents)
        found = stage.make(run, draft)
        fits(found.metrics, RankingsMetrics)
        assert rankings_section(found.metrics).rows and rankings_table(found.metrics).row_count
        return Ranked(draft.commit(found.files, found.metrics, {"start": "", "end": ""}), found.metrics, len(asked))


def seen(part: dict[str, Any]) -> frozenset[int]:
    """The signs of a picture."""
    data = base64.b64decode(part["image_url"]["url"].partition(",")[2])
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=float)
    blocks = pixels.reshape(4, BLOCK, 4, BLOCK).mean(axis=(1, 3)).ravel()
    return frozenset(np.flatnonzero(blocks[:SIGNS] > 140).tolist())


def answered(text: str) -> tuple[int, Any]:
    likely = [{"token": token, "logprob": math.log(0.5)} for token in ("yes", "no")]
    return 200, {"choices": [{"message": {"content": text}, "logprobs": {"content": [{"top_logprobs": likely}]}}]}


def sighted(body: dict[str, Any], shift: int = 0) -> tuple[int, Any]:
    """Names what most images show, or most descriptions say, and ranks names by as many; `shift` misnames signs."""
    if "response_format" not in body:
        return answered("yes")
    parts = body["messages"][0]["content"]
    pictures = [seen(part) for part in parts if part["type"] == "image_url"]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    told = [line for line in texts if line.startswith("Image ")]
    if "name" in body["response_format"]["json_schema"]["schema"]["properties"]:
        if pictures:
            sign, _ = Counter(sorted(s for one in pictures for s in one)).most_common(1)[0]
            return answered(json.dumps({"name": f"sign {(sign + shift) % SIGNS}"}))
        wards = Counter(sorted(re.findall(r"ward: \w+", " ".join(told))))
        return answered(json.dumps({"name": wards.most_common(1)[0][0]}))
    names = dict(re.findall(r"^([A-E]): (.*)$", texts[-1], flags=re.MULTILINE))
    fit = {
        letter: sum(name == f"sign {sign}" for one in pictures for sign in one)
        + sum(f"{name};" in f"{t};" for t in told)
        for letter, name in names.items()
    }
    return answered(json.dumps({"ranking": sorted(names, key=lambda letter: (-fit[letter], letter))}))


def misnaming(body: dict[str, Any]) -> tuple[int, Any]:
    return sighted(body, 5)


def blind(body: dict[str, Any]) -> tuple[int, Any]:
    """Gives every feature another name, and ranks by letter."""
    if "name" not in str(body.get("response_format", {}).get("json_schema", {})):
        return answered("yes")
    if '"ranking"' in json.dumps(body["response_format"]):
        return answered('{"ranking": ["A", "B", "C", "D", "E"]}')
    return answered(json.dumps({"name": f"thing {crc32(json.dumps(body).encode())}"}))


def babbling(body: dict[str, Any]) -> tuple[int, Any]:
    """As `sighted`, but two rankings of three are no ranking."""
    status, whole = sighted(body)
    if "ranking" in str(body.get("response_format")) and crc32(json.dumps(body).encode()) % 3:
        return answered("A fits best")
    return status, whole


@pytest.fixture(scope="module")
def arms(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Ranked:
    return ranked(made, tmp_path_factory.mktemp("arms"), sighted, columns=["sex", "ward"])


def test_planted_names_succeed_and_each_arm_stands_beside_chance(arms: Ranked) -> None:
    found = arms.metrics["arms"]
    assert found["images"]["named"] == SIGNS * COPIES and found["images"]["distinct_names"] == SIGNS
    assert found["images"]["success"] >= 0.8 and found["images"]["success_low"] > 0.4 == found["images"]["chance"]
    assert found["images"]["sight"] == "seen" and found["images"]["doubt"] is None
    assert found["both"]["success"] >= 0.8
    told = found["metadata"]
    assert told["labels"]["success_low"] < 0.4 < told["labels"]["success_high"], "metadata does not hold the labels"
    assert told["sight"] == "blind" and told["named"] == SIGNS * COPIES
    assert arms.metrics["columns"] == ["sex", "ward"] and arms.metrics["labels_shown"] is False


def test_rows_say_how_each_rank_came_about(arms: Ranked, made: Made) -> None:
    split = {row["image_id"]: row["split"] for row in made.parents["manifest"].table().to_pylist()}
    for row in arms.artifact.table().to_pylist():
        assert row["status"] == "ranked" and row["reason"] is None
        assert row["names"]["ABCDE".index(row["letter"])] == row["name"]
        assert row["ranking"].index(row["letter"]) + 1 == row["rank"] and json.loads(row["answer"])
        assert {split[image] for image in row["judged_on"]} == {"detection"} and len(set(row["judged_on"])) == 5
        if row["feature"] is not None:
            assert {split[image] for image in row["named_from"]} == {"naming"} and len(row["rivals"]) == 4
    rows = [row for row in arms.artifact.table().to_pylist() if row["feature"] is not None]
    letters = {arm: {row["feature"]: row["letter"] for row in rows if row["arm"] == arm} for arm in ("images", "both")}
    assert letters["images"] == letters["both"], "one shuffle of the letters for each feature"


def test_misnamed_features_have_the_success_of_chance(made: Made, tmp_path: Path) -> None:
    found = ranked(made, tmp_path, misnaming).metrics["arms"]
    assert list(found) == ["images"] and found["images"]["sight"] == "seen"
    assert found["images"]["success_low"] < 0.4 < found["images"]["success_high"]
    assert found["images"]["doubt"] is None, "the judge sees, so the names are bad"


def test_a_judge_that_does_not_look_gives_no_number(made: Made, tmp_path: Path) -> None:
    found = ranked(made, tmp_path, blind).metrics
    figures = found["arms"]["images"]
    assert figures["sight"] == "blind" and "the same letters" in figures["doubt"] and figures["same_order"] == 1
    console = Console(record=True, width=160)
    console.print(rankings_table(found))
    assert "cannot be judged" in console.export_text()


def test_rankings_that_cannot_be_read_are_counted_apart(made: Made, tmp_path: Path) -> None:
    found = ranked(made, tmp_path, babbling)
    figures, rows = found.metrics["arms"]["images"], found.artifact.table().to_pylist()
    assert figures["ranked"] + figures["unparsed"] == SIGNS * COPIES and figures["ranked"] and figures["unparsed"]
    unread = [row for row in rows if row["status"] == "unparsed"]
    assert unread and all(row["rank"] is None and row["reason"] and row["answer"] == "A fits best" for row in unread)
    assert figures["sail"]["n"] == SIGNS * COPIES


def test_what_was_answered_is_not_asked_again(made: Made, tmp_path: Path) -> None:
    first = ranked(made, tmp_path, sighted)
    again = ranked(made, tmp_path, sighted)
    assert first.asked > 70 and again.asked == 1, "the one question that every server is first asked"
    assert again.artifact.table().equals(first.artifact.table())


def test_bad_input_is_rows_with_reasons(made: Made, tmp_path: Path) -> None:
    bare = made.parents["manifest"].table()
    few = bare.set_column(bare.schema.get_field_index("split"), bare.schema.field("split"),
                          pa.array(["naming"] * 4 + ["detection"] * (IMAGES - 4)))  # fmt: skip
    manifest = artifact(tmp_path, "manifest", [few.drop_columns([c for c in few.column_names if c.startswith("y_")])])
    manifest.record.metrics.update({"labels": [], "audit": {"patients": IMAGES}})
    found = ranked(Made(made.root, made.parents | {"manifest": manifest}), tmp_path, sighted)
    rows = found.artifact.table().to_pylist()
    assert rows and {row["status"] for row in rows} == {"insufficient_support"} and found.asked == 0
    assert all("5 of each are needed" in row["reason"] for row in rows)
    figures = found.metrics["arms"]["images"]
    assert figures["success"] is figures["mean_rank"] is None and figures["doubt"] == "no name was ranked"


def test_the_judge_changes_no_other_artifacts_name(made: Made, tmp_path: Path) -> None:
    with chat_server(sighted) as (url, _):
        data = recipe(made, url)
        names = []
        for naming in (data["what"]["naming"], {"image_size": SIDE}):
            data["what"] |= {"naming": naming}
            with Run(parse_recipe(data), Store(str(tmp_path)), STAGES, Console(quiet=True)) as run:
                samples = run.draft(STAGES["samples"], made.parents)
                parents = {"samples": made.parents["sae"], "manifest": made.parents["manifest"]}
                names.append((samples.name, run.draft(STAGES["names"], parents).name))
        assert names[0] == names[1]


@pytest.mark.parametrize("column", ["patient_id", "path", "study"])
def test_a_recipe_that_shows_an_identifier_is_refused(made: Made, column: str) -> None:
    with pytest.raises(RecipeError, match="names a patient, a study or a file"):
        parse_recipe(recipe(made, "http://host/v1", columns=[column]))


def test_columns_with_identifying_values_are_refused_without_quoting_them(made: Made) -> None:
    def problems(*columns: str) -> str:
        chosen = parse_recipe(recipe(made, "http://host/v1", columns=list(columns)))
        return "\n".join(str(problem) for problem in column_problems(chosen, made.parents["manifest"]))

    assert problems("sex", "ward") == ""
    said = problems("note", "warm", "sex")
    assert "values of one patient each" in said and "came from" not in said and "did you mean 'ward'?" in said
