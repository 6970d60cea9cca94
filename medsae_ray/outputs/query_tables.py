"""The tables of a query to a finished run."""

from rich.table import Table

from medsae_ray.core.retrieval.answer import QueryAnswer
from medsae_ray.core.retrieval.query import BY_TEXT
from medsae_ray.outputs.console import number, plain_table


def query_tables(answer: QueryAnswer) -> list[str | Table]:
    """Return the way of a query to its features, these, and their images."""
    by_text = answer["way"] == BY_TEXT
    how = "the encoder's text half; score is a cosine" if by_text else "the words of their names; score is BM25"
    if not answer["features"]:
        return [f"no feature answers this query, by {how}"]
    features = plain_table("name", "from", "verdict", right=("feature", "score", "p"))
    for row in answer["features"]:
        p = "–" if row["p"] is None else f"{row['p']:.2g}"
        texts = (row["name"] or "–", row["name_source"] or "–", row["verdict"] or "–")
        features.add_row(*texts, str(row["feature"]), number(row["score"]), p)
    images = plain_table("image", "patients", "feature: activation", right=("score",))
    for image in answer["images"]:
        active = ", ".join(f"{f['feature']}: {f['activation']:.2f}" for f in image["features"])
        images.add_row(image["image_id"], image["split"], active, number(image["score"]))
    return [f"features by {how}", features, "", images]
