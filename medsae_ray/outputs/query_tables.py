"""The tables of a query to a finished run."""

from rich.markup import escape
from rich.table import Table

from medsae_ray.core.retrieval.answer import QueryAnswer, SimilarAnswer
from medsae_ray.core.retrieval.query import BY_MODEL, BY_NAMES, BY_TEXT
from medsae_ray.outputs.console import number, plain_table

HOW = {
    BY_TEXT: "the encoder's text half; score is a cosine",
    BY_NAMES: "the words of their names; score is BM25",
    BY_MODEL: "a model's picks; score is a weight",
}


def query_tables(answer: QueryAnswer) -> list[str | Table]:
    """Return the way of a query to its features, these, and their images."""
    how = HOW[answer["way"]]
    if answer["refused"]:
        return [f"this query is not answered: {escape(answer['refused'])}"]
    if not answer["features"] and not answer["excluded"]:
        return [f"no feature answers this query, by {how}", *_said(answer)]
    features = plain_table("name", "from", "verdict", right=("feature", "score", "p"))
    for row in answer["features"]:
        p = "–" if row["p"] is None else f"{row['p']:.2g}"
        texts = (row["name"] or "–", row["name_source"] or "–", row["name_verdict"] or "–")
        features.add_row(*texts, str(row["feature"]), number(row["score"]), p)
    images = plain_table("image", "patients", "feature: activation", right=("score",))
    for image in answer["images"]:
        active = ", ".join(f"{f['feature']}: {f['activation']:.2f}" for f in image["features"])
        images.add_row(image["image_id"], image["split"], active, number(image["score"]))
    if not answer["features"]:
        return [*_said(answer), "", images]
    return [f"features by {how}", features, *_said(answer), "", images]


def _said(answer: QueryAnswer) -> list[str | Table]:
    """Say what the images must not have, what they must be, and what no name says."""
    out = ", ".join(f"{row['name'] or 'without a name'} ({row['feature']})" for row in answer["excluded"])
    told = ", ".join(f"{column} {value}" for column, value in answer["conditions"].items())
    lines = {
        "inactive on each image": out,
        "metadata of each image": told,
        "said by no name": ", ".join(answer["unmet"]),
    }
    return [f"{head}: {escape(text)}" for head, text in lines.items() if text]


def similar_tables(answer: SimilarAnswer) -> list[str | Table]:
    """The fingerprint of an image, and the images that share it."""
    features = plain_table("name", "from", "verdict", right=("feature", "activation"))
    for row in answer["features"]:
        texts = (row["name"] or "–", row["name_source"] or "–", row["name_verdict"] or "–")
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
