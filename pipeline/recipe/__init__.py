"""The recipe: reads one, checks it before any work, and writes a first one."""

from paredown.pipeline.recipe.recipe import Recipe, load_recipe

__all__ = ["Recipe", "load_recipe"]
