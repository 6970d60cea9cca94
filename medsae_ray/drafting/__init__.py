"""The drafting of a first recipe for a folder or a table, with certain values written and guessed ones marked."""

from medsae_ray.drafting.draft import Drafted, draft_recipe

__all__ = ["Drafted", "draft_recipe"]
