import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import medsae_ray
from medsae_ray.cli import main
from medsae_ray.commands import checkpoints
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.judgements.log import Log
from medsae_ray.core.sae.formats.convert import FORMATS
from medsae_ray.pipeline import STAGES
from medsae_ray.runtime.progress import DOING
from tests.core.judgements.made import judgement
from tests.support.small import onnx_encoder, recipe_data, table_dataset


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe and the root that `medsae run` filled."""
    folder = tmp_path_factory.mktemp("cli")
    data = recipe_data(table_dataset(folder, 60), onnx_encoder(folder / "e.onnx"), engine="loop")
    (folder / "recipe.yaml").write_text(json.dumps(data))
    assert main(["run", str(folder / "recipe.yaml"), "--root", str(folder / "root")]) == 0
    return folder / "recipe.yaml", folder / "root"


def test_run_ends_with_a_table_and_the_path_of_the_report(
    finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, root = finished
    assert main(["run", str(recipe), "--root", str(root)]) == 0
    printed = capsys.readouterr().out.rstrip().splitlines()
    assert printed[-1] == f"report: {root}/report.html"
    assert any(line.split()[:2] == ["stage", "artifact"] for line in printed)


def test_a_root_may_be_relative(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: None
) -> None:
    recipe = json.loads(finished[0].read_text())
    recipe["how"]["engine"] = "ray"
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    monkeypatch.chdir(tmp_path)
    assert main(["stage", "sae", "recipe.yaml", "--root", "runs/here"]) == 0
    assert [p.name for p in (tmp_path / "runs" / "here").glob("sae-*/weights-*.safetensors")]


def test_training_that_cannot_be_followed_is_a_user_error(
    finished: tuple[Path, Path], tmp_path: Path, ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = json.loads(finished[0].read_text())
    recipe["how"]["engine"] = "ray"
    recipe["how"]["train"]["retries"] = 0
    recipe["what"]["sae"]["batch_size"] = 4096
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    assert main(["stage", "sae", str(tmp_path / "recipe.yaml"), "--root", str(tmp_path)]) == 1
    assert "batch_size = 4096 is above the" in capsys.readouterr().err


def test_a_query_prints_features_and_images(finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["query", str(finished[0]), "--root", str(finished[1]), "bright images"]
    assert main([*asked, "--images", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "features by the words of their names; score is BM25"
    assert lines[1].split() == ["name", "from", "verdict", "feature", "score", "p"] and "bright" in lines[2]
    images = [line.split() for line in lines if ".png" in line]
    assert len(images) == 4 and [row[-1] for row in images] == sorted((row[-1] for row in images), reverse=True)
    assert main([*asked, "--json", "--split", "sae"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["way"] == "names" and answer["features"][0]["name"] == "bright"
    assert {row["split"] for row in answer["images"]} == {"sae"}


def test_similar_images_are_printed(finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["similar", str(finished[0]), "--root", str(finished[1]), "i0000.png", "-k", "1"]
    assert main([*asked, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["k"] == 1 and answer["features"] and (answer["images"] or answer["reason"])
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert all(image["image_id"] in out for image in answer["images"])
    assert main([*asked[:-3], "no-such-image"]) == 1
    assert "neither an image of this run" in capsys.readouterr().err


def test_a_query_that_no_name_answers_says_so(
    finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["query", str(finished[0]), "--root", str(finished[1]), "pneumothorax"]) == 0
    assert capsys.readouterr().out.startswith("no feature answers this query")
    assert main(["query", str(finished[0]), "--root", str(tmp_path), "bright"]) == 1
    assert "medsae run RECIPE" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["query", str(finished[0]), "--root", str(finished[1]), "bright", "--images", "0"])


def test_show_says_what_an_artifact_holds(finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    (embeddings,) = finished[1].glob("embeddings-*")
    assert main(["show", str(embeddings)]) == 0
    printed = capsys.readouterr().out
    assert embeddings.name in printed and "fixed_size_list" in printed and "onnx" in printed


def test_show_lists_a_root_and_reads_a_summary(finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    _, root = finished
    assert main(["show", str(root)]) == 0
    printed = capsys.readouterr().out
    assert all(folder.name in printed for folder in root.glob("*-*") if folder.is_dir())
    (own,) = root.glob("report-*.html")
    assert f"report: {own}" in printed and f"report: {root}/report.html" in printed
    (kept,) = root.glob("summary-*.json")
    for summary in (root / "summary.json", kept):
        assert main(["show", str(summary)]) == 0
        printed = capsys.readouterr().out
        assert printed.startswith("small") and "held-out R2" in printed and f"report: {own}" in printed
    (record,) = root.glob("sae-*/record.json")
    assert main(["show", str(record)]) == 0
    assert record.parent.name in capsys.readouterr().out


@pytest.mark.parametrize("name", ["report.html", "sae-*/log-*.parquet", "sae-*/config-*.json", "nothing", "."])
def test_show_of_anything_else_is_a_user_error(
    finished: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (place,) = [tmp_path] if name == "." else list(finished[1].glob(name)) or [tmp_path / name]
    for command in ("show", "verify"):
        assert main([command, str(place)]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"medsae: {place} is ") and error.count("\n") == 1


def test_two_recipes_of_one_name_keep_two_reports(
    finished: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, root = json.loads(finished[0].read_text()), tmp_path / "root"
    shutil.copytree(finished[1], root)
    first = {page.name: page.read_bytes() for page in root.glob("*-small-*.*")}
    recipe["what"]["features"]["top_images"] = 3
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    assert main(["run", str(tmp_path / "recipe.yaml"), "--root", str(root)]) == 0
    kept, latest = capsys.readouterr().out.rstrip().splitlines()[-2:]
    assert len(list(root.glob("*-small-*.*"))) == 4
    assert all((root / name).read_bytes() == page for name, page in first.items())
    own = Path(kept.removeprefix("kept as: "))
    assert own.name not in first and own.read_bytes() == (root / "report.html").read_bytes()
    assert latest == f"report: {root}/report.html"
    assert main(["run", str(finished[0]), "--root", str(root)]) == 0
    assert len(list(root.glob("*-small-*.*"))) == 4
    assert json.loads((root / "summary.json").read_text())["report"] in first


def test_a_finished_run_whose_root_cannot_be_written_prints_its_results(
    finished: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    shutil.copytree(finished[1], root)
    (page,) = root.glob("report-*.html")
    for name in (page.name, "report.html"):
        (root / name).unlink()
        (root / name).mkdir()
    assert main(["run", str(finished[0]), "--root", str(root)]) == 1
    printed = capsys.readouterr().out
    assert "held-out R2" in printed and "already there" in printed
    assert "no report and no summary.json" in printed and "a folder has the name of this file" in printed


def test_a_root_that_is_a_file_is_a_user_error(
    finished: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "root").write_text("")
    assert main(["run", str(finished[0]), "--root", str(tmp_path / "root")]) == 1
    assert "a file has the name of the folder" in capsys.readouterr().err


def test_a_run_says_what_it_does_before_it_does_it(
    finished: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stage", "embeddings", str(finished[0]), "--root", str(tmp_path)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line[:1] in ("·", "✓")]
    assert [line.split()[0] for line in lines[:4]] == ["·", "✓", "·", "✓"]
    assert lines[0].startswith("· manifest: ") and lines[2].startswith("· embeddings: ")
    assert set(DOING) == set(STAGES)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["--version"])
    assert done.value.code == 0 and capsys.readouterr().out == f"medsae {medsae_ray.__version__}\n"


@pytest.mark.parametrize("command", ["show", "status", "verify"])
def test_what_is_told_of_a_root_is_told_in_either_spelling(
    finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str], command: str
) -> None:
    said = []
    for spelling in ([command], ["root", command]):
        assert main([*spelling, str(finished[1])]) == 0
        said.append(re.sub(r"\d+ (s|min) ago", "ago", capsys.readouterr().out))
    assert said[0] == said[1] != ""


def test_a_value_is_set_in_place_of_the_recipes(finished: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, root = finished
    shutil.copytree(root, tmp_path / "root")
    asked = ["stage", "sae", str(recipe), "--root", str(tmp_path / "root")]
    assert main([*asked, "--set", "what.sae.k=2", "--set", "what.sae.lr=1e-2"]) == 0
    (old,) = root.glob("sae-*/config-*.json")
    (new,) = set((tmp_path / "root").glob("sae-*/config-*.json")) - {
        tmp_path / "root" / old.relative_to(root),
    }
    before, after = (json.loads(file.read_text())["config"] for file in (old, new))
    assert {key for key in before if before[key] != after[key]} == {"k", "lr"}
    assert (after["k"], after["lr"]) == (2, 0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("what.sae.kk=2", "with another what.sae.kk:\n  what.sae.kk: unknown key; did you mean 'k'?"),
        ("what.sea.k=2", "what.sea: unknown key; did you mean 'sae'?"),
        ("what.sae.k=many", "what.sae.k: input should be a valid integer (found 'many'; allowed: at least 1)"),
        ("what.sae.k.x=2", "what.sae.k.x cannot be set: what.sae.k is 3 and has no keys"),
        ("what.dataset.labels.0=left", "what.dataset.labels is a list and has no keys"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan", "sweep", "serve", "stage", "query", "similar"])
def test_a_wrong_value_is_refused_as_in_the_recipe(
    finished: tuple[Path, Path], command: str, change: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, root = map(str, finished)
    before, after = ["sae"] if command == "stage" else [], ["bright"] if command in ("query", "similar") else []
    assert main([command, *before, recipe, "--root", root, "--set", change, *after]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("change", "message"), [("k", "KEY=VALUE"), ("what..k=1", "KEY=VALUE"), ("a=[1", "not YAML")])
def test_what_is_no_key_with_a_value_is_a_wrong_call(
    change: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as done:
        main(["run", "phantom", "--root", str(tmp_path), "--set", change])
    assert done.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    "call",
    [["stage", "sse", "phantom", "--root", "x"], ["export", "x", "sealens", "y"], ["import", "sealens", "x", "y"]],
)
def test_stages_and_formats_are_chosen_from_those_that_exist(
    call: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        main(call)
    error = capsys.readouterr().err
    assert done.value.code == 2 and "invalid choice" in error
    assert all(f"'{name}'" in error for name in (STAGES if call[0] == "stage" else FORMATS))


def test_the_formats_of_the_command_line_are_those_of_the_package() -> None:
    assert set(checkpoints.FORMATS) == set(FORMATS)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_is_told_how_to_complete(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as done:
        main(["--print-completion", shell])
    script = capsys.readouterr().out
    assert done.value.code == 0 and "embeddings" in script and "saelens" in script
    (tmp_path / "script").write_text(script)
    if program := shutil.which(shell):
        subprocess.run([program, "-n", str(tmp_path / "script")], check=True)


def test_verify_passes_a_whole_root_and_names_a_damaged_file(
    finished: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, root = finished
    assert main(["verify", str(root)]) == 0
    assert capsys.readouterr().out.count(": ok") == 13
    (part,) = root.glob("label_names-*/part-00000.parquet")
    whole = part.read_bytes()
    part.write_bytes(whole[:-1])
    assert main(["verify", str(part.parent)]) == 1
    assert "part-00000.parquet: checksum" in capsys.readouterr().out
    part.write_bytes(whole)


def test_a_user_error_is_one_clear_message_and_status_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["run", "no-such-recipe", "--root", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("medsae: no recipe 'no-such-recipe'") and "Traceback" not in error


def test_a_missing_table_is_a_user_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = recipe_data(tmp_path / "none.csv", tmp_path / "e.onnx", engine="loop")
    (tmp_path / "recipe.yaml").write_text(json.dumps(data))
    assert main(["run", str(tmp_path / "recipe.yaml"), "--root", str(tmp_path / "root")]) == 1
    assert "none.csv" in capsys.readouterr().err


@pytest.mark.parametrize("root", ["", " "])
def test_an_empty_root_is_a_wrong_call_and_not_this_folder(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["run", "phantom", "--root", root])
    assert done.value.code == 2 and "--root: it is empty" in capsys.readouterr().err


def test_judgements_are_shown_exported_and_compared(
    finished: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, made = finished
    root = tmp_path / "root"
    shutil.copytree(made, root)
    asked = ["judgements", str(recipe), "--root", str(root)]
    assert main(asked) == 0 and "0 judgements by 0 readers; 0 are of other runs" in capsys.readouterr().out
    log, (atlas,) = Log(Store(str(root))), (folder.name for folder in root.glob("atlas-*"))
    for reader, said in (("[b]Ada", ("agree", "disagree", "agree")), ("Bo", ("agree", "disagree", "disagree"))):
        for feature, value in enumerate(said):
            key = f"{reader[-2:]}-vote-{feature}"
            log.add(judgement(feature, key=key, reader=reader, value=value, atlas=atlas, blind=feature < 2))
    log.add(judgement(9, kind="rename", value="[i]brighter", atlas=atlas, key="rename-01"))
    log.add(judgement(8))
    assert main([*asked, "--agreement"]) == 0
    out = capsys.readouterr().out
    assert "7 judgements by 3 readers; 1 are of other runs" in out and "[i]brighter" in out
    assert re.search(r"Bo and \[b\]Ada \(Cohen\) +0\.40 +-?\d.\d\d +1\.00 +67% +3", out), out
    assert main([*asked, "--agreement", "--blind"]) == 0
    assert re.search(r"Bo and \[b\]Ada \(Cohen\) +1\.00 +1\.00 +1\.00 +100% +2", capsys.readouterr().out)
    assert main([*asked, "--export", str(tmp_path / "votes.csv")]) == 0
    assert len((tmp_path / "votes.csv").read_text().splitlines()) == 8
    (root / "judgements/judgements.jsonl").open("ab").write(b'{"torn')
    assert main(asked) == 0 and "1 lines of the log are not whole" in capsys.readouterr().err
    for file in ("votes.xlsx", str(tmp_path / "no/folder.csv")):
        assert main([*asked, "--export", file]) == 1 and "medsae: " in capsys.readouterr().err
