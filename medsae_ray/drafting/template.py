"""The text of a drafted recipe around its dataset."""

from collections.abc import Iterator
from inspect import cleandoc

from medsae_ray.config.yaml_file import GUESSED
from medsae_ray.core.encoders import ENCODERS, kinds_of
from medsae_ray.drafting.lines import Found, value
from medsae_ray.errors import one_line

EXAMPLE = "microsoft/rad-dino"
"""The encoder of a draft: open to everybody, and trained on chest radiographs."""


def recipe_text(found: Found, place: str, file: str, table: str | None) -> str:
    """Return the recipe as a file. `place` is the surveyed folder or table, `file` the recipe's own name, and `table`
    that of a table written next to it."""
    return "\n".join([*_head(place, file), *_what(found), *_how(found, table), ""])


def _head(place: str, file: str) -> Iterator[str]:
    yield f"# A first recipe for {one_line(place)}, drafted by medsae init. Read it before you run it."
    yield f"# Lines with {GUESSED!r} are guesses from names and values: confirm or change them."
    yield f"# The stages and cost of a run, without running it: medsae plan {one_line(file)} --root runs/first"


def _what(found: Found) -> Iterator[str]:
    yield f"name: {value(found.title)}"
    yield "what:"
    yield "  dataset:"
    yield from (f"    {one_line(line) if line.startswith('#') else line}" for line in found.dataset)
    yield "  # The encoder to find concepts in. Name yours, of one of these kinds:"
    yield from (f"  #   {line}" for line in _encoders())
    yield "  encoder: {kind: huggingface}"
    yield "  sae: {architecture: batch_topk}    # width, k, epochs, batch_size and lr follow from the number of images"
    yield "  # Names by a vision-language model (how.vlm), tested on other patients:"
    yield "  # naming: {}"


def _encoders() -> Iterator[str]:
    """Yield each kind with the first line of its own documentation."""
    for options in ENCODERS:
        yield f"{' or '.join(kinds_of(options))}: {cleandoc(options.__doc__ or '').splitlines()[0]}"


def _how(found: Found, table: str | None) -> Iterator[str]:
    yield "how:"
    yield "  paths:"
    if table:
        yield f"    table: {value(table)}    # written by medsae init: a row per image"
    yield from (f"    {line}" for line in found.paths)
    yield f"    weights: {EXAMPLE}    # chosen as an example, for radiographs of the chest: an id at huggingface.co"
    yield "  embed: {gpus: 0, batch_size: 32}    # gpus: 1 to use a GPU"
    yield "  # vlm: {model: google/medgemma-4b-it, gpus: 1}"
