import pyarrow as pa
import pytest

from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.schema import conform
from medsae_ray.errors import ArtifactError

EMBEDDINGS = schema.embeddings(2)


def embeddings() -> pa.Table:
    columns = {"image_id": ["a", "b"], "x": [[1.0, 2.0], None], "ok": [True, False], "reason": [None, "empty"]}
    return pa.table(columns, schema=EMBEDDINGS)


def changed(column: str, values: pa.Array) -> pa.Table:
    table = embeddings()
    return table.set_column(table.schema.get_field_index(column), column, values)


def test_a_table_that_conforms_is_taken_with_the_declared_schema() -> None:
    table = pa.table(embeddings().columns, names=EMBEDDINGS.names)
    assert not table.schema.equals(EMBEDDINGS)
    taken = conform(table, EMBEDDINGS, "here")
    assert taken.schema.equals(EMBEDDINGS) and taken.to_pylist() == embeddings().to_pylist()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (embeddings().drop_columns("reason"), r"here: columns .* were written"),
        (embeddings().append_column("more", pa.array([1, 2])), r"columns .*'more'.* were written"),
        (embeddings().select(["ok", "image_id", "x", "reason"]), r"columns \['ok'"),
        (changed("ok", pa.array([1, 0])), "column 'ok' is int64, bool is declared"),
        (changed("image_id", pa.array(["a", None])), "column 'image_id' has 1 nulls"),
        (changed("x", pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2))), "column 'x' is"),
        (changed("x", pa.array([[1.0], None], schema.embeddings(1).field("x").type)), "column 'x' is"),
        (
            changed("x", pa.array([[1.0, None], None], EMBEDDINGS.field("x").type)),
            "column 'x' has 1 nulls in its lists",
        ),
    ],
)
def test_a_table_that_differs_is_refused(table: pa.Table, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        conform(table, EMBEDDINGS, "here")


def test_a_null_list_and_an_empty_list_have_no_null_items() -> None:
    declared = schema.activations()
    columns = [["a", "b", "c"], [[1, 2], None, []], [[1.0, 2.0], None, []], [1.0, None, 0.0], [1.0, None, 0.0]]
    table = pa.table([pa.array(c, field.type) for c, field in zip(columns, declared, strict=True)], schema=declared)
    assert conform(table.slice(1), declared, "here").num_rows == 2


def test_the_atlas_is_the_features_with_a_name_and_its_test() -> None:
    added = schema.atlas(3).names[len(schema.features(3).names) :]
    assert added[:4] == ["name", "name_source", "definition", "verdict"]
    assert added[4:] == [f"detection_{column}" for column in schema.DETECTION]
    assert schema.atlas(3).names[: -len(added)] == schema.features(3).names
    assert schema.features(3).field("r").type.list_size == 3
