"""Whether two recipes make images into the input in the same way."""

from collections.abc import Mapping

from paredown.models.data.spec import DataSpec

CLOSE = 0.002
"""Differences of means and deviations that are rounding, of pixels in 0..1."""


def pixel_differences(theirs: DataSpec, ours: DataSpec) -> tuple[str, str] | None:
    """What is different, as each of both has it: `crop_pct 0.95, interpolation bicubic`; None where nothing is."""
    differs = {
        "crop_mode": theirs.crop_mode != ours.crop_mode,
        "crop_pct": theirs.framing.scaled_side != ours.framing.scaled_side,
        "interpolation": theirs.interpolation != ours.interpolation,
        "exif": theirs.exif != ours.exif,
        "mean": _are_apart(theirs.mean, ours.mean),
        "std": _are_apart(theirs.std, ours.std),
    }
    names = [name for name, is_so in differs.items() if is_so]
    return (_in_words(names, dict(theirs)), _in_words(names, dict(ours))) if names else None


def _are_apart(some: tuple[float, ...], others: tuple[float, ...]) -> bool:
    return any(abs(a - b) > CLOSE for a, b in zip(some, others, strict=True))


def _in_words(names: list[str], values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_rounded(values[name])}" for name in names)


def _rounded(value: object) -> str:
    return f"({', '.join(f'{one:.4g}' for one in value)})" if isinstance(value, tuple) else str(value)
