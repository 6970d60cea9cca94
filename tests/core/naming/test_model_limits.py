"""How long a prompt may be, from a model's config.json."""

import json
from pathlib import Path
from typing import Any

import pytest

from medsae_ray.core.naming.model_limits import UNKNOWN, ModelLimits, limits_of, read_limits


@pytest.mark.parametrize(
    ("config", "limits"),
    [
        ({"max_position_embeddings": 2048}, (2048, 2048, None)),
        ({"n_positions": 1024, "max_seq_len": 512}, (512, 512, None)),
        ({"max_position_embeddings": 9, "text_config": {"max_position_embeddings": 4096}}, (4096, 4096, None)),
        ({"llm_config": {"max_position_embeddings": 4096}}, (4096, 4096, None)),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}}, (4096, 16384, None)),
        ({"max_position_embeddings": 4096, "rope_parameters": {"full": {"factor": 2}}}, (4096, 8192, None)),
        (
            {
                "model_type": "gemma3",
                "mm_tokens_per_image": 256,
                "text_config": {"max_position_embeddings": 131072, "rope_scaling": {"factor": 8.0}},
            },
            (131072, 131072, 256),
        ),
        ({"text_config": {"hidden_size": 3}}, (None, None, None)),
        ({"max_position_embeddings": True, "rope_scaling": "x", "mm_tokens_per_image": -1}, (None, None, None)),
        ([], (None, None, None)),
    ],
)
def test_the_limits_are_those_of_the_text_half(config: Any, limits: tuple[int | None, ...]) -> None:
    assert read_limits(config) == ModelLimits(*limits)


def test_what_cannot_be_read_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert limits_of(str(tmp_path)) == limits_of("nobody/no-such-model") == UNKNOWN
    for text in ("{", '"x"', "\xff", "[" * 100_000):
        (tmp_path / "config.json").write_text(text, "latin-1")
        assert limits_of(str(tmp_path)) == UNKNOWN
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 77}))
    assert limits_of(str(tmp_path)).length == 77
