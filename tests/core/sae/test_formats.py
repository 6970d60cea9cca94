"""Round trips through other libraries' checkpoints, by our own code; test_peers.py asks those libraries."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from medsae_ray.api import load_sae
from medsae_ray.cli import main
from medsae_ray.core.artifacts.artifact import Artifact, Draft, verify
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.checkpoint import StoredSAE, sae_to_bytes
from medsae_ray.core.sae.formats.convert import FORMATS, export_sae, exported, import_sae
from medsae_ray.core.sae.formats.fold import folded
from medsae_ray.core.sae.metrics import reconstruction
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.errors import ArtifactError, RecipeError
from tests.core.sae import planted

KINDS = {
    "relu_l1": planted.relu_config,
    "topk": planted.row_topk_config,
    "batch_topk": planted.topk_config,
    "jumprelu": planted.jumprelu_config,
    "gated": planted.gated_config,
    "matryoshka": planted.matryoshka_config,
    "per_level": planted.per_level_config,
    "sail": planted.sail_config,
}
HELD = {
    name: [kind for kind in KINDS if kind.replace("per_level", "matryoshka") in found.holds]
    for name, found in FORMATS.items()
}


def trained(kind: str, **other: object) -> StoredSAE:
    """Weights without symmetry, as after training; thresholds where they cut."""
    config = KINDS[kind](**other)
    x_ND = rows(400)
    sae = build(config, Normalisation.fit(x_ND, config.whiten, config.normalisation))
    planted.stir(sae).float()
    if kind == "sail":
        sae.finish_step()
        sae.batches.fill_(7)
    if "threshold" in sae.state_dict():
        sae.threshold.data += 0.3
    return StoredSAE(sae.eval(), config, {"encoder": "toy", "embeddings": "0123456789ab"})


def rows(count: int, seed: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 32, generator=generator) * torch.linspace(0.5, 2, 32) + 3


def artifact(stored: StoredSAE, root: Path) -> Artifact:
    weights, config = sae_to_bytes(stored.sae, stored.config, stored.provenance)
    draft = Draft(Store(str(root)), "sae", 2, stored.config.to_dict(), {})
    files = [draft.write_file("weights", ".safetensors", weights), draft.write_file("config", ".json", config)]
    return draft.commit(files, {}, {})


def same(found: StoredSAE, wanted: StoredSAE) -> None:
    x_ND = rows(300, seed=6)
    z_NM = wanted.sae.encode(x_ND)
    assert 0 < int((z_NM > 0).sum()) < z_NM.numel()
    torch.testing.assert_close(found.sae.encode(x_ND), z_NM, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.sae.decode(z_NM), wanted.sae.decode(z_NM), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sail"])
@pytest.mark.parametrize("whiten", [None, 1e-3])
@torch.no_grad()
def test_folding_keeps_codes_reconstructions_and_measured_errors(kind: str, whiten: float | None) -> None:
    stored = trained(kind, whiten=whiten)
    plain = folded(stored)
    assert plain.config.normalisation == "none" and plain.config.whiten is None
    same(plain, stored)
    x_ND = rows(300, seed=6)
    assert reconstruction(plain.sae, x_ND).fvu == pytest.approx(reconstruction(stored.sae, x_ND).fvu, rel=1e-5)


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in HELD.items() for kind in kinds])
@torch.no_grad()
def test_what_is_exported_comes_back_with_the_same_codes(name: str, kind: str, tmp_path: Path) -> None:
    stored = trained(kind)
    names = export_sae(artifact(stored, tmp_path / "ours"), name, Store(str(tmp_path / "theirs")))
    assert names == sorted(file.name for file in (tmp_path / "theirs").iterdir())
    found = import_sae(name, Store(str(tmp_path / "theirs")), Store(str(tmp_path / "back")))
    sae = load_sae(found.store.uri)
    x_ND = rows(300, seed=6)
    z_NM = stored.sae.encode(x_ND)
    torch.testing.assert_close(torch.from_numpy(sae.encode(x_ND.numpy())), z_NM, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        torch.from_numpy(sae.decode(z_NM.numpy())), stored.sae.decode(z_NM), atol=1e-5, rtol=1e-5
    )
    config = json.loads(found.file("config"))
    assert config["provenance"]["encoder"] == "toy" and config["provenance"]["embeddings"] == "0123456789ab"
    assert config["provenance"]["imported_from"] == name
    torch.testing.assert_close(load(found.file("weights"))["mean"], stored.sae.mean)


def test_a_format_that_cannot_hold_an_architecture_names_those_that_can() -> None:
    with pytest.raises(ArtifactError, match="sparsify cannot hold a batch_topk SAE; saelens, dictionary_learning can"):
        exported(trained("batch_topk"), "sparsify")
    with pytest.raises(ArtifactError, match="saelens cannot hold a sail SAE; sail can"):
        exported(trained("sail"), "saelens")
    with pytest.raises(RecipeError, match=r"'sealens' is unknown; known: saelens, dictionary_learning, sparsify, sail"):
        exported(trained("topk"), "sealens")


def test_the_norm_of_each_embedding_cannot_be_folded() -> None:
    with pytest.raises(ArtifactError, match=r"'l2'.*no weights can do"):
        exported(trained("topk", normalisation="l2"), "saelens")


def files_of(name: str, kind: str) -> dict[str, bytes]:
    return exported(trained(kind), name)


CASES = [("saelens", "batch_topk"), ("dictionary_learning", "matryoshka"), ("sparsify", "topk"), ("sail", "sail")]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_missing_a_torn_or_a_foreign_file_is_named(name: str, kind: str) -> None:
    whole, read = files_of(name, kind), FORMATS[name].read
    with pytest.raises(ArtifactError, match=r"somewhere has (no|0) "):
        read({}, "somewhere")
    for file, content in whole.items():
        with pytest.raises(ArtifactError, match=f"somewhere: {file} (cannot be read|is not valid JSON)"):
            read(whole | {file: content[: len(content) // 2]}, "somewhere")
        with pytest.raises(ArtifactError, match=f"somewhere: {file} (cannot be read|is not valid JSON)"):
            read(whole | {file: b"\x00foreign"}, "somewhere")


@pytest.mark.parametrize(("name", "kind"), CASES[:3])
def test_a_setting_that_comes_twice_is_refused(name: str, kind: str) -> None:
    """JSON takes the last of them without a word."""
    whole = files_of(name, kind)
    config = next(file for file in whole if file.endswith(".json"))
    twice = whole[config].rstrip()[:-1] + b', "k": 3, "k": 5}'
    with pytest.raises(ArtifactError, match="key 'k' comes twice"):
        FORMATS[name].read(whole | {config: twice}, "somewhere")


@pytest.mark.parametrize(("name", "kind"), CASES[:3])
def test_a_config_of_another_kind_is_refused(name: str, kind: str) -> None:
    whole, read = files_of(name, kind), FORMATS[name].read
    (config,) = [file for file in whole if file.endswith(".json")]
    for content in (b"[]", b"{}", b'{"architecture": "temporal"}', b'{"trainer": {"dict_class": "CrossCoder"}}'):
        with pytest.raises(ArtifactError, match="somewhere: "):
            read(whole | {config: content}, "somewhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W_dec": torch.zeros(32, 48)}, "somewhere: .*is wanted"),
        ({"W_dec": torch.zeros(3)}, "the decoder has shape"),
        ({"b_enc": torch.zeros(47)}, r"b_enc is \(47,\)"),
        ({"b_enc": torch.full((48,), torch.nan)}, "b_enc holds NaN"),
        ({"threshold": None}, r"missing tensors \['threshold'\]"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change: dict[str, torch.Tensor | None], message: str) -> None:
    whole = files_of("saelens", "batch_topk")
    changed = load(whole["sae_weights.safetensors"]) | change
    weights = save({name: tensor for name, tensor in changed.items() if tensor is not None})
    with pytest.raises(ArtifactError, match=message):
        FORMATS["saelens"].read(whole | {"sae_weights.safetensors": weights}, "somewhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalize_activations": "layer_norm"}, "normalize_activations is 'layer_norm'; only 'none'"),
        ({"metadata": {"medsae_ray": {"mean": "?"}}}, "entry 'medsae_ray' cannot be read"),
    ],
)
def test_settings_that_ours_cannot_follow_are_refused(change: dict[str, object], message: str) -> None:
    whole = files_of("saelens", "relu_l1")
    config = json.dumps(json.loads(whole["cfg.json"]) | change).encode()
    with pytest.raises(ArtifactError, match=message):
        FORMATS["saelens"].read(whole | {"cfg.json": config}, "somewhere")


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "run",)  # type: ignore[return-value]

    torch.save({"encoder.weight": Trap()}, tmp_path / "ae.pt")
    files = files_of("dictionary_learning", "relu_l1") | {"ae.pt": (tmp_path / "ae.pt").read_bytes()}
    with pytest.raises(ArtifactError, match="more than tensors and plain values"):
        FORMATS["dictionary_learning"].read(files, "somewhere")
    assert not (tmp_path / "run").exists()


def test_the_command_line_exports_and_imports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sae = artifact(trained("matryoshka"), tmp_path / "ours")
    assert main(["export", sae.store.uri, "saelens", str(tmp_path / "theirs")]) == 0
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "theirs" / f) for f in ("cfg.json", "sae_weights.safetensors")
    ]
    assert main(["import", "saelens", str(tmp_path / "theirs"), str(tmp_path / "back")]) == 0
    uri = capsys.readouterr().out.strip()
    assert load_sae(uri).encode(rows(2).numpy()).shape == (2, 48)
    assert main(["import", "saelens", str(tmp_path / "nowhere"), str(tmp_path / "back")]) == 1
    assert "nowhere has no cfg.json; found nothing" in capsys.readouterr().err


def test_an_export_replaces_nothing_that_is_not_its_own_unless_it_is_told_to(tmp_path: Path) -> None:
    sae, other = artifact(trained("topk"), tmp_path / "a"), artifact(trained("topk", k=2), tmp_path / "b")
    folder = Store(str(tmp_path / "out"))
    for name in FORMATS:
        if name != "sail":
            assert export_sae(sae, name, folder.child(name)) == export_sae(sae, name, folder.child(name))
            with pytest.raises(ArtifactError, match=r"is not of this export; .*--overwrite"):
                export_sae(other, name, folder.child(name))
    before = folder.child("saelens").read("cfg.json")
    with pytest.raises(ArtifactError, match="is not of this export"):
        export_sae(sae, "sparsify", folder.child("saelens"))
    assert folder.child("saelens").read("cfg.json") == before
    export_sae(other, "saelens", folder.child("saelens"), overwrite=True)
    assert FORMATS["saelens"].read(files_in(folder.child("saelens")), "there").config.k == 2


def files_in(folder: Store) -> dict[str, bytes]:
    return {name: folder.read(name) for name in folder.names()}


def test_an_export_that_stopped_is_finished_and_one_that_stops_leaves_no_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae, other = artifact(trained("topk"), tmp_path / "a"), artifact(trained("topk", k=2), tmp_path / "b")
    folder = Store(str(tmp_path / "out"))
    export_sae(sae, "saelens", folder)
    write = Store.write

    def stop_at_settings(self: Store, name: str, data: bytes) -> None:
        if name == "cfg.json":
            raise KeyboardInterrupt
        write(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", stop_at_settings)
        with pytest.raises(KeyboardInterrupt):
            export_sae(other, "saelens", folder, overwrite=True)
    assert folder.names() == ["sae_weights.safetensors"]
    assert export_sae(other, "saelens", folder) == ["cfg.json", "sae_weights.safetensors"]


def test_an_import_that_stops_leaves_no_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sae = artifact(trained("topk"), tmp_path / "ours")
    theirs, out = Store(str(tmp_path / "theirs")), Store(str(tmp_path / "back"))
    export_sae(sae, "saelens", theirs)
    with monkeypatch.context() as patch:
        patch.setattr(Draft, "commit", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            import_sae("saelens", theirs, out)
    (folder,) = out.folders()
    with pytest.raises(ArtifactError, match="is not a finished artifact"):
        load_sae(out.child(folder).uri)
    made = import_sae("saelens", theirs, out)
    assert made.name == folder == import_sae("saelens", theirs, out).name and verify(made) == []
