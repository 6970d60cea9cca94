"""What the documents show is run or checked: Python, recipes, command lines, trees, paths, thresholds."""

import json
import re
import shlex
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest
import yaml
from PIL import Image

from docs.gen import decisions, recipe, tables
from docs.gen.calls import command_line, parser
from medsae_ray.config import Recipe, find_recipe, parse_recipe
from medsae_ray.config.base import keys_of
from medsae_ray.core.naming import verdict
from medsae_ray.pipeline import STAGES

ROOT = Path(__file__).resolve().parents[1]
TOP = ("README", "DESIGN", "CONTRIBUTING", "CHANGELOG")
FOLDERS = ("serve/README", "deploy/README", "deploy/monitoring/README", "benchmarks/README")
PAGES = [ROOT / f"{name}.md" for name in (*TOP, *FOLDERS)] + sorted((ROOT / "docs").rglob("*.md"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OUTPUT, TREE, ROOT_TREE, STAGE_LINES = "output", "tree", "root", "stages"
TEXTS = {
    ("README.md", " label"): OUTPUT,
    ("docs/guide/first-run.md", " label"): OUTPUT,
    ("docs/explain/code-tour.md", "medsae_ray/"): TREE,
    ("docs/reference/artifacts.md", "ROOT/"): ROOT_TREE,
    ("DESIGN.md", "images (phantoms)"): STAGE_LINES,
}
"""Blocks of text by page and first words, and what they are. Others are refused."""
UNPARSED_YAML = {"# gcp": "a part of cluster.yaml, see test_cluster.py", "# azure": "the same"}
"""Blocks of YAML, by their first line, that are no part of a recipe."""
OTHERS = {
    "aws": "a cloud's own command; deploy/README.md says that these were not run",
    "ray": "Ray's own, but for the entry point of a job, which is parsed",
    "docker": "see aws",
    "helm": "see aws",
    "kubectl": "see aws",
    "pip": "installs, see test_image.py",
    "curl": "asked of a live service by test_live.py; in deploy/monitoring of Ray's metrics",
    "prometheus": "a program of others, see test_monitoring.py",
    "cat": "shows a file of Ray's",
    "export": "the shell's",
    "cd": "the shell's",
    "git": "fetches the project",
    "serve": "Ray Serve's; test_deployment.py deploys its file",
}
"""Programs of command lines that are not ours, and why they are not tried here."""


class Block(NamedTuple):
    page: str
    kind: str
    text: str


def blocks(*kinds: str) -> Iterator[Block]:
    for page in PAGES:
        for kind, text in re.findall(r"^```([^\n]*)\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE):
            if not kinds or kind in kinds:
                yield Block(page.relative_to(ROOT).as_posix(), kind, text)


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a block, without comments."""
    whole = ""
    for line in text.splitlines():
        whole = whole.removesuffix("\\") + line
        try:
            words = shlex.split(whole, comments=True)
        except ValueError:  # a quotation goes on
            whole += "\n"
            continue
        if whole.endswith("\\"):
            continue
        whole = ""
        words = words[: words.index(">")] if ">" in words else words
        parts = " \0 ".join(words).split(" \0 && \0 ")
        yield from (part.split(" \0 ") for part in parts if part)
    assert not whole, text


def as_recipe(shown: dict[str, Any]) -> dict[str, Any]:
    """A whole recipe as it is; of a part, the phantoms' with the sections that are shown."""
    if "name" in shown:
        return shown
    data: dict[str, Any] = yaml.safe_load(find_recipe("phantom").read_text())
    assert shown and set(shown) <= {"what", "how"}
    paths = data["how"]["paths"] | shown.get("how", {}).get("paths", {})
    return (
        data
        | {half: data[half] | shown.get(half, {}) for half in ("what", "how")}
        | {"how": data["how"] | shown.get("how", {}) | {"paths": paths}}
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small recipe of phantoms and two images."""
    folder = tmp_path_factory.mktemp("docs")
    small = yaml.safe_load(find_recipe("phantom").read_text())
    small["what"]["dataset"]["patients"] = 60
    small["what"]["sae"] |= {"epochs": 3, "batch_size": 16}
    del small["what"]["naming"], small["how"]["vlm"]
    small["how"]["engine"] = "loop"
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    for name in ("one.png", "two.png"):
        Image.fromarray(np.full((50, 40), 90, np.uint8)).save(folder / name)
    return folder


def test_the_python_runs_on_a_small_phantom_run(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    shown = [block for block in blocks("python") if block.page != "docs/reference/client.md"]  # see test_client.py
    assert {block.page for block in shown} == {"README.md", "docs/reference/python.md"}
    for block in shown:
        names: dict[str, Any] = {}
        exec(block.text.replace('("phantom"', '("small.yaml"'), names)
        z = names["z"]
        assert isinstance(z, np.ndarray) and z.dtype == np.float32 and z.shape[0] == 2
    summary = json.loads((made / "runs/phantom/summary.json").read_text())
    described = (ROOT / "docs/reference/summary.md").read_text()
    assert [key for key in summary if f"`{key}`" not in described and f"`{key}[]`" not in described] == []
    (tree,) = (block for block in blocks("text") if kind_of(block) == ROOT_TREE)
    for line in tree.text.splitlines()[1:]:
        name = line.split()[0].replace("0123456789ab", "*")
        inner = "manifest-*/" if line.startswith("    ") else ""
        assert name in ("ledger/", "judgements/") or list((made / "runs/phantom").glob(inner + name.rstrip("/"))), line


@pytest.mark.parametrize("block", list(blocks("yaml")), ids=lambda block: f"{block.page}:{block.text[:20]!r}")
def test_every_yaml_block_is_a_recipe_or_a_part_of_one(block: Block) -> None:
    if block.text.splitlines()[0] not in UNPARSED_YAML:
        parse_recipe(as_recipe(yaml.safe_load(block.text)), block.page)


def test_every_command_line_is_one_that_exists() -> None:
    targets = set(re.findall(r"^([\w-]+)(?= .*:|:)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    ours = 0
    for block in blocks("sh"):
        for program, *arguments in commands(block.text):
            if program in (".venv/bin/medsae", "medsae"):
                parser().parse_args(arguments)
                ours += 1
            elif program == "make":
                assert arguments[0] in targets, (block.page, arguments)
            else:
                assert program in OTHERS, (block.page, program)
            if "jobs/pipeline.py" in arguments:
                parser().parse_args(["run", *arguments[arguments.index("jobs/pipeline.py") + 1 :]])
    assert ours > 15


def test_every_json_block_is_json() -> None:
    assert [json.loads(block.text) for block in blocks("json")]


def kind_of(block: Block) -> str | None:
    return next(
        (kind for (page, first), kind in TEXTS.items() if block.page == page and block.text.startswith(first)), None
    )


def test_no_block_is_of_another_kind() -> None:
    assert {block.kind for block in blocks()} <= {"python", "yaml", "sh", "json", "text"}
    assert [block for block in blocks("text") if kind_of(block) is None] == []


def test_the_readme_shows_lines_of_the_whole_output() -> None:
    short, whole = (block.text for block in blocks("text") if kind_of(block) == OUTPUT)
    assert [line for line in short.splitlines() if line not in whole.splitlines() and line] == []


def test_the_tree_names_what_is_there() -> None:
    (tree,) = (block.text for block in blocks("text") if kind_of(block) == TREE)
    named = set()
    for line in tree.splitlines():
        name = ("medsae_ray/" if line.startswith("  ") else "") + line.split()[0]
        assert (ROOT / name).exists(), name
        named.add(name.rstrip("/"))
    rooms = {f"medsae_ray/{path.name}" for path in (ROOT / "medsae_ray").iterdir() if path.is_dir()}
    assert {room for room in rooms if "__pycache__" not in room} <= named


def test_the_stages_of_the_design_are_the_stages() -> None:
    (lines,) = (block.text for block in blocks("text") if kind_of(block) == STAGE_LINES)
    words = set(re.findall(r"\w+", lines.replace("(phantoms)", "").replace("at the same time", "")))
    assert words <= set(STAGES)
    design = (ROOT / "DESIGN.md").read_text()
    assert [stage for stage in STAGES if not re.search(rf"\b{stage}\b", design)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_named_file_exists(page: Path) -> None:
    text = page.read_text()
    rooms = "medsae_ray|jobs|benchmarks|docs|tests|deploy|serve"
    paths = re.findall(rf"(?<![\w./-])((?:{rooms})/[\w./-]*\w/?)(?![\w*<])", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    modules = re.findall(r"`(?:[^`]*[^\w.])?(medsae_ray(?:\.\w+)+)", text)
    assert [module for module in modules if not defined(module)] == []


def defined(dotted: str) -> bool:
    """Whether a module, or a name within one, is in the package's files."""
    place, parts = ROOT / "medsae_ray", dotted.split(".")[1:]
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    file = place / f"{parts.pop(0)}.py" if parts and (place / f"{parts[0]}.py").exists() else place / "__init__.py"
    return file.exists() and (not parts or re.search(rf"\b{parts[0]}\b", file.read_text()) is not None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_page_names_a_machine(page: Path) -> None:
    assert not re.search(r"/work/|/root/|/home/|/tmp/(?!ray/)", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_page_says_the_same_twice(page: Path) -> None:
    """As after a merge that kept both sides."""
    words = re.sub(r"```.*?```", "", page.read_text(), flags=re.S).split()
    runs = Counter(" ".join(words[at : at + 12]) for at in range(len(words) - 12))
    assert [run for run, times in runs.items() if times > 1 and "|" not in run] == []


def test_the_two_first_pages_stay_short() -> None:
    for name in ("README.md", "DESIGN.md"):
        assert len((ROOT / name).read_text().splitlines()) <= 120, name


def test_the_order_of_imports_is_that_of_the_contract() -> None:
    contracts = {contract["name"]: contract for contract in PROJECT["tool"]["importlinter"]["contracts"]}
    whole = contracts["Imports point one way"]["layers"]
    core = contracts["Imports point one way within core"]["layers"]
    text = " ".join((ROOT / "DESIGN.md").read_text().split())
    for layers in (whole, core):
        assert " -> ".join(layer.replace(" : ", ", ") for layer in layers) in text


def test_the_words_of_the_field_are_explained() -> None:
    words = (ROOT / "DESIGN.md").read_text()
    wanted = "unit ceiling null look-alike role pool verdict receipt draft baseline shard part artifact stage recipe"
    assert [word for word in wanted.split() if f"| {word} |" not in words] == []


def test_the_verdicts_thresholds_are_those_of_the_code() -> None:
    method = (ROOT / "docs/explain/method.md").read_text()
    shown = re.findall(r"\| (?:above |below )?([\d.]+)(?: or more)? \| `(\w+)` \|", method)
    assert {name: float(value) for value, name in shown} == {
        name: getattr(verdict, name) for name in ("LEAST_LOW", "LEAST_HARD", "MOST_Q", "LEAST_CONTROLS")
    }
    names = (ROOT / "docs/guide/names.md").read_text()
    assert all(f"`{name}`" in names for _, name in shown)


def test_every_kind_and_every_packaged_recipe_is_described() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    models = [
        recipe._models(field.annotation) for field in Recipe.model_fields["what"].annotation.model_fields.values()
    ]
    kinds = [
        str(kind)
        for found in models
        for model in found
        if "kind" in (keys := keys_of(model))
        for kind in get_args(keys["kind"].annotation)
    ]
    assert len(kinds) > 10 and [kind for kind in kinds if f"`{kind}`" not in text and f"kind: {kind}" not in text] == []
    packaged = [file.stem for file in (ROOT / "medsae_ray/recipes").glob("*.yaml")]
    assert [name for name in packaged if not re.search(rf"(?<![\w-]){name}(?![\w-])", text)] == []


def test_what_is_generated_covers_the_code() -> None:
    page = recipe.page()
    assert all(f"`what.{key}" in page for key in ("sae", "naming.detection", "encoder", "dataset", "sweep"))
    assert "(the model's own" not in page and "| `k` |" in page and "| `retries` |" in page
    assert all(f"`medsae {name}`" in command_line() for name in ("run", "plan", "query", "export", "engine"))
    assert all(f"## `{name}`" in tables.artifacts() for name in ("manifest", "atlas", "scores", "answers"))
    assert "conform" not in tables.artifacts()
    assert "DivergedError" in tables.errors() and "model_blind" in tables.warnings()


def test_every_decision_has_its_parts() -> None:
    folders = {folder.name for folder in decisions.FOLDER.iterdir() if folder.is_dir()}
    assert folders == set(decisions.HEADS)
    for head in decisions.HEADS:
        for one in decisions.decisions(head):
            text = (decisions.FOLDER / one.place).read_text()
            assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == ["Context", "Decision", "Figures"], one.place
            assert re.fullmatch(r"20\d\d-\d\d-\d\d", one.date) and one.status in ("holds", "superseded"), one.place
            assert ("\nSuperseded by [" in text) == (one.status == "superseded"), one.place


def test_every_benchmark_is_in_the_list() -> None:
    listed = (ROOT / "benchmarks/README.md").read_text()
    files = [file for file in (ROOT / "benchmarks").iterdir() if file.suffix in (".md", ".py")]
    assert [file.name for file in files if file.name not in listed and file.name != "README.md"] == []


def test_one_address_of_the_project() -> None:
    files = ("README.md", "CONTRIBUTING.md", "CITATION.cff", "mkdocs.yml", "pyproject.toml")
    found = {name: set(re.findall(r"https://github.com/\w+/medsae-ray", (ROOT / name).read_text())) for name in files}
    assert all(found.values()) and len(set().union(*found.values())) == 1


def test_the_citation_has_this_version_and_both_papers() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["project"]["version"]
    assert [paper["url"][-10:] for paper in citation["references"]] == ["2510.26411", "2603.23794"]
