"""Doubts about a run's numbers, for its readers.

A stage states them of its artifact (`Stage.warnings`), both of a new one and of an earlier one. They are printed under
the stage's tick and again at the end, and stand at the top of the report and in summary.json.
"""

from collections.abc import Iterable
from dataclasses import dataclass

CODES: dict[str, str] = {
    "images_not_ok": "A good part of the images could not be used, and the figures may not hold for them: see the "
    "reasons, repair the files, delete the embeddings' folder and run again.",
    "patients_unknown": "The patients are unknown, so each image counts as a patient of its own. Two images of one "
    "person may then be on both sides of a split, and intervals are too narrow: name the column.",
    "one_patient": "One patient has a large part of the images that units and labels are matched on. Correlations "
    "weigh images: `what.features.weights: patients` weighs every patient once.",
    "few_in_test": "A label has fewer than 20 test patients with it, or without it. Its AUROC rests on those.",
    "unmentioned_never_absent": "A label is never absent, only present or not mentioned, so no unit can be correlated "
    "with it. `blank: zero` in the dataset counts unmentioned labels as absent.",
    "small_training": "There are fewer training images than the encoder has dimensions, so an SAE can overfit them. "
    "Check R2 on new patients, and use a narrow SAE.",
    "naming_support": "There are too few patients to give names, or to test them. Lower the numbers of what.naming, or "
    "leave it out.",
    "l0_far_from_k": "On held-out images the SAE has over a fifth more or fewer active features than its k. With more, "
    "the dictionary overfits its training images; use a smaller what.sae.width or more images.",
    "dead_features": "Over half of the SAE's features are active on no image at all. Use a smaller what.sae.width, or "
    "leave it out.",
    "copied_features": "Over a twentieth of the SAE's live features are copies of another (their activations on images "
    "correlate above 0.9). The report shows a group once. Use a smaller what.sae.width, or leave it out.",
    "no_labels": "The dataset has no labels: features are shown with their images only, and without correlations.",
    "column_decides_label": "A metadata column repeats a label: either one determines the other. Shortcuts by this "
    "column are not reported; leave it out of the metadata, or check whether the label was made from it.",
    "datasets_disagree": "A feature's AUROC for a label differs between two datasets, or between one and all together "
    "(their intervals are disjoint). The figure of all mixes differences between datasets with differences between "
    "patients: read it dataset by dataset (findings.<label>.by_dataset).",
    "uncertain_without_absent": "A label has -1 and no 0. -1 counts as uncertain and is left out, so the label has no "
    "negatives; if it means absent, set `uncertain: zero` in the dataset.",
    "exif_orientation": "The EXIF of some files turns or mirrors them. They are turned, unless `images: {orientation: "
    "stored}` leaves them as stored.",
    "more_pages": "Files hold further pages or frames, of which only the first was read. Split them to use them all.",
    "transparency": "Images have transparent pixels, which were read as opaque.",
    "odd_number": "DICOM headers have invalid numbers as windows or padding, which were ignored. Check such images.",
    "shared_uids": "DICOM files with different pixels share one SOP instance UID, as some anonymisers leave them. They "
    "are kept apart, but a table cannot be joined to them by that UID.",
    "class_scores": "The encoder's output looks like class scores and not like an embedding, so features can express "
    "no more than the classes. `output_name` selects a tensor inside the model.",
    "model_blind": "The vision-language model separates no label of this data set from its absence (no ceiling's "
    "interval, corrected for the number of labels, lies above 0.5). No name is verified; use a model that knows such "
    "images.",
    "no_ceiling": "The model's ceiling is unknown, as no label could be asked for. Names are verified against controls "
    "alone; labels would add a ceiling.",
    "rankings_unjudged": "The ranks of names among five say nothing of the names: the model ranks labels that are "
    "there no better than chance, or cannot be tried, or its rankings cannot be read. Use a model that follows "
    "instructions.",
    "likeness_unknown": "The split naming has too few patients to say how far from the run's embeddings an image of a "
    "new patient may lie, or the embeddings do not vary: no image is flagged as unlike the run. Use more patients, or "
    "a lower what.likeness.level; with n patients it can be n / (n + 1).",
    "test_unlike": "More test patients than twice the expected share have images unlike those that the SAE was trained "
    "on, as with patients of another hospital or another device. Figures on test patients are then about that "
    "difference too.",
    "no_mass": "The model answers many questions with neither yes nor no; P(yes) + P(no) below 0.1 counts as no "
    "answer. Its prompt template may be wrong, or it may not follow instructions.",
}
"""The meaning of every code, and a remedy."""


@dataclass(frozen=True)
class RunWarning:
    """A doubt about a run."""

    code: str
    """A key of `CODES`, for programs."""
    message: str
    """The observation and a remedy, for people. It quotes no identifier and no cell of a table."""
    value: float | int | str | None = None
    """The figure behind the warning."""

    def __post_init__(self) -> None:
        assert self.code in CODES, f"warning code {self.code!r} is not documented in CODES"


def distinct(warnings: Iterable[RunWarning]) -> list[RunWarning]:
    """Return each warning once, in the order of first appearance."""
    return list(dict.fromkeys(warnings))
