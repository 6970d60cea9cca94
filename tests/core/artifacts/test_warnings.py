"""Warnings: each code is documented, each warning is said once."""

import pytest

from medsae_ray.core.artifacts import warnings
from medsae_ray.core.artifacts.warnings import RunWarning, distinct


def test_a_code_has_to_be_documented():
    with pytest.raises(AssertionError, match="not documented"):
        RunWarning("no_such_code", "message")


def test_the_same_warning_is_kept_once_and_in_order(monkeypatch):
    monkeypatch.setattr(warnings, "CODES", {"a": "", "b": ""})
    first, second = RunWarning("a", "x", 1), RunWarning("b", "y")
    assert distinct([first, second, RunWarning("a", "x", 1)]) == [first, second]
    assert distinct([first, RunWarning("a", "x", 2)]) == [first, RunWarning("a", "x", 2)]
