import struct
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import medsae_ray
from medsae_ray.config import Recipe, parse_recipe
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact, Draft, count_reasons
from medsae_ray.core.artifacts.layout import Layout
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.datasets.rows import Rows, to_manifest
from medsae_ray.core.encoders.embedding import EmbedWork
from medsae_ray.core.encoders.medclip import MedclipOptions, SwinGeometry, build_vit, save_vit
from medsae_ray.core.encoders.onnx import OnnxOptions
from medsae_ray.core.images.archives import fetch
from medsae_ray.errors import EncoderError
from medsae_ray.pipeline import run_stage
from medsae_ray.runtime.shards import _pack, _unpack
from tests.support.small import DIM, SIZE, onnx_encoder, recipe_data
from tests.support.usual import reading

IMAGES, DAMAGED = 1000, 50
SHARES = {"sae": 0.6, "naming": 0.2, "detection": 0.2}
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def picture(seed: int, side: int = 24) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(1, 256, (side, side), dtype=np.uint8))


def encoded(kind: str = "PNG") -> bytes:
    stream = BytesIO()
    picture(0).save(stream, kind)
    return stream.getvalue()


def chunk(kind: bytes, body: bytes, crc_off_by: int = 0) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ crc_off_by)


def bomb() -> bytes:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(4))) + chunk(b"IEND", b"")


def bad_checksum() -> bytes:
    header, pixels = struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0), zlib.compress(bytes(20))
    return SIGNATURE + chunk(b"IHDR", header, crc_off_by=1) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def bad_pixels() -> bytes:
    data = encoded()
    start = data.index(b"IDAT") + 8
    return data[:start] + b"\xff" * 30 + data[start + 30 :]


def replaced(path: Path, act: Callable[[Path], object]) -> None:
    path.unlink()
    act(path)


# How an image is damaged, and the reason that the record has to give.
DAMAGE: list[tuple[str, Callable[[Path], object]]] = [
    ("missing", lambda path: path.unlink()),
    ("unreadable", lambda path: replaced(path, Path.mkdir)),
    ("empty", lambda path: path.write_bytes(b"")),
    ("truncated", lambda path: path.write_bytes(encoded("PNG")[:300])),
    ("truncated", lambda path: path.write_bytes(encoded("JPEG")[:400])),
    ("not_an_image", lambda path: path.write_text("<html>404</html>")),
    ("too_large", lambda path: path.write_bytes(bomb())),
    ("corrupt", lambda path: path.write_bytes(bad_checksum())),
    ("corrupt", lambda path: path.write_bytes(bad_pixels())),
]


@dataclass
class Archive:
    """A thousand images, PNG and JPEG by turns, of which 50 are damaged."""

    recipe: Recipe
    paths: list[Path]
    reasons: dict[int, str] = field(default_factory=dict)


def damaged_rows() -> np.ndarray:
    return np.random.default_rng(5).choice(IMAGES, DAMAGED, replace=False)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    folder = tmp_path_factory.mktemp("archive")
    paths = [folder / f"i{row:04d}.{('png', 'jpg')[row % 2]}" for row in range(IMAGES)]
    for row, path in enumerate(paths):
        picture(row).save(path)
    lines = [f"{path.name},p{row // 2},{row // 2 % 2},{row // 4 % 2},PA" for row, path in enumerate(paths)]
    table = folder / "labels.csv"
    table.write_text("\n".join(["path,patient,bright,left,view", *lines]))
    data = recipe_data(table, onnx_encoder(folder / "e.onnx"), engine="loop")
    data["what"]["shard_rows"] = 128
    made = Archive(parse_recipe(data), paths)
    for turn, row in enumerate(damaged_rows().tolist()):
        made.reasons[row], damage = DAMAGE[turn % len(DAMAGE)]
        damage(paths[row])
    return made


