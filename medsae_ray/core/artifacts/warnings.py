"""What a reader has to know before believing a run's numbers.

A stage says it of its artifact (`Stage.warnings`), whether the artifact was made now or before. It is printed under the
stage's tick and again at the end, and stands at the top of the report and in summary.json.
"""

from collections.abc import Iterable
from dataclasses import dataclass

CODES: dict[str, str] = {
    "images_not_ok": "A good part of the images could not be used, and what is said of the others may not hold for "
    "them: see the reasons, mend what can be mended, delete the embeddings' folder and run again.",
    "patients_unknown": "Nothing says whose an image is, so each counts as a patient of its own. Two images of one "
    "person may then stand on both sides of a split, and intervals are too narrow: name the column.",
    "one_patient": "One patient has a large part of the images that units and labels are matched on. Correlations "
    "weigh images: `what.features.weights: patients` lets every patient count once.",
    "few_in_test": "A label has fewer than 20 test patients with it, or without it. Its AUROC rests on those.",
    "unmentioned_never_absent": "A label is never absent, only present or not mentioned, so nothing can be correlated "
    "with it. `blank: zero` in the dataset says that what is not mentioned is absent.",
    "small_training": "There are fewer training images than the encoder has dimensions: an SAE can learn them by "
    "heart. Look at R2 on new patients, and take a narrow SAE.",
    "naming_support": "There are too few patients for names: to give them, or to test them. Lower the numbers of "
    "what.naming, or leave it out.",
    "l0_far_from_k": "On held-out images the SAE has over a fifth more or fewer active features than were asked for. "
    "More: the dictionary fits its training images by heart; use a smaller what.sae.width or more images.",
    "dead_features": "Over half of the SAE's features are active on no image at all. Use a smaller what.sae.width, or "
    "leave it out.",
    "copied_features": "Over a twentieth of the SAE's live features are copies of another (their activations on images "
    "correlate above 0.9). The report shows a group once. Use a smaller what.sae.width, or leave it out.",
    "no_labels": "The dataset has no labels: features are shown with their images only, and nothing says what goes "
    "with them.",
    "column_decides_label": "A metadata column is a label in other words: knowing one is knowing the other. Shortcuts "
    "by this column are not reported; leave it out of the metadata, or ask whether the label was made from it.",
    "datasets_disagree": "A feature's AUROC for a label is another in one dataset than in a second, or than in all "
    "together (their intervals do not meet). The figure of all mixes differences between datasets with differences "
    "between patients: read it dataset by dataset (findings.<label>.by_dataset).",
    "uncertain_without_absent": "A label has -1 and no 0. -1 counts as uncertain and is left out, so the label has no "
    "negatives; if it was meant as absent, the dataset's `uncertain: zero` says so.",
    "exif_orientation": "Files say by EXIF that they lie on their side or are mirrored. They are turned, unless "
    "`images: {orientation: stored}` leaves them as they lie.",
    "more_pages": "Files hold further pages or frames, of which only the first was read. Split them to have them all.",
    "transparency": "Images have transparent pixels, which were read as if they were not.",
    "odd_number": "DICOM headers have windows or padding that are no numbers, and that were left out. Look at such "
    "images.",
    "shared_uids": "DICOM files with different pixels share one SOP instance UID, as some anonymisers leave them. They "
    "are kept apart; a table cannot be joined to them by that UID.",
    "class_scores": "The encoder's output looks like scores of classes and not like an embedding, so features can say "
    "no more than the classes do. `output_name` takes a tensor inside the model.",
    "model_blind": "The vision-language model tells no label of this data set from its absence (no ceiling's interval, "
    "corrected for the number of labels, lies above 0.5). No name is verified; take a model that knows such images.",
    "no_ceiling": "What the model can see is not known, as no label could be asked for. Names are verified against "
    "controls alone: give labels, if there are any, to know more.",
    "no_mass": "The model answers many questions with neither yes nor no; where P(yes) + P(no) is below 0.1 that is no "
    "answer. Its prompt template may be wrong, or it may not follow instructions.",
}
"""Every code, with what it means and what to do about it."""


@dataclass(frozen=True)
class RunWarning:
    """One doubt about one run."""

    code: str
    """A key of `CODES`, for programs."""
    message: str
    """What was found and what to do, for people. It quotes no identifier and no cell of a table."""
    value: float | int | str | None = None
    """The figure that gave rise to it."""

    def __post_init__(self) -> None:
        assert self.code in CODES, f"warning code {self.code!r} is not documented in CODES"


def distinct(warnings: Iterable[RunWarning]) -> list[RunWarning]:
    """Each warning once, in the order in which they were first given."""
    return list(dict.fromkeys(warnings))
