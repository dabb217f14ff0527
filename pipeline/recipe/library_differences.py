"""Whether a recipe makes images into the input as the library does whose weights it takes."""

from collections.abc import Iterator, Mapping

from paredown.models.loading.library_settings import library_settings
from paredown.pipeline.recipe.recipe import Recipe

CLOSE = 0.002
"""Differences of means and deviations that are rounding, of pixels in 0..1."""


def library_differences(recipe: Recipe) -> Iterator[str]:
    """One line with all that differs, for a model with the library's own weights; of others nobody knows."""
    if recipe.model.weights != "hub":
        return
    settings, data = library_settings(recipe.model.source), recipe.data
    theirs = data.model_copy(update=settings.data_keys())
    differs = {
        "crop_mode": theirs.crop_mode != data.crop_mode,
        "crop_pct": theirs.framing.scaled_side != data.framing.scaled_side,
        "interpolation": theirs.interpolation != data.interpolation,
        "mean": _are_apart(theirs.mean, data.mean),
        "std": _are_apart(theirs.std, data.std),
    }
    if names := [name for name, is_so in differs.items() if is_so]:
        had, has = (_in_words(names, dict(one)) for one in (theirs, data))
        yield f"warning: {settings.weights or recipe.model.source} was made with {had}; the recipe's data has {has}"


def _are_apart(some: tuple[float, ...], others: tuple[float, ...]) -> bool:
    return any(abs(a - b) > CLOSE for a, b in zip(some, others, strict=True))


def _in_words(names: list[str], values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_rounded(values[name])}" for name in names)


def _rounded(value: object) -> str:
    return f"({', '.join(f'{one:.4g}' for one in value)})" if isinstance(value, tuple) else str(value)
