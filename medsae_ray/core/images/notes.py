"""What was left aside or done on the way from a file to an image that is usable all the same.

| note | what it says of an image |
|---|---|
| exif_orientation | its file says by EXIF that it is to be turned or mirrored; what.images.orientation says if it was |
| more_pages | its file holds further pages or frames, of which none is read |
| transparency | it has transparent pixels, which are shown as if they were not |
| odd_number | a number of its DICOM header is none, so the window or padding that it belongs to counts as absent |

Notes travel with the image, as `Image.info`, and are counted in the record of the embeddings.
"""

from collections.abc import Mapping

from PIL import Image

NOTES = ("exif_orientation", "more_pages", "transparency", "odd_number")
_KEY = "medsae.notes"


def noted(image: Image.Image, found: Mapping[str, bool]) -> Image.Image:
    """`image`, with those notes added that are true of it."""
    assert set(found) <= set(NOTES)
    image.info[_KEY] = tuple(note for note in NOTES if found.get(note) or note in notes_of(image))
    return image


def notes_of(image: Image.Image) -> tuple[str, ...]:
    """The notes of an image, in the order of NOTES."""
    notes: tuple[str, ...] = image.info.get(_KEY, ())
    return notes
