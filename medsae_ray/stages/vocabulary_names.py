"""Stages `vocabulary_names` and `vocabulary_answers`: names by the encoder's own text half, and their test."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medsae_ray.config import Recipe, Vocabulary
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact, Draft, sha256
from medsae_ray.core.artifacts.columns import column
from medsae_ray.core.artifacts.name_metrics import VocabularyNamesMetrics
from medsae_ray.core.artifacts.store import split_uri
from medsae_ray.core.encoders.hub import is_id, snapshot
from medsae_ray.core.encoders.text import TOKENIZER, TextEncoder, load_text_encoder
from medsae_ray.core.naming.alignment import Space, vocabulary_names
from medsae_ray.core.naming.vocabulary import CHEST, checked_terms, embed_terms, parse_terms, terms_hash
from medsae_ray.core.retrieval.query import TextSide
from medsae_ray.core.sae.activations import load_artifact_sae
from medsae_ray.errors import EncoderError, RecipeError
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.stages.answers import concepts_of, name_answers, questions_what
from medsae_ray.stages.samples import without_naming

TOKENIZER_FILES = (
    *("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
)
"""The files of a tokenizer's folder that decide how texts are cut into words."""
TEXTS = "texts"
"""The file of the vocabulary's embeddings, in an artifact of names."""


def vocabulary_of(recipe: Recipe) -> Vocabulary:
    """Return the vocabulary, in a stage that only runs with one."""
    vocabulary = recipe.what.vocabulary
    assert vocabulary is not None, "the stage is part of a run with a vocabulary only"
    return vocabulary


def _without(recipe: Recipe) -> str | None:
    return None if recipe.what.vocabulary else "what.vocabulary"


def terms_of(recipe: Recipe) -> list[str]:
    """Return the recipe's own terms, those of its file, or the packaged ones. RecipeError if they cannot be used."""
    terms, path = vocabulary_of(recipe).terms, recipe.how.paths.vocabulary
    if terms:
        return checked_terms(terms, "what.vocabulary.terms")
    if path is None:
        return parse_terms(CHEST.read_text(encoding="utf-8"), CHEST.name)
    store, name = split_uri(path)
    try:
        return parse_terms(store.read(name).decode(), f"how.paths.vocabulary: {path}")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"how.paths.vocabulary: {path} cannot be read as text ({error})") from error


def text_half(recipe: Recipe) -> TextEncoder:
    """Load the text half of the recipe's encoder on the CPU: the driver may have no GPU, and texts are few."""
    encoder = recipe.what.encoder
    local = encoder.local(encoder.pinned(recipe.how.paths.weights))
    return load_text_encoder(encoder.kind, local, tokenizer=str(_tokenizer(recipe)))


def listener(recipe: Recipe, artifacts: Mapping[str, Artifact]) -> TextSide | None:
    """Return the text side that queries to a finished run need; None without a vocabulary."""
    rules = recipe.what.vocabulary
    if rules is None:
        return None
    t_VD = np.load(io.BytesIO(artifacts["vocabulary_names"].file(TEXTS)), allow_pickle=False)
    space = Space.of(load_artifact_sae(artifacts["sae"]), t_VD, rules.centring)
    null_KD = space.null(_alive(artifacts["features"]), rules.draws, rules.seed)
    return TextSide(text_half(recipe), rules.templates, space, null_KD)


def _alive(features: Artifact) -> np.ndarray:
    """Return True for the features [F] that are active on some image."""
    table = features.table(["space", "feature", "n_active"])
    counts = column(table, "n_active")[column(table, "space") == "sae"]
    return np.asarray(counts > 0)


def _tokenizer(recipe: Recipe) -> Path:
    """Return the tokenizer's folder; for a Hugging Face id, a copy of the files of its current commit."""
    given = recipe.how.paths.tokenizer or TOKENIZER
    return snapshot(given, ("config.json", *TOKENIZER_FILES)) if is_id(given) else Path(given).expanduser()


def _tokenizer_hash(folder: Path) -> str:
    """Hash the contents of a tokenizer's files."""
    files = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if not files:
        raise EncoderError(f"tokenizer {folder}: none of {', '.join(TOKENIZER_FILES)} is there")
    return sha256("\n".join(f"{file.name} {sha256(file.read_bytes())}" for file in files).encode())


def _names(run: Run, draft: Draft) -> Made:
    rules, terms = vocabulary_of(run.recipe), terms_of(run.recipe)
    t_VD = embed_terms(text_half(run.recipe), terms, rules.templates, run.recipe.how.embed.batch_size)
    space = Space.of(load_artifact_sae(draft.parents["sae"]), t_VD, rules.centring)
    if t_VD.shape[1] != space.direction_FD.shape[1]:
        raise EncoderError(f"texts have {t_VD.shape[1]} dimensions, images {space.direction_FD.shape[1]}")
    alive_F = _alive(draft.parents["features"])
    table = vocabulary_names(space, terms, t_VD, alive_F, rules.draws, rules.seed, rules.q)
    stored = io.BytesIO()
    np.save(stored, t_VD)
    files = [draft.writer(schema.names()).write(0, table, table.num_rows)]
    files.append(draft.write_file(TEXTS, ".npy", stored.getvalue()))
    named = table.num_rows - table["name"].null_count
    return Made(files, VocabularyNamesMetrics(terms=len(terms), named=named, abstained=table.num_rows - named))


def _what(run: Run) -> dict[str, Any]:
    chosen = vocabulary_of(run.recipe).model_dump(exclude={"terms"})
    return chosen | {"terms": terms_hash(terms_of(run.recipe)), "tokenizer": _tokenizer_hash(_tokenizer(run.recipe))}


def _parents(recipe: Recipe) -> tuple[str, ...]:
    return ("sae", "features")


def _answers(run: Run, draft: Draft) -> Made:
    return name_answers(run, draft, concepts_of(draft.parents["vocabulary_names"].table()))


def _answers_parents(recipe: Recipe) -> tuple[str, ...]:
    return ("samples", "vocabulary_names", "manifest")


VOCABULARY_NAMES = Stage("vocabulary_names", 2, _parents, _what, _names, lacks=_without)
VOCABULARY_ANSWERS = Stage(
    "vocabulary_answers",
    2,
    _answers_parents,
    questions_what,
    _answers,
    lacks=lambda recipe: _without(recipe) or without_naming(recipe),
)
