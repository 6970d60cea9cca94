import os
import threading
from pathlib import Path

import pytest

from medsae_ray.core.artifacts.local_copies import local_copy
from medsae_ray.core.artifacts.store import Store, split_uri
from medsae_ray.errors import ArtifactError


def test_what_is_written_is_read_back_and_listed(tmp_path: Path) -> None:
    store = Store(str(tmp_path)).child("a")
    store.write("b/c.bin", b"123")
    assert store.read("b/c.bin") == b"123"
    assert store.names("b") == ["c.bin"] and store.folders() == ["b"] and store.names("nowhere") == []


def test_a_writer_that_dies_before_the_rename_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        store.write("part", b"half")
    assert not store.exists("part") and store.names() == []


def test_of_many_writers_of_a_new_file_exactly_one_wins(tmp_path: Path) -> None:
    store, won = Store(str(tmp_path)), []
    threads = [
        threading.Thread(target=lambda i=i: won.append((store.write_new("record", b"%d" % i), i))) for i in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [i for first, i in won if first]
    assert store.read("record") == b"%d" % winner
    assert [p.name for p in tmp_path.iterdir()] == ["record"]


def read(base: Store, uri: str) -> bytes:
    with base.open_uri(uri) as stream:
        return stream.read()


def test_a_uri_reads_as_it_is_and_a_relative_path_below_the_base(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    base = Store(str(tmp_path))
    assert read(base, "x.png") == read(Store("/nowhere"), str(tmp_path / "x.png")) == b"x"
    assert read(base, f"file://{tmp_path}/x.png") == b"x"
    with pytest.raises(FileNotFoundError):
        read(base, "y.png")


def test_an_unknown_scheme_is_refused_with_what_to_use() -> None:
    with pytest.raises(ArtifactError, match="Use a local path, s3:// or gs://"):
        Store("nosuch://bucket/x").read("a")


def test_fsspec_serves_what_pyarrow_does_not_know() -> None:
    store = Store("memory://run")
    store.write("a/part", b"1")
    assert store.read("a/part") == b"1" and store.names("a") == ["part"]


def test_split_uri() -> None:
    assert split_uri("s3://b/a/x") == (Store("s3://b/a"), "x")
    assert split_uri("x")[1] == "x" and split_uri("/x") == (Store("/"), "x")


ODD = ["a b", "exp#1", "exp#2", "100%", "a%20b", "what?", "a+b&c=d", "Bögen.png", "x#frame=3", "[1]", "~", "a:b"]


@pytest.mark.parametrize("name", ODD)
def test_any_name_is_a_folder_and_a_file_of_its_own(tmp_path: Path, name: str) -> None:
    for store in (Store(str(tmp_path / name)), Store(f"memory://{tmp_path}/{name}")):
        store.write(f"{name}/{name}", name.encode())
        assert store.child(name).read(name) == name.encode() and store.folders() == [name]
        assert read(Store("/nowhere"), f"{store.uri}/{name}/{name}") == name.encode()


def test_an_object_stores_names_are_no_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # pyarrow asks a bucket for its region otherwise
    for name in ODD:
        store, place = Store(f"s3://bucket/{name}"), f"bucket/{name}"
        assert store.opened[1] == place and store.child(name).opened[1] == f"{place}/{name}"
        assert split_uri(f"{store.uri}/x.png") == (store, "x.png") and Store(store.uri) == store
    with_options = Store("s3://bucket/a b?region=eu-west-1&scheme=http").child("c#1")
    assert with_options.opened[1] == "bucket/a b/c#1" and with_options.opened[0].region == "eu-west-1"
    with pytest.raises(ArtifactError, match="is not a bucket"):
        Store("s3://b cket/a").read("x")


def test_a_file_url_is_read_as_one(tmp_path: Path) -> None:
    (tmp_path / "a b#1%.png").write_bytes(b"x")
    url = (tmp_path / "a b#1%.png").as_uri()
    assert "%20" in url and read(Store("/nowhere"), url) == b"x"
    assert Store(tmp_path.as_uri()) == Store(f"file:{tmp_path}") == Store(f"file://localhost{tmp_path}")
    assert read(Store("/nowhere"), f"file:{tmp_path}/a b#1%.png") == b"x"
    with pytest.raises(ArtifactError, match="not 'server'"):
        Store("file://server/share")


def test_local_paths_and_web_addresses_are_not_copied() -> None:
    assert local_copy("/a/b") == local_copy("file:/a/b") == "/a/b" and local_copy("https://h/x") == "https://h/x"


def test_a_remote_file_and_a_remote_folder_are_copied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    far = Store(str(tmp_path / "far"))
    for name, data in (("model/config.json", b"{}"), ("model/model.safetensors", b"w"), ("model/.git/x", b"no")):
        far.write(name, data)
    local_copy.cache_clear()
    folder, file = (Path(local_copy(f"file://{far.path(name)}")) for name in ("model", "model/model.safetensors"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "config.json": b"{}",
        "model.safetensors": b"w",
    }
    assert file.read_bytes() == b"w" and file.parent == folder.parent == tmp_path / "home" / ".cache" / "medsae_ray"
    before = folder.joinpath("config.json").stat().st_ino
    local_copy.cache_clear()
    assert local_copy(f"file://{far.path('model')}") == str(folder)
    assert folder.joinpath("config.json").stat().st_ino == before
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    local_copy.cache_clear()
    assert Path(local_copy(f"file://{far.path('model')}")).parent == tmp_path / "xdg" / "medsae_ray"
    local_copy.cache_clear()


def test_an_address_is_what_a_person_would_give(tmp_path: Path) -> None:
    assert Store(str(tmp_path)).address("report.html") == f"{tmp_path}/report.html"
    assert Store("s3://bucket/a b/").address("report.html") == "s3://bucket/a b/report.html"
    with_options = Store("s3://bucket/run?region=eu-central-1").address("report.html")
    assert with_options == "s3://bucket/run/report.html?region=eu-central-1"
    assert Store("memory://run").address("report.html") == "memory://run/report.html"
