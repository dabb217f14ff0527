"""Whether a recipe makes images into the input as the library does whose weights it takes."""

from collections.abc import Iterator

from paredown.models.data.pixel_differences import pixel_differences
from paredown.models.loading.library_settings import library_settings
from paredown.pipeline.recipe.recipe import Recipe


def library_differences(recipe: Recipe) -> Iterator[str]:
    """One line with all that differs, for a model with the library's own weights; of others nobody knows."""
    if recipe.model.weights != "hub":
        return
    settings = library_settings(recipe.model.source)
    theirs = recipe.data.model_copy(update={**settings.data_keys(), "exif": "ignore"})
    if differences := pixel_differences(theirs, recipe.data):
        had, has = differences
        yield f"warning: {settings.weights or recipe.model.source} was made with {had}; the recipe's data has {has}"
