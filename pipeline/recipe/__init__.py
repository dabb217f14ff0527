"""The recipe: read, checked before any work, and written for a start."""

from paredown.pipeline.recipe.recipe import Recipe, load_recipe

__all__ = ["Recipe", "load_recipe"]
