"""Plugins that installed packages bring, through entry points of the groups `paredown.<kind>`.

A package's `pyproject.toml` names a module per plugin, which ends with `PLUGIN =` as every plugin's file does:

    [project.entry-points."paredown.transforms"]
    prune_more = "acme_pruning.prune_more"

The module's file is found without importing the package, so that listing stays fast.
"""

import hashlib
import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from paredown.stages.plugins.kinds import KINDS, Kind


@dataclass(frozen=True)
class InstalledPlugin:
    """A plugin of an installed package: its name in a recipe, and where it is."""

    name: str
    module: str
    distribution: str
    version: str

    @property
    def file(self) -> Path | None:
        """The module's file; None where the package is not there or has no such module."""
        return _file_of(self.module, tuple(sys.path))

    def __str__(self) -> str:
        return f"{self.module} of {self.distribution} {self.version}"


def installed_plugins(kind: Kind) -> tuple[InstalledPlugin, ...]:
    """All of one kind, sorted by name; two packages may have brought the same name."""
    return tuple(one for group, one in _installed(tuple(sys.path)) if group == kind)


def installed_digests(names: Iterable[str]) -> dict[str, str]:
    """Of those names that installed packages bring, of whatever kind: the digest of all sources of the package."""
    wanted = {name.replace("-", "_") for name in names}
    named = [one for kind in KINDS for one in installed_plugins(kind) if one.name in wanted]
    return {one.module: package_digest(one.file, len(one.module.split("."))) for one in named if one.file}


def plugin_distributions(names: Iterable[str]) -> dict[str, str]:
    """Of the same names: the distributions that bring them, with their versions."""
    wanted = {name.replace("-", "_") for name in names}
    return {one.distribution: one.version for kind in KINDS for one in installed_plugins(kind) if one.name in wanted}


@cache
def _installed(_path: tuple[str, ...]) -> tuple[tuple[Kind, InstalledPlugin], ...]:
    """Of all kinds; kept as long as `sys.path` is the same, as every look-up of a name asks for it."""
    entries = [
        (kind, InstalledPlugin(entry.name.replace("-", "_"), entry.module, entry.dist.name, entry.dist.version))
        for kind in KINDS
        for entry in entry_points(group=f"paredown.{kind}")
        if entry.dist is not None
    ]
    return tuple(sorted(set(entries), key=lambda pair: (pair[0], pair[1].name, pair[1].module)))


@cache
def _file_of(module: str, _path: tuple[str, ...]) -> Path | None:
    top, *inside = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    places = [folder.joinpath(*inside) for folder in folders]
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    if not inside:
        files = [Path(spec.origin)] if spec.origin else []
    return next((file for file in files if file.is_file()), None)


@cache
def package_digest(file: Path, depth: int) -> str:
    """Of every source in the top-level package that a module's file is in, as it may import any of them; `depth` is the
    number of parts of the module's name."""
    digest = hashlib.sha256()
    top = file.parents[depth - 2 if file.stem != "__init__" else depth - 1] if depth > 1 else file.parent
    alone = depth == 1 and file.stem != "__init__"
    for source in [file] if alone else sorted(top.rglob("*.py")):
        digest.update(f"{source.relative_to(top)}\n".encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()
