"""The names under which folders and functions hand over splits."""

from collections.abc import Iterable, Mapping

from paredown.models.errors import InputError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "calibration": ("calibration", "calib"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Split to the names that are understood as it, in any letter case."""

_SPLITS = {name: split for split, names in SPLIT_NAMES.items() for name in names}

ALLOWED = "; ".join(", ".join(names) for names in SPLIT_NAMES.values())
"""All of them in one line, those of one split together."""


def split_of(name: str) -> str | None:
    """The split that a name means, None where it means none."""
    return _SPLITS.get(name.lower())


def named_splits(names: Iterable[str], where: str) -> dict[str, str]:
    """Split to the one of `names` that means it, in their order; all of them must mean one.

    Raises InputError where two names mean the same split, and where none means `train`.
    """
    found: dict[str, str] = {}
    for name in names:
        split = split_of(name) or name
        if split in found:
            raise InputError(f"{where}: {found[split]} and {name} both mean the split '{split}'; allowed: one of them")
        found[split] = name
    if "train" not in found:
        raise InputError(f"{where}: got {', '.join(found.values())}, and none that means train; allowed: {ALLOWED}")
    return found


def with_test(splits: Mapping[str, str]) -> dict[str, str]:
    """The same splits; the one to validate on is the test split where there is no other to test on."""
    if "validation" not in splits or "test" in splits:
        return dict(splits)
    return {**{split: name for split, name in splits.items() if split != "validation"}, "test": splits["validation"]}
