import hashlib
import hmac
import os
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.datasets.privacy import KEY_FILE, find_key, hash_ids, key_check, pseudonym
from medsae_ray.core.datasets.rows import Rows, to_manifest
from medsae_ray.core.datasets.splits import audit
from medsae_ray.errors import RecipeError

KEY, SHARES = b"0123456789abcdef", {"sae": 0.4, "naming": 0.3, "detection": 0.3}


def manifest(patients: list[str], name: str = "d") -> pa.Table:
    images = [f"i{n}" for n in range(len(patients))]
    y = {"a": pa.array([1] * len(patients), pa.int8())}
    rows = Rows(name, images, patients, images, y, {}, study_id=[f"{p}/s" for p in patients])
    return to_manifest(rows, SHARES, "s", 4)


def test_a_pseudonym_is_hmac_sha256() -> None:
    expected = hmac.new(KEY, b"patient\0p1", hashlib.sha256).hexdigest()[:32]
    assert pseudonym(KEY, "patient", "p1") == expected
    assert (
        len({pseudonym(KEY, "patient", "p1"), pseudonym(KEY, "image", "p1"), pseudonym(KEY * 2, "patient", "p1")}) == 3
    )


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_hashing_renames_patients_and_changes_nothing_else(numbers: list[int]) -> None:
    plain = manifest([f"p{n}" for n in numbers])
    hashed = hash_ids(plain, KEY, ["d"])
    same = ["dataset", "uri", "shard", "split", "index_image", "y_a"]
    assert hashed.schema == plain.schema and hashed.select(same) == plain.select(same)
    assert audit(hashed) == audit(plain)
    for column in ("patient_id", "image_id", "study_id"):
        new_of = defaultdict(set)
        for old, new in zip(plain[column].to_pylist(), hashed[column].to_pylist(), strict=True):
            new_of[old].add(new)
        assert all(len(names) == 1 for names in new_of.values())
        assert len(set.union(*new_of.values())) == len(new_of) and not set.union(*new_of.values()) & set(new_of)


def test_only_the_chosen_datasets_are_hashed() -> None:
    both = pa.concat_tables([manifest(["p1"], "d"), manifest(["p1"], "e")])
    assert hash_ids(both, KEY, ["e"])["patient_id"].to_pylist() == ["p1", pseudonym(KEY, "patient", "p1")]


def test_a_root_makes_one_key_and_keeps_it_private(tmp_path: Path) -> None:
    root = Store(str(tmp_path / "new"))
    key = find_key(root)
    file = tmp_path / "new" / KEY_FILE
    assert find_key(root) == key == file.read_bytes() and len(bytes.fromhex(key.decode())) == 32
    assert file.stat().st_mode & 0o777 == 0o600 and os.listdir(tmp_path / "new") == [KEY_FILE]
    assert find_key(Store(str(tmp_path / "other"))) != key


def test_a_key_comes_from_a_file_or_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_bytes(KEY + b"\n")
    monkeypatch.setenv("THE_KEY", KEY.decode())
    root = Store(str(tmp_path / "root"))
    assert find_key(root, file=str(tmp_path / "key")) == find_key(root, variable="THE_KEY") == KEY
    assert not (tmp_path / "root").exists()


def test_a_key_that_is_missing_short_or_would_be_public_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"short")
    for chosen, message in (
        ({"file": str(tmp_path / "key")}, "holds a key of 5 bytes; at least 16 are needed"),
        ({"file": str(tmp_path / "none")}, "cannot be read"),
        ({"variable": "NO_SUCH_KEY"}, "environment variable NO_SUCH_KEY holds a key of 0 bytes"),
    ):
        with pytest.raises(RecipeError, match=message):
            find_key(Store(str(tmp_path)), **chosen)
    with pytest.raises(RecipeError, match="is no place for a key"):
        find_key(Store("memory://bucket/run"))


def test_the_check_of_a_key_is_not_the_key() -> None:
    assert key_check(KEY) != key_check(KEY * 2) and len(key_check(KEY)) == 12 and KEY.hex()[:12] != key_check(KEY)