@pytest.fixture(scope="module")
def root(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the whole run lies."""
    folder = tmp_path_factory.mktemp("root")
    run_stage(archive.recipe, str(folder), "atlas")
    return folder


def committed(root: Path, stage: str) -> Artifact:
    (folder,) = root.glob(f"{stage}-*")
    return medsae_ray.open_artifact(folder)


def test_each_damaged_image_is_counted_by_its_reason(archive: Archive, root: Path) -> None:
    record, wanted = committed(root, "embeddings").record, list(archive.reasons.values())
    assert record.not_ok == {reason: wanted.count(reason) for reason in sorted(set(wanted))}
    assert sum(record.not_ok.values()) == DAMAGED and record.rows == IMAGES
    assert [part.rows for part in committed(root, "embeddings").parts] == [128] * 7 + [104]


def test_each_damaged_image_is_a_row_in_its_place(archive: Archive, root: Path) -> None:
    rows = committed(root, "embeddings").table().to_pylist()
    assert [row["image_id"] for row in rows] == [path.name for path in archive.paths]
    for number, row in enumerate(rows):
        assert row["reason"] == archive.reasons.get(number)
        assert row["ok"] == (row["x"] is not None) == (number not in archive.reasons)


def test_every_other_image_has_the_embedding_that_its_encoder_gives(archive: Archive, root: Path) -> None:
    whole = [path for row, path in enumerate(archive.paths) if row not in archive.reasons]
    encoder = medsae_ray.load_encoder("onnx", archive.recipe.how.paths.weights, size=SIZE)
    stored = np.array(committed(root, "embeddings").table()["x"].drop_null().to_pylist(), np.float32)
    np.testing.assert_allclose(stored, encoder.encode(whole), rtol=1e-5, atol=1e-6)


def test_the_run_goes_on_without_the_damaged_images(archive: Archive, root: Path) -> None:
    assert committed(root, "activations").table()["feature"].null_count == DAMAGED
    atlas = committed(root, "atlas").table()
    assert atlas["n_images"].unique().to_pylist() == [IMAGES - DAMAGED]
    shown = {image for images in atlas["top_images"].to_pylist() for image in images}
    assert shown and not shown & {archive.paths[row].name for row in archive.reasons}


def embed_work(folder: Path, names: list[str], weights: Path, **settings: object) -> EmbedWork:
    """Work over the files `names` in `folder`, eight to a shard."""
    manifest = to_manifest(Rows("d", names, names, names, {}, {}), SHARES, "s", 8)
    draft = Draft(Store(str(folder / "root")), "manifest", 1, {"rows": len(names)}, {})
    shards = [manifest.slice(start, 8) for start in range(0, len(names), 8)]
    files = [draft.writer(manifest.schema).write(s, part, part.num_rows) for s, part in enumerate(shards)]
    artifact = draft.commit(files, {}, {})
    encoder = OnnxOptions(kind="onnx", size=SIZE)
    return EmbedWork(artifact, Store(str(folder)), encoder, str(weights), reading(max_pixels=10**6), **settings)


def embedded(work: EmbedWork) -> pa.Table:
    model = work.load()
    return pa.concat_tables(work.compute(model, work.prepare(shard)) for shard in work.rows)


def test_a_shard_without_a_usable_image_is_a_shard_of_reasons(tmp_path: Path) -> None:
    names = [f"i{n}.png" for n in range(9)]
    for name in names[4:8]:
        (tmp_path / name).write_bytes(b"no image")
    picture(0).save(tmp_path / names[8])
    found = embedded(embed_work(tmp_path, names, onnx_encoder(tmp_path / "e.onnx")))
    assert found.schema.equals(schema.embeddings(DIM))
    assert found["reason"].to_pylist() == ["missing"] * 4 + ["not_an_image"] * 4 + [None]
    assert found["x"].is_valid().to_pylist() == found["ok"].to_pylist() == [False] * 8 + [True]


def test_notes_of_usable_images_are_counted_beside_the_rows(tmp_path: Path) -> None:
    names = ["plain.png", "lying.jpg", "pages.tif", "both.png", "gone.png"]
    exif = Image.Exif()
    exif[274] = 6
    picture(0).save(tmp_path / names[0])
    picture(1).save(tmp_path / names[1], exif=exif)
    picture(2).save(tmp_path / names[2], save_all=True, append_images=[picture(3)])
    picture(3).save(tmp_path / names[3], exif=exif, save_all=True, append_images=[picture(4)])
    work = embed_work(tmp_path, names, onnx_encoder(tmp_path / "e.onnx"))
    draft = Draft(Store(str(tmp_path / "root")), "embeddings", 1, {}, {})
    writer = draft.writer(schema.embeddings(DIM))
    receipt = writer.write(0, work.compute(work.load(), work.prepare(0)), len(names))
    assert receipt.noted == {"exif_orientation": 2, "more_pages": 2} and receipt.not_ok == {"missing": 1}
    assert writer.finished({0: len(names)}) == {0: receipt} and _unpack(_pack(receipt)) == asdict(receipt)
    assert draft.commit([receipt], {}, {}).record.files == [receipt]


def test_patches_of_an_image_lie_in_its_row(tmp_path: Path) -> None:
    geometry = SwinGeometry(image_size=32, embed_dim=8, depths=(2, 2), num_heads=(1, 2), window_size=4, projection=12)
    save_vit(build_vit(geometry), geometry, tmp_path / "small.safetensors")
    names = [f"i{n}.png" for n in range(9)]
    for n in (0, 1, 8):
        picture(n).save(tmp_path / names[n])
    plain = embed_work(tmp_path, names, tmp_path / "small.safetensors", batch_size=2)
    work = replace(plain, encoder=MedclipOptions(kind="medclip-vit", tokens="patch"))
    found = embedded(work)
    assert found.schema.equals(schema.embeddings(12, (4, 4))) and Layout.of(found.schema) == Layout(12, (4, 4))
    assert found["ok"].to_pylist() == [True, True, *[False] * 6, True] and found["x"].null_count == 6
    encoder = work.load().encoder
    pixels = np.stack([encoder.preprocess(picture(n)) for n in (0, 1, 8)])
    x_NTD = np.array(found["x"].drop_null().to_pylist()).reshape(3, 16, 12)
    np.testing.assert_allclose(x_NTD, encoder.embed_tokens(pixels).x, rtol=1e-4, atol=1e-5)


def test_an_encoder_without_patches_says_so(tmp_path: Path) -> None:
    work = embed_work(tmp_path, ["i0.png"], onnx_encoder(tmp_path / "e.onnx"))
    work = replace(work, encoder=replace(work.encoder, tokens="patch"))
    with pytest.raises(EncoderError, match="'onnx' has no patch tokens"):
        work.load()


def divided(path: Path, bias: float) -> Path:
    """(projection + bias) / sum of the pixels: for a black image 0 / 0, or with a bias an infinite number."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(size=(3 * SIZE * SIZE, DIM)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["pixels"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weights"], ["projected"]),
            helper.make_node("Add", ["projected", "bias"], ["biased"]),
            helper.make_node("ReduceSum", ["flat", "axes"], ["total"], keepdims=1),
            helper.make_node("Div", ["biased", "total"], ["embedding"]),
        ],
        "encoder",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", DIM])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.full(DIM, bias, np.float32), "bias"),
            numpy_helper.from_array(np.array([1]), "axes"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_an_embedding_that_is_not_a_number_is_a_row_that_is_not_ok(bias: float, tmp_path: Path) -> None:
    names = [f"i{n}.png" for n in range(6)]
    for number, name in enumerate(names):
        (Image.new("L", (20, 20)) if number in (1, 4) else picture(number)).save(tmp_path / name)
    (tmp_path / names[0]).unlink()
    work = embed_work(tmp_path, names, divided(tmp_path / "e.onnx", bias))
    found = embedded(work)
    assert found["reason"].to_pylist() == ["missing", "not_finite", None, None, "not_finite", None]
    assert found["x"].is_valid().to_pylist() == found["ok"].to_pylist() == [False, False, True, True, False, True]
    assert count_reasons(found) == {"missing": 1, "not_finite": 2}
    assert np.isfinite(found["x"].drop_null().combine_chunks().flatten().to_numpy()).all()
    good = [tmp_path / names[n] for n in (2, 3, 5)]
    np.testing.assert_allclose(found["x"].drop_null().to_pylist(), work.load().encoder.encode(good), rtol=1e-5)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("1", "png"),
        ("L", "jpg"),
        ("LA", "png"),
        ("P", "gif"),
        ("RGB", "webp"),
        ("RGBA", "png"),
        ("CMYK", "jpg"),
        ("I;16", "png"),
        ("I", "tif"),
        ("F", "tif"),
        ("LAB", "tif"),
    ],
)
def test_an_image_of_any_mode_is_embedded_or_has_a_reason(mode: str, suffix: str, tmp_path: Path) -> None:
    name = f"a.{suffix}"
    wide = Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30))
    made = {"I;16": lambda: wide, "LAB": lambda: Image.new("LAB", (20, 30))}
    made.get(mode, lambda: picture(1).convert("RGB").convert(mode))().save(tmp_path / name)
    work = embed_work(tmp_path, [name], onnx_encoder(tmp_path / "e.onnx"))
    (row,) = embedded(work).to_pylist()
    if mode == "LAB":
        assert row == {"image_id": name, "x": None, "ok": False, "reason": "unsupported_mode"}
    else:
        (wanted,) = work.load().encoder.encode([tmp_path / name]).tolist()
        assert row["ok"] and row["x"] == pytest.approx(wanted, rel=1e-5)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], Path]:
    """Twenty names of which every third has no file."""
    folder = tmp_path_factory.mktemp("mixed")
    names = [f"i{n:02d}.png" for n in range(20)]
    for number, name in enumerate(names):
        if number % 3:
            picture(number).save(folder / name)
    return folder, names, onnx_encoder(folder / "e.onnx")


