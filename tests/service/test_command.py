import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema
from rich.console import Console

from medsae_ray.cli import main
from medsae_ray.config import load_recipe
from medsae_ray.engine.client import APPLICATION
from medsae_ray.engine.session import identity_of, settings_of
from medsae_ray.errors import ArtifactError, RecipeError
from medsae_ray.finished import open_run
from medsae_ray.service.address import is_loopback, token_of
from medsae_ray.service.command import Phases
from medsae_ray.service.limits import RequestLimits
from tests.service.conftest import Small

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "correct-horse-battery"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *(("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True)),
        *(("0.0.0.0", False), ("::", False), ("192.168.1.5", False), ("example.org", False), ("", False)),
        *(("127.0.0.1.example.org", False), ("0x7f.1", False)),
    ],
)
def test_only_addresses_of_this_machine_need_no_token(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_an_address_beyond_this_machine_needs_a_token(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEDSAE_TOKEN", raising=False)
    (tmp_path / "recipe.yaml").write_text(json.dumps(small.recipe.model_dump(mode="json", exclude_none=True)))
    assert main(["serve", str(tmp_path / "recipe.yaml"), "--root", small.root, "--host", "0.0.0.0"]) == 1
    assert "MEDSAE_TOKEN is not set" in capsys.readouterr().err


@pytest.mark.parametrize("token", ["short", "sixteen letters!", "sixteen-lettersé", "sixteen-letters\n"])
def test_a_token_that_is_easily_guessed_or_cannot_be_sent_is_refused(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", token)
    with pytest.raises(RecipeError, match="at least 16 printable") as refused:
        token_of("A_TOKEN", needed=False)
    assert token not in str(refused.value)


def test_a_run_that_is_not_finished_is_refused_with_the_command_that_finishes_it(small: Small, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no finished manifest.*medsae run RECIPE --root"):
        open_run(small.recipe, str(tmp_path))
    for folder in Path(small.root).glob("*-*/"):
        if not folder.name.startswith("atlas-"):
            (tmp_path / folder.name).symlink_to(folder)
    with pytest.raises(ArtifactError, match=r"no finished atlas"):
        open_run(small.recipe, str(tmp_path))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("atlas-")]


def test_the_deploy_config_is_one_that_serve_takes_and_its_builder_reads(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serve.app import Arguments, build

    config = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text())
    _, application = ServeDeploySchema.model_validate(config).applications
    assert application.import_path == "serve.app:build" and config["http_options"]["host"] == "127.0.0.1"
    given = Arguments(**application.args)
    monkeypatch.delenv(given.token_variable, raising=False)
    (tmp_path / "recipe.yaml").write_text(json.dumps(small.recipe.model_dump(mode="json", exclude_none=True)))
    arguments = given.model_copy(update={"recipe": str(tmp_path / "recipe.yaml"), "root": small.root})
    with pytest.raises(RecipeError, match="MEDSAE_TOKEN is not set"):
        build(arguments)
    monkeypatch.setenv(given.token_variable, TOKEN)
    bound = build(arguments)
    assert [deployment.name for deployment in application.deployments] == [bound._bound_deployment.name]
    refusal = bound._bound_deployment.backpressure_config  # Serve's own, before the service is asked
    assert (refusal.status_code, refusal.retry_after_s) == (429, RequestLimits().retry_s)
    run, kept, *_ = bound._bound_deployment.init_args
    assert run.atlas.name == small.run.atlas.name and TOKEN not in kept


def test_the_deploy_config_brings_the_engine_that_batch_runs_find(small: Small, tmp_path: Path) -> None:
    from serve.app import Model, engine

    config = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text())
    application, _ = ServeDeploySchema.model_validate(config).applications
    assert (application.name, application.route_prefix) == (APPLICATION, None)
    assert application.import_path == "serve.app:engine"
    bound = engine(Model(**application.args))._bound_deployment
    recipe = load_recipe(application.args["recipe"])
    settings = replace(settings_of(recipe), metrics=True)  # a cluster that `serve deploy` is used on stays
    assert bound.init_args == (settings, identity_of(recipe)) and bound.name == "VlmServer"
    (tmp_path / "recipe.yaml").write_text(json.dumps(small.recipe.model_dump(mode="json", exclude_none=True)))
    with pytest.raises(RecipeError, match="delete the application medsae-engine"):
        engine(Model(recipe=str(tmp_path / "recipe.yaml")))


QUICK = """
import sys
from medsae_ray.cli import main
code = main(sys.argv[1:])
print(code, sorted({"ray", "torch", "fastapi"} & set(sys.modules)))
"""


def test_wrong_arguments_and_a_taken_port_are_told_before_anything_slow_is_loaded() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = str(taken.getsockname()[1])
        wrong = {
            "nothing can listen at 127.0.0.1:": ["phantom", "--port", busy],
            "--port is 99999": ["phantom", "--port", "99999"],
            "no recipe 'phantm'": ["phantm"],
            "NO_TOKEN is not set": ["phantom", "--host", "0.0.0.0", "--token-variable", "NO_TOKEN"],
            "at least 16 printable": ["phantom", "--token-variable", "SHORT_TOKEN"],
        }
        for said, arguments in wrong.items():
            command = [sys.executable, "-c", QUICK, "serve", *arguments, "--root", "nowhere"]
            environment = {**os.environ, "SHORT_TOKEN": "short"}
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
            assert said in done.stderr and done.stdout == "1 []\n", done.stderr


def test_without_a_terminal_each_phase_of_the_start_has_a_line() -> None:
    console = Console(file=StringIO(), width=80)
    with Phases(console) as phase:
        for text in ("opening the run", "engine: loading, 1 s", "engine: loading, 2 s", "engine: ready after 3 s"):
            phase.begins(text)
    lines = [line.split(maxsplit=2)[2] for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert lines == ["opening the run", "engine: loading", "engine: ready after 3 s"]
