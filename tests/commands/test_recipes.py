"""`medsae recipes`: which there are, and one to copy."""

import pytest

from medsae_ray.cli import main
from medsae_ray.config import packaged_recipes


def test_every_packaged_recipe_is_listed_with_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{name} " in printed for name in packaged_recipes()) and "phantom" in packaged_recipes()
    assert "CheXpert (frontal images) with MedCLIP, as in the MedSAE paper" in printed


def test_a_recipe_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    for name, file in packaged_recipes().items():
        assert main(["recipes", "show", name]) == 0
        assert capsys.readouterr().out.encode() == file.read_bytes()


def test_a_recipe_that_does_not_exist_is_refused_with_those_that_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["recipes", "show", "fantom"]) == 1
    assert capsys.readouterr().err.startswith("medsae: no recipe 'fantom': neither a file nor one of chexpert-")