@settings(max_examples=15, deadline=None)
@given(batch_size=st.integers(1, 9), readers=st.integers(1, 6))
def test_batches_and_readers_do_not_change_the_rows(
    mixed: tuple[Path, list[str], Path], batch_size: int, readers: int
) -> None:
    found, plain = (embedded(embed_work(*mixed, batch_size=b, readers=r)) for b, r in ((batch_size, readers), (64, 1)))
    assert found.drop_columns("x").equals(plain.drop_columns("x"))
    np.testing.assert_allclose(*(t["x"].drop_null().to_pylist() for t in (found, plain)), rtol=1e-5, atol=1e-6)


def away(images: Store, uri: str) -> bytes:
    """A read that fails as one on the network does."""
    key = uri.removeprefix("s3://b/prefix/")
    raise OSError(f"When reading information for key 'prefix/{key}' in bucket 'b': NETWORK_CONNECTION")


@pytest.mark.parametrize("uri", ["train/patient00001/a.png", "s3://b/prefix/train/patient00001/a.png"])
def test_a_store_that_fails_is_named_and_the_image_is_not(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "open_uri", away)
    with pytest.raises(OSError, match=r"in bucket 'b': NETWORK") as caught:
        fetch(Store("memory://b"), uri)
    assert "patient00001" not in str(caught.value) and caught.value.__suppress_context__
