"""Writes a first recipe that a person then edits."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from paredown.models.errors import InputError
from paredown.models.loading.library_settings import LibrarySettings, library_settings
from paredown.models.loading.spec import MODULE
from paredown.pipeline.recipe.recipe import DEFAULT, load_recipe

_LIBRARIES = ("timm/", "torchvision/")

_NOTES = {"fit": "  # trains a classifier for the data's classes; leave it out where the model has them"}

_PAGE = """\
# Says what must hold; `paredown check {file}` tells whether it can be run, `paredown run {file}` runs it.
# Every key is explained in docs/recipe.md.
{heading}seed: 0

model:
  source: {model}{weights}

data:
  source: {data}
  image_size: {image_size}
{pixels}
  augment: flip  # none, flip or dihedral

target:
  runtime: onnxruntime
  threads: 1
  batch: 1
{target}
# Hard limits: a factor of the original's own value (x), or absolute (ms, MiB, KiB).
limits:
{limits}
  # latency_p95: 12 ms
  # peak_memory: 80 MiB
  # confidence: 0.95  # they hold only where the far end of the measured interval does

# The stages in order. A stage with options is written `- search: {{option: value}}`.
pipeline:
{stages}
"""

_IMAGENET = """\
  # How an image becomes the square: center crops it, squash scales it whatever its shape (torchvision's
  # Resize((h, w))), border pads it. All as the model was trained.
  # crop_mode: center
  # crop_pct: 1.0
  # interpolation: bilinear
  # The pixel statistics that the model was trained with, of pixels in 0..1; these are ImageNet's.
  mean: [0.485, 0.456, 0.406]
  std: [0.229, 0.224, 0.225]"""

_LIMITS = ("latency_p50: 0.5x", "size: 0.5x", "accuracy_drop: 1.0  # points")


@dataclass(frozen=True)
class FirstRecipeLines:
    """Lines of YAML in a first recipe, beside those on model and data: comments at its head, the limits, the options
    of stages by their names, and more of the target."""

    heading: Sequence[str] = ()
    limits: Sequence[str] = _LIMITS
    stages: Mapping[str, Sequence[str]] = field(default_factory=dict)
    target: Sequence[str] = ()


def write_recipe(
    model: str, data: str, file: Path, image_size: int | None = None, contents: FirstRecipeLines | None = None
) -> None:
    """Writes a commented recipe for `model` and `data`; relative paths are meant from the current folder.

    A library's model starts from the library's weights, has its images made into the input as the library does, and
    gets a `fit` stage, since its classes are rarely the data's. Without an `image_size` it is the library's, or 224.
    Raises InputError where `file` exists, where the library has no such model, or where the recipe would not be valid.
    """
    write_new_file(recipe_text(model, data, file, image_size, contents or FirstRecipeLines()), file)
    try:
        load_recipe(file)
    except Exception:
        file.unlink()
        raise


def write_new_file(text: str, file: Path) -> None:
    """Writes a file that is not there yet; raises InputError where it is."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as handle:
            handle.write(text)
    except FileExistsError as error:
        raise InputError(f"{file} exists already; remove it, or name another file with -o") from error


def recipe_text(model: str, data: str, file: Path, image_size: int | None, contents: FirstRecipeLines) -> str:
    """The text of such a recipe."""
    settings = library_settings(model) if model.startswith(_LIBRARIES) else None
    names = ["fit", *DEFAULT] if settings else list(DEFAULT)
    return _PAGE.format(
        file=file,
        model=_scalar(model if settings or MODULE.fullmatch(model) else _from(file.parent, model)),
        weights=f"\n  {_weights(settings)}",
        data=_scalar(data if data.startswith("package:") else _from(file.parent, data)),
        image_size=image_size or (_side(model, settings) if settings else 224),
        pixels=_library_pixels(settings) if settings else _IMAGENET,
        heading="".join(f"# {line}\n" for line in contents.heading),
        target="".join(f"  {line}\n" for line in contents.target),
        limits="\n".join(f"  {line}" for line in contents.limits),
        stages="\n".join(_stage(name, contents.stages.get(name, ())) for name in names),
    )


def _weights(settings: LibrarySettings | None) -> str:
    if settings is None:
        return "# weights: path/to/checkpoint.pth"
    if not settings.weights:
        return "# weights: path/to/checkpoint.pth  # the library has none for this model"
    return "weights: hub  # downloads the library's pretrained weights; or the path of a checkpoint"


def _side(model: str, settings: LibrarySettings) -> int:
    """Raises InputError for the few models whose images are not square."""
    if settings.height != settings.width:
        got = f"model '{model}' has images of {settings.width} x {settings.height} pixels, and paredown's are square"
        raise InputError(f"{got}; name the side with --image-size")
    return settings.height


def _library_pixels(settings: LibrarySettings) -> str:
    comment = (
        f"# As the library evaluates {settings.weights or 'this model'}; keep them while the weights are from there."
    )
    keys = (f"{key}: {_yaml(value)}" for key, value in settings.data_keys().items())
    return "\n".join(f"  {line}" for line in (comment, *keys))


def _yaml(value: str | float | tuple[float, ...]) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def _stage(name: str, options: Sequence[str]) -> str:
    lines = [f"  - {name}:", *(f"      {line}" for line in options)] if options else [f"  - {name}"]
    return "\n".join(lines) + _NOTES.get(name, "")


def _from(folder: Path, path: str) -> str:
    """A path from the current folder as a path from the recipe's folder."""
    expanded = os.path.expanduser(path)  # noqa: PTH111  # `file.py:factory` is no path as a whole
    return expanded if os.path.isabs(expanded) else os.path.relpath(expanded, folder)  # noqa: PTH117


def _scalar(text: str) -> str:
    """Text as a YAML value, quoted only where YAML would read it as something else."""
    try:
        plain = yaml.safe_load(f"key: {text}") == {"key": text}
    except yaml.YAMLError:
        plain = False
    return text if plain else json.dumps(text, ensure_ascii=False)
