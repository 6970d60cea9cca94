"""The data of a browser: those of the report, and what its pages show besides.

An image is called by its number, its place in a random order of the manifest: no page and no file name has an id of
the dataset. Legend: N images, L labels, F features, D dimensions of an embedding, n images of a test.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from medsae_ray.core.analysis.values import Floats
from medsae_ray.core.browser.access import Access
from medsae_ray.core.naming.plan import Concept
from medsae_ray.core.report.data import ReportData


class SampleImage(NamedTuple):
    """An image that a feature's name is tested on."""

    image_id: str
    role: str
    """bin0 (weakest) to bin4 (strongest activation), equal, hard or matched."""
    value: float
    """The feature's activation."""


class Question(NamedTuple):
    """A question that was asked about all images of a test."""

    concept: Concept
    kind: str
    """own, other (the name of another feature), control, or trivial."""
    p_n: Sequence[float]
    """p(yes) of each image; NaN without an answer."""
    blank_p: float = np.nan
    """p(yes) on an image without content."""


class NameQuestions(NamedTuple):
    """The test of a feature's name: its images, and all questions about them, the name itself first."""

    images: Sequence[SampleImage]
    questions: Sequence[Question]


class Shade(NamedTuple):
    """The grey values of an image, to be windowed on the page."""

    png: bytes
    """A PNG whose red and green are the high and the low byte of a value of 16 bits."""
    low: float
    """The value of 0."""
    high: float
    """The value of 65535."""
    least: float
    """The least and the largest value of the image."""
    most: float
    window: tuple[float, float]
    """The centre and width of the file's own window, or of the whole range."""
    inverted: bool
    """True if the least value is white."""


@dataclass(frozen=True)
class ImageTable:
    """The images of a run, in manifest order."""

    id_N: Sequence[str]
    patient_N: np.ndarray
    """The patient of each image, as a number of this table."""
    split_N: Sequence[str]
    dataset_N: Sequence[str]
    labels: Sequence[str]
    y_NL: Floats
    """1, 0 or NaN: unknown, or a label of too few patients."""
    metadata: Mapping[str, Sequence[str | None]]
    """The values of each column; None where unknown, or shared by too few patients."""
    number_N: np.ndarray
    """The number of each image on the pages."""

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Image id -> its row."""
        return {image_id: row for row, image_id in enumerate(self.id_N)}

    @cached_property
    def of_number(self) -> np.ndarray:
        """The row of each number."""
        return np.argsort(self.number_N)

    def number(self, image_id: str) -> int:
        """Return the number of an image."""
        return int(self.number_N[self.row_of[image_id]])


@dataclass(frozen=True)
class BrowserData:
    """All that the pages of a run are made of."""

    report: ReportData
    """The data of the report; its names of images are ids."""
    images: ImageTable
    x_NF: sparse.csc_array
    """The activations."""
    decoder_FD: Floats
    """The directions of the features, of unit norm."""
    tested: Callable[[int], Sequence[SampleImage]]
    """The images that a feature's name is tested on; none without a test."""
    questions: Callable[[int, str], NameQuestions | None]
    """A function of a feature and a source (vlm, label or vocabulary) to the questions about its name; None without a
    tested one. For a label's absence p(yes) of the name itself is p(no) of the label."""
    picture: Callable[[str, int], bytes | None]
    """A function of image id and side to a PNG of at most that many pixels a side; None if it cannot be read."""
    shade: Callable[[str, int], Shade | None]
    """The same to grey values of more than 8 bits; None for an image that has no more."""
    similar: Callable[[str], Sequence[tuple[str, float]]]
    """The images of other patients most like one of the run, with their similarity."""
    citation: Mapping[str, str]
    """The names of the artifacts to cite."""
    access: Access = "all"
    replication_of: Mapping[int, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """The rows of stage `replication` by feature."""
    place_of: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    """The place of each feature on the map of features; none without the map."""
    unlike: frozenset[str] = frozenset()
    """The ids of the images that are unlike the others of the run."""

    @cached_property
    def active_NF(self) -> sparse.csr_array:
        """The activations by image."""
        return sparse.csr_array(self.x_NF)

    @cached_property
    def count_F(self) -> np.ndarray:
        """The number of images on which each feature is active."""
        return np.diff(self.x_NF.indptr)
