"""No figure depends on the order of datasets, labels, columns of metadata or shards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.config import parse_recipe
from medsae_ray.core.analysis.columns import deciding_columns
from medsae_ray.core.analysis.feature_table import UnitStatistics, to_json
from medsae_ray.core.analysis.partial_sums import FeatureWork, Labels
from medsae_ray.core.analysis.probes import ProbeWork, gathered, probe, probe_rows
from medsae_ray.core.analysis.replication import Correlations, replicate
from medsae_ray.core.analysis.replication_table import best_pairs, pair_table
from medsae_ray.core.datasets.combine import combine
from medsae_ray.core.datasets.rows import Rows, label_names, to_manifest
from medsae_ray.core.naming.label_names import label_names as names_by_label
from tests.core.made import SHARES, Cohort, artifact, both_evidence, cohort, embeddings_table
from tests.core.made import activations_table as activations_of
from tests.support.small import recipe_data
from tests.support.usual import replication_rules

DATASETS, LABELS, COLUMNS = ("kermany", "ieee", "nih"), ("l0", "l1", "l2", "l3"), ("view", "sex", "age")
MAPPED = {"L0": {name: "l0" for name in DATASETS}, "L3": {"nih": "l3", "ieee": "l3"}}
MADE = {name: cohort(seed, images=90, labels=4) for seed, name in enumerate(DATASETS)}
for _made in MADE.values():
    _made.y_NL[:, 2] = _made.y_NL[:, 1]  # an exact tie, which no order may settle


class Run:
    """Datasets, labels and columns in some order, up to all tables."""

    def __init__(
        self, root: Path, datasets: Sequence[str], labels: Sequence[str], columns: Sequence[str], shard_rows: int
    ) -> None:
        rows = [rows_of(name, labels, columns) for name in datasets]
        manifest = to_manifest(combine(rows, dict(reversed(MAPPED.items()))), SHARES, "s", shard_rows)
        made = Cohort(
            *(np.concatenate([getattr(MADE[name], key) for name in datasets]) for key in ("patient_N", "y_NL")),
            *(np.concatenate([getattr(MADE[name], key) for name in datasets]) for key in ("x_ND", "z_NM", "ok_N")),
        )
        shards = np.split(np.arange(len(made.ok_N)), range(shard_rows, len(made.ok_N), shard_rows))
        embeddings = artifact(root, "embeddings", [embeddings_table(made, part) for part in shards])
        activations = artifact(root, "activations", [activations_of(made, part) for part in shards])
        found = Labels.of(manifest, "ignore", "ignore", made.ok_N)
        self.work = FeatureWork(embeddings, activations, found, made.z_NM.shape[1], 4, 5, 0)
        self.manifest, self.names = manifest, label_names(manifest.schema)

    def tables(self) -> dict[str, Any]:
        """Everything that is shown, by the names of labels and datasets."""
        whole = both_evidence(self.work, self.names)
        named = names_by_label(whole["sae"].table, self.work.labels.discovery_patients(), self.names)
        found: dict[str, Any] = {space: by_name(of, self.names) for space, of in whole.items()}
        columns = {name: self.manifest[name] for name in self.manifest.column_names if name.startswith("m_")}
        decided = deciding_columns(columns, self.work.labels.y_NL, 150, self.names)
        found["deciding"] = {column: sorted(labels) for column, labels in decided.items()}
        found["names"] = [(row["name"], row["evidence"]) for row in named.to_pylist()]
        return found | self._replication() | self._probe()

    def _replication(self) -> dict[str, Any]:
        labels, names = self.work.labels, self.work.labels.datasets
        dataset_N = np.array(names)[labels.dataset_N]
        works = [FeatureWork(**vars(self.work) | {"labels": labels.within(dataset_N == name)}) for name in names]
        r_DFL = np.array([both_evidence(work, self.names)["sae"].table["r"].to_pylist() for work in works], dtype=float)
        rules = replication_rules()
        found = Correlations.of(r_DFL, np.array([work.labels.discovery_patients() for work in works]), rules.level)
        results = list(replicate(found, rules))
        best = best_pairs(found, results, names, self.names)
        pairs = pair_table(found, results, names, self.names).to_pylist()
        key = ("source", "label", "feature", "dataset")
        return {
            "best": {(row["source"], row["label"], row["present"]): row for row in best},
            "pairs": {tuple(row[k] for k in key): row for row in pairs},
        }

    def _probe(self) -> dict[str, Any]:
        labels, label = self.work.labels, self.names.index("L0")
        chosen = probe_rows(labels)
        work = ProbeWork(self.work.embeddings, self.work.activations, labels.shard_N, chosen, self.work.width)
        sample = gathered([work.compute(shards) for shards in work.groups()])
        role_n = np.where(labels.test_N, 2, np.where(labels.training_N, 0, 1))[sample.row_n]
        found = probe(sample.raw_nD, labels.y_NL[sample.row_n, label], role_n, 0.95)
        return {"probe": (round(found.area.auc, 6), found.strength, found.patients)}


def rows_of(name: str, labels: Sequence[str], columns: Sequence[str]) -> Rows:
    made, rng = MADE[name], np.random.default_rng(len(name))
    values = {label: made.y_NL[:, LABELS.index(label)] for label in labels}
    y = {label: pa.array(y_N, from_pandas=True).cast(pa.int8()) for label, y_N in values.items()}
    drawn = {column: rng.choice(["a", "b", "c"], len(made.ok_N)).tolist() for column in COLUMNS}
    drawn["sex"] = np.where(made.y_NL[:, 0] == 1, "x", "y").tolist()
    metadata = {column: pa.array(drawn[column]) for column in columns}
    return Rows(name, made.image_N, made.patient_N.tolist(), made.image_N, y, metadata)


def by_name(found: UnitStatistics, names: list[str]) -> dict[str, Any]:
    """A features table with its lists by label, findings by label, entropies."""
    rows = found.table.to_pylist()
    for row in rows:
        for key in ("r", "r_low", "r_high"):
            row[key] = dict(sorted(zip(names, row[key], strict=True)))
    finding = {(f["label"], f["present"]): f for f in to_json([*found.findings, *found.absences])}
    return {"rows": rows, "findings": dict(sorted(finding.items())), "entropy": found.entropy}


def alike(a: Any, b: Any, where: str = "") -> None:
    """Equal, floats to 1e-9."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key, value in a.items():
            alike(value, b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (one, two) in enumerate(zip(a, b, strict=True)):
            alike(one, two, f"{where}[{i}]")
    elif isinstance(a, float) and isinstance(b, float):
        assert a == pytest.approx(b, rel=1e-9, abs=1e-9, nan_ok=True), where
    else:
        assert a == b, where


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return Run(tmp_path_factory.mktemp("usual"), sorted(DATASETS), LABELS, COLUMNS, 1000).tables()


@settings(max_examples=12, deadline=None)
@given(
    datasets=st.permutations(DATASETS),
    labels=st.permutations(LABELS),
    columns=st.permutations(COLUMNS),
    shard_rows=st.integers(7, 300),
)
def test_tables_are_the_same_for_any_order_of_datasets_labels_columns_and_shards(
    usual: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
    datasets: list[str],
    labels: list[str],
    columns: list[str],
    shard_rows: int,
) -> None:
    alike(Run(tmp_path_factory.mktemp("order"), datasets, labels, columns, shard_rows).tables(), usual)


def test_the_usual_tables_have_something_in_them(usual: dict[str, Any]) -> None:
    assert usual["deciding"] and any(name for name, _ in usual["names"]) and usual["pairs"]
    assert usual["sae"]["findings"][("L0", True)]["by_dataset"].keys() == set(DATASETS)
    assert {row["best_label"] for row in usual["sae"]["rows"]} & {"ieee/l1", "kermany/l1", "nih/l1"}
    assert not {row["best_label"] for row in usual["sae"]["rows"]} & {"ieee/l2", "kermany/l2", "nih/l2"}


def test_a_recipe_means_the_same_whatever_the_order_of_its_datasets_and_of_its_map_s_keys(tmp_path: Path) -> None:
    def read(names: Sequence[str], mapped: dict[str, dict[str, str]]) -> Any:
        data = recipe_data(tmp_path / "t.csv", tmp_path / "e.onnx")
        one = data["what"].pop("dataset")
        data["what"] |= {"datasets": [one | {"name": name} for name in names], "labels": mapped}
        data["how"]["paths"]["datasets"] = {name: {"table": "t.csv"} for name in names}
        del data["how"]["paths"]["table"]
        return parse_recipe(data).what

    mapped = {"B": {"b": "bright"}, "A": {"a": "left", "c": "left"}}
    one, other = read("bca", mapped), read("abc", dict(reversed(mapped.items())))
    assert one.sources == other.sources and [source.name for source in one.sources] == ["a", "b", "c"]
    rows = [rows_of(name, LABELS, COLUMNS) for name in DATASETS]
    assert list(combine(rows, MAPPED).labels) == list(combine(rows, dict(reversed(MAPPED.items()))).labels)
