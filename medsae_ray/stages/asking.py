"""The progress of the model's answers on a run's board: a bar over the pictures of a plan, and one over its
questions."""

from collections.abc import Callable

from medsae_ray.core.naming.asking import addresses, images_of
from medsae_ray.core.naming.engine import ImageAnswers, Usage
from medsae_ray.core.naming.pictures import Pictures
from medsae_ray.core.naming.plan import Addresses, Need
from medsae_ray.runtime.board import Bar

OpenBar = Callable[[int, str], Bar]
"""A function that opens a bar of that many of a unit, for a `with` block."""


async def looked_up(open_bar: OpenBar, identity: str, pictures: Pictures, needs: list[Need]) -> Addresses:
    """Look up the addresses of the answers to `needs`, existing or not."""
    images = images_of(needs)
    with open_bar(len(images), "pictures") as bar:
        return await addresses(identity, pictures, images, step=bar.advance)


def count_answers(bar: Bar, asked: ImageAnswers) -> None:
    """Count the answers about one image."""
    bar.count(failed=sum(answer.failed is not None for answer in asked.answers), **spent(asked.usage))
    bar.advance(len(asked.answers))


def spent(usage: Usage) -> dict[str, int]:
    """Return the figures of `usage` that a bar counts."""
    return {name: value for name, value in usage._asdict().items() if name != "seconds"}
