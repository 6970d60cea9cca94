"""deploy/Dockerfile against what it repeats: the Makefile's steps, the pins of pyproject.toml, the project's files.

No image is built here. The steps of the cpu variant are those of `make setup`, which runs them.
"""

import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INSTRUCTIONS = {"ARG", "FROM", "RUN", "ENV", "WORKDIR", "COPY", "USER"}
MADE = {"medsae_ray/__init__.py", "README.md", "LICENSE"}
"""What a step makes, as a stand-in for a file that comes later."""


class Step(NamedTuple):
    instruction: str
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)


def steps() -> list[Step]:
    lines = [line for line in (ROOT / "deploy" / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [Step(*line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def stages() -> dict[str, list[Step]]:
    """By name; the last one, which has none, as "image"."""
    found: dict[str, list[Step]] = {}
    for step in steps():
        if step.instruction == "FROM":
            name = step.words[2] if len(step.words) == 3 else "image"
            found[name] = []
        elif found:
            found[name].append(step)
    return found


def copied(part: list[Step]) -> list[str]:
    """What comes from the project."""
    return [name for step in part if step.instruction == "COPY" for name in step.words[:-1]]


def installed(stage: str) -> list[list[str]]:
    """The arguments of pip's installs, without where torch's CPU build comes from."""
    found = [step.words[2:] for step in stages()[stage] if step.text.startswith("pip install ")]
    return [words[: words.index("--index-url")] if "--index-url" in words else words for words in found]


def made(target: str) -> list[list[str]]:
    """The arguments of pip's installs in the Makefile's rule for `target`."""
    rule = (ROOT / "Makefile").read_text().split(f"\n$(VENV)/{target}:")[1].split("\n\n")[0]
    return [shlex.split(line)[1:] for line in rule.splitlines() if line.startswith("\t$(PIP) ")]


def test_every_line_is_an_instruction_that_is_known_here() -> None:
    assert {step.instruction for step in steps()} == INSTRUCTIONS
    assert list(stages()) == ["base", "cpu", "gpu", "image"]


def test_the_cpu_image_is_installed_as_the_makefile_installs() -> None:
    assert installed("cpu") == made(".cpu") and len(made(".cpu")) == 3


def test_the_gpu_image_has_the_same_torch_and_then_the_extra_for_gpus() -> None:
    (torch,) = (line for line in PROJECT["dependencies"] if line.startswith("torch"))
    assert installed("gpu") == [[torch], ["-e", ".[gpu]"]] and installed("cpu")[0] == [torch]
    assert "gpu" in PROJECT["optional-dependencies"]


def test_the_readers_of_dicom_and_nifti_come_with_either() -> None:
    assert all("medsae-ray[dicom]" in PROJECT["optional-dependencies"][extra] for extra in ("cpu", "gpu"))


def test_the_python_is_that_of_the_cluster() -> None:
    (version,) = {word for step in steps() for word in re.findall(r"python:(\d+\.\d+)", step.text)}
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    assert any(f"--python {version} " in line for line in cluster["setup_commands"])
    assert PROJECT["requires-python"] == f">={version}"


def test_code_comes_after_the_large_layers() -> None:
    of = stages()
    assert copied(of["base"]) == ["pyproject.toml"] and not copied(of["cpu"]) + copied(of["gpu"])
    assert not [step for step in stages()["image"] if "pip" in step.text]


def test_what_is_copied_is_there_and_what_pyproject_names_is_copied() -> None:
    names = copied(steps())
    assert all((ROOT / name).exists() for name in names)
    assert {PROJECT["readme"], *PROJECT["license-files"]} <= set(names)
    (touched,) = (step for step in steps() if "touch" in step.text)
    assert set(touched.words[touched.words.index("touch") + 1 :]) == MADE


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("medsae_ray/recipes/phantom.yaml", True),
        ("serve/app.py", True),
        ("jobs/pipeline.py", True),
        ("pyproject.toml", True),
        (".venv/bin/python", False),
        ("runs/a/part-00000.parquet", False),
        ("tests/conftest.py", False),
        ("medsae_ray/core/__pycache__/x.pyc", False),
        (".env", False),
    ],
)
def test_the_build_sees_the_project_and_nothing_else(path: str, taken: bool) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert rules[0] == "*" and allowed == set(copied(steps()))
    inside = path.split("/")[0] in allowed and not any(
        fnmatch(path, f"*/{rule[3:]}/*") for rule in rules if rule[0:3] == "**/"
    )
    assert inside == taken


def test_it_runs_as_a_user_who_is_not_root_with_what_kuberay_calls() -> None:
    image, base = stages()["image"], stages()["base"]
    assert [step.text for step in image if step.instruction == "USER"] == ["ray"]
    (made_user,) = (step.words for step in base if step.text.startswith("useradd"))
    assert made_user[made_user.index("--uid") + 1] == "1000"
    (packages,) = (step.words for step in base if "apt-get install" in step.text)
    assert {"bash", "wget", "g++"} <= set(packages)
    assert "PYTHONPATH=/opt/medsae-ray" in " ".join(step.text for step in image if step.instruction == "ENV")
