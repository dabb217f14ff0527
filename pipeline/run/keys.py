"""The key of a stage's product: one digest of all that decides it, so that any change makes the product again."""

import hashlib
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import paredown.models
import paredown.stages
from paredown.models.data.opening import identify_data
from paredown.models.files import digest_of
from paredown.models.loading.model import fingerprint_built, fingerprint_model
from paredown.models.loading.source_files import digest_sources
from paredown.models.loading.spec import is_code
from paredown.models.loading.user_code import import_folders
from paredown.models.spec import Spec
from paredown.pipeline.recipe.recipe import PipelineStep, Recipe
from paredown.stages import plugins
from paredown.stages.plugins.installed import installed_digests
from paredown.stages.runtimes.support.machine import processor_name

_DISTRIBUTIONS = ("numpy", "onnx", "onnxruntime", "timm", "torch", "torch-pruning", "torchvision")


@dataclass(frozen=True)
class ProductKeys:
    """The keys of one run of a recipe; the model's and the data's files are read once. Where a lock decides with how
    many `threads` torch computes, they count too."""

    recipe: Recipe
    threads: int | None = None

    def key_of(self, step: PipelineStep, products: Mapping[str, str]) -> str:
        """Digest of a stage's options, of what it reads, of the `products` (name -> key) that it takes, of
        the code of stages and plugins, and of the versions of the libraries below it."""
        stage = step.stage
        parts: dict[str, object] = {
            "stage": step.name,
            "options": stage.model_dump(mode="json"),
            "reads": {name: self.field(name) for name in stage.reads},
            "products": {name: products[name] for name in (*stage.needs, *stage.uses) if name in products},
        }
        sources = {text: self.plugin_digest(text) for text in nested_texts(parts) if text.endswith(".py")}
        sources |= installed_digests(nested_texts(parts))
        engines = self.installed("engines", engines_named(step))
        parts |= {} if self.threads is None else {"threads": self.threads}
        return digest_of(
            {**parts, "plugins": sources, "engines": engines, "code": code_digest(), "versions": _versions()}
        )

    def field(self, name: str) -> object:
        """What stands for a field of `State` in a key: its value, and digests or versions of what it names."""
        value = self.recipe.state_fields()[name]
        plain = value.model_dump(mode="json") if isinstance(value, Spec) else value
        match name:
            case "model":
                return [plain, self.model]
            case "data":
                return [plain, self.data]
            case "target":
                # A store that moved to another machine measures again.
                return [plain, processor_name(), self.installed("runtimes", [value.runtime])]
            case "compare":
                return [plain, self.installed("runtimes", value)]
        return plain

    @cached_property
    def model(self) -> str:
        """Of the model's files, and of what code of the user's builds, which may read others when it runs."""
        recipe = self.recipe
        files = fingerprint_model(recipe.model, recipe.root)
        if not is_code(recipe.model.source):
            return files
        classes, side = len(self._identified[0]), recipe.data.image_size
        return f"{files} {fingerprint_built(recipe.model, classes, recipe.root, side)}"

    @property
    def data(self) -> str:
        return self._identified[1]

    @cached_property
    def _identified(self) -> tuple[tuple[str, ...], str]:
        """The classes of the data, and its fingerprint."""
        return identify_data(self.recipe.data, self.recipe.root, self.recipe.seed)

    def installed(self, kind: plugins.Kind, names: Iterable[str]) -> dict[str, object]:
        """The versions of the optional packages below runtimes or engines, also in their sidecars; others are in every
        key."""
        named, root = sorted(names), self.recipe.root
        modules = {module for name in named for module in plugins.plugin_requirements(kind, name, root)}
        sidecars = [sidecar for name in named if (sidecar := plugins.plugin_sidecar(kind, name, root))]
        return {module: version_of(module) for module in sorted(modules)} | {one.name: one.stamp() for one in sidecars}

    def plugin_digest(self, name: str) -> str | None:
        """sha256 of a plugin that the recipe names by its path, with the user's files that it imports; None where there
        is no such file."""
        path = self.recipe.root / Path(name).expanduser()
        return digest_sources(path, import_folders(path)) if path.is_file() else None


def engines_named(step: PipelineStep) -> set[str]:
    """The engines that a stage's options name, as they are written there."""
    return set(nested_texts(step.stage.model_dump(mode="json"))) & _engines()


def nested_texts(value: Any) -> Iterator[str]:
    """Every text in nested plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for pair in value.items() for item in pair for text in nested_texts(item))
    elif isinstance(value, list | tuple):
        yield from (text for item in value for text in nested_texts(item))


@cache
def _engines() -> set[str]:
    """All names under which options can ask for an engine."""
    names = plugins.plugin_names("engines")
    return {*names, *(name.replace("_", "-") for name in names)}


@cache
def code_digest() -> str:
    """Digest of the sources that make products."""
    digest = hashlib.sha256()
    for package in (paredown.models, paredown.stages):
        root = Path(str(package.__file__)).parent
        for file in sorted(root.rglob("*.py")):
            digest.update(f"{package.__name__}/{file.relative_to(root)}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


@cache
def _versions() -> dict[str, str | None]:
    """The versions of Python and of the libraries that decide products, read without importing them."""
    return {"python": platform.python_version()} | {name: version_of(name) for name in _DISTRIBUTIONS}


def version_of(name: str) -> str | None:
    """The version of an installed distribution; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
