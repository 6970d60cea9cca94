"""The tables of a query to a finished run."""

from rich.markup import escape
from rich.table import Table

from medsae_ray.core.retrieval.answer import QueryAnswer, SimilarAnswer
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


def similar_tables(answer: SimilarAnswer) -> list[str | Table]:
    """The fingerprint of an image, and the images that share it."""
    features = plain_table("name", "from", "verdict", right=("feature", "activation"))
    for row in answer["features"]:
        texts = (row["name"] or "–", row["name_source"] or "–", row["verdict"] or "–")
        features.add_row(*map(escape, texts), str(row["feature"]), number(row["activation"]))
    if not answer["images"]:
        said = f"no similar images: {answer['reason']}"
        return [features, "", said] if answer["features"] else [said]
    images = plain_table("image", "patients", "shared feature: activation", right=("similarity",))
    for image in answer["images"]:
        shared = ", ".join(f"{f['feature']}: {f['activation']:.2f}" for f in image["features"])
        images.add_row(escape(image["image_id"]), image["split"], shared, number(image["similarity"], 3))
    said = answer["reason"] or f"the {answer['k']} strongest features of the image"
    return [said, features, "", images]
