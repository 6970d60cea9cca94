"""Notes on usable images: features of their files that were ignored or changed.

| note | meaning |
|---|---|
| exif_orientation | its EXIF asks to turn or mirror it; what.images.orientation decides on that |
| more_pages | its file holds further pages or frames, of which none is read |
| transparency | it has transparent pixels, which are shown as if they were not |
| odd_number | a number of its DICOM header is invalid, so its window or padding counts as absent |

Notes travel with the image, as `Image.info`, and are counted in the record of the embeddings.
"""

from collections.abc import Mapping

from PIL import Image

NOTES = ("exif_orientation", "more_pages", "transparency", "odd_number")
_KEY = "medsae.notes"


def noted(image: Image.Image, found: Mapping[str, bool]) -> Image.Image:
    """Return `image` with the true ones of these notes added."""
    assert set(found) <= set(NOTES)
    image.info[_KEY] = tuple(note for note in NOTES if found.get(note) or note in notes_of(image))
    return image


def notes_of(image: Image.Image) -> tuple[str, ...]:
    """Return the notes of an image, in the order of NOTES."""
    notes: tuple[str, ...] = image.info.get(_KEY, ())
    return notes
