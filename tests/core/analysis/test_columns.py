import numpy as np
import pyarrow as pa

from medsae_ray.core.analysis.columns import deciding_columns

N = 400
RNG = np.random.default_rng(0)
KIND = RNG.choice(["normal", "bacteria", "virus"], N)
Y_NL = np.stack([KIND != "normal", KIND == "virus", RNG.random(N) < 0.5], axis=1).astype(float)
LABELS = ["pneumonia", "viral", "other"]


def decided(column: list[str | None], y_NL: np.ndarray = Y_NL, patients: int = N) -> list[str]:
    return deciding_columns({"c": pa.chunked_array([pa.array(column, pa.string())])}, y_NL, patients, LABELS).get(
        "c", []
    )


def test_a_column_that_is_labels_in_other_words_is_found_whatever_its_categories_are_called() -> None:
    assert decided(KIND.tolist()) == ["pneumonia", "viral"]
    assert decided([None if kind == "normal" else kind for kind in KIND]) == ["pneumonia", "viral"]
    assert decided(["1" if kind == "virus" else "0" for kind in KIND]) == ["viral"]


def test_one_error_in_a_hundred_is_forgiven_and_a_shortcut_is_not_taken_for_a_label() -> None:
    virus = np.flatnonzero(KIND == "virus")
    column = ["1" if kind == "virus" else "0" for kind in KIND]
    for row in virus[:1]:
        column[row] = "0"
    assert decided(column) == ["viral"]
    for row in virus[: len(virus) // 10]:
        column[row] = "0"
    assert decided(column) == []


def test_columns_that_name_patients_never_vary_or_are_numbers_decide_nothing() -> None:
    assert decided([f"study {n // 2}" for n in range(N)], patients=N // 2) == []
    assert decided(["PA"] * N) == decided([None] * N) == decided(RNG.integers(20, 90, N).astype(str).tolist()) == []


def test_few_images_of_a_class_prove_nothing_and_unknown_labels_do_not_count() -> None:
    y_NL, view = np.zeros((N, 3)), ["PA"] * N
    y_NL[:9, 0], view[:9] = 1, ["AP"] * 9
    assert decided(view, y_NL) == []
    y_NL[9, 0], view[9] = 1, "AP"
    assert decided(view, y_NL) == ["pneumonia"]
    y_NL[:10, 0] = np.nan
    assert decided(view, y_NL) == []
