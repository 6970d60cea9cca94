"""A first recipe for a folder or a table that was looked at: what is certain is written, what is guessed is marked."""

from medsae_ray.drafting.draft import Drafted, draft_recipe

__all__ = ["Drafted", "draft_recipe"]
