"""The whole of a drafted recipe, around the dataset that was found."""

from collections.abc import Iterator
from inspect import cleandoc

from medsae_ray.config.yaml_file import GUESSED
from medsae_ray.core.encoders import ENCODERS, kinds_of
from medsae_ray.drafting.lines import Found, value
from medsae_ray.errors import one_line

EXAMPLE = "microsoft/rad-dino"
"""The encoder that a draft names: one that everybody may load, and that has seen chest radiographs."""


def recipe_text(found: Found, place: str, file: str, table: str | None) -> str:
    """The recipe as a file. `place` is what was looked at, `file` the recipe's own name, and `table` that of a table
    which is written beside it."""
    return "\n".join([*_head(place, file), *_what(found), *_how(found, table), ""])


def _head(place: str, file: str) -> Iterator[str]:
    yield f"# A first recipe for {one_line(place)}, drafted by medsae init. Read it before you run it."
    yield f"# Lines with {GUESSED!r} were told from names and values, and are yours to confirm or to change."
    yield f"# What a run would do and take, without running anything: medsae plan {one_line(file)} --root runs/first"


def _what(found: Found) -> Iterator[str]:
    yield f"name: {value(found.title)}"
    yield "what:"
    yield "  dataset:"
    yield from (f"    {one_line(line) if line.startswith('#') else line}" for line in found.dataset)
    yield "  # The encoder whose concepts are looked for. Take yours; these kinds there are:"
    yield from (f"  #   {line}" for line in _encoders())
    yield "  encoder: {kind: huggingface}"
    yield "  sae: {architecture: batch_topk}    # width, k, epochs, batch_size and lr follow from the number of images"
    yield "  # Names by a vision-language model, tested on other patients; how.vlm says which one and where:"
    yield "  # naming: {}"


def _encoders() -> Iterator[str]:
    """Each kind with the first line of its own documentation."""
    for options in ENCODERS:
        yield f"{' or '.join(kinds_of(options))}: {cleandoc(options.__doc__ or '').splitlines()[0]}"


def _how(found: Found, table: str | None) -> Iterator[str]:
    yield "how:"
    yield "  paths:"
    if table:
        yield f"    table: {value(table)}    # written by medsae init: a row per image"
    yield from (f"    {line}" for line in found.paths)
    yield f"    weights: {EXAMPLE}    # chosen as an example, for radiographs of the chest: an id at huggingface.co"
    yield "  embed: {gpus: 0, batch_size: 32}    # gpus: 1 where there is one"
    yield "  # vlm: {model: google/medgemma-4b-it, gpus: 1}"
