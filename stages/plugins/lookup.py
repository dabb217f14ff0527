"""A plugin by its name: its file, what that says of it, and its class."""

import difflib
import importlib
import importlib.util
import logging
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from paredown.models.errors import InputError, MissingError
from paredown.models.files import is_file
from paredown.models.loading.user_code import run_file
from paredown.stages.plugins import declared
from paredown.stages.plugins.installed import InstalledPlugin, installed_plugins
from paredown.stages.plugins.kinds import Kind, checked_plugin, kind_in_singular, package_of_kind
from paredown.stages.runtimes.sidecars.environment import Sidecar
from paredown.stages.runtimes.sidecars.registry import sidecar_of

_STAGES = Path(__file__).parents[1]
_log = logging.getLogger("paredown")


def plugin_names(kind: Kind) -> list[str]:
    """The plugins of a kind, sorted: the files of its folder that set `PLUGIN`, and those of installed packages."""
    return sorted({*_own(kind), *_usable(kind)})


def load_plugin(kind: Kind, name: str, root: Path = Path()) -> type[Any]:
    """The plugin's class. `name` may be `path/to/file.py`, relative to `root`.

    Raises InputError for a name that does not exist, a file that cannot be used, or a class that does not keep the
    contract of its kind; MissingError (with the command that mends it) where an optional dependency is not installed.
    """
    file = plugin_file(kind, name, root)
    if line := missing_requirement(kind, name, root):
        raise MissingError(line)
    plugin = _module(kind, name, file).PLUGIN
    if not isinstance(plugin, type):
        raise InputError(f"{file}: PLUGIN must be a class, got {plugin!r}")
    return checked_plugin(kind, plugin, name)


def make_plugin(kind: Kind, name: str, options: Mapping[str, Any], root: Path = Path()) -> Any:
    """The plugin with its options; raises InputError, one line, where it does not have them."""
    cls = load_plugin(kind, name, root)
    try:
        return cls(**options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise InputError(f"{name}: {key} is not known; {allowed_choices(key, cls.model_fields)}") from error
        raise InputError(f"{name}: {key}: {first['msg']}, got {first['input']!r}") from error


def make_named(kind: Kind, choice: str | Mapping[str, Mapping[str, Any]], option: str, root: Path = Path()) -> Any:
    """The one plugin that an option names: `name`, or `{name: {its options}}`; raises InputError for several."""
    named = {choice: {}} if isinstance(choice, str) else choice
    if len(named) != 1:
        raise InputError(f"{option} names {len(named)} {kind} ({', '.join(named)}); allowed: one")
    ((name, options),) = named.items()
    return make_plugin(kind, name, options, root)


def plugin_file(kind: Kind, name: str, root: Path = Path()) -> Path:
    """The file that holds a plugin; raises InputError where there is none."""
    if name.endswith(".py"):
        file = root / Path(name).expanduser()
        if not is_file(file):
            raise InputError(f"{kind}: the file {file} does not exist")
        if not declared.sets_plugin(file):
            raise InputError(_no_plugin(file))
        return file
    own, stem = _own(kind), _stem(name)
    if stem in own:
        return own[stem]
    for one in installed_plugins(kind):
        if one.name == stem and (wrong := _wrong(kind, one)):
            raise InputError(wrong)
    usable = _usable(kind)
    if stem not in usable:
        raise InputError(
            f"{kind}: {name!r} is not known; {allowed_choices(name, [*plugin_names(kind), 'path/to/file.py'])}"
        )
    return _file(usable[stem])


def missing_requirement(kind: Kind, name: str, root: Path = Path()) -> str | None:
    """One line that says what is not installed and how to install it; None where everything is there."""
    file = plugin_file(kind, name, root)
    one = _installed_as(kind, name)
    for module, extra in declared.declared_requirements(file).items():
        if not is_installed(module):
            brings = f"{one.distribution if one else 'paredown'}[{extra}]"
            return f'{name} needs the module {module}, which is not installed: pip install "{brings}"'
    needed = plugin_sidecar(kind, name, root)
    return needed.missing() if needed else None


def plugin_requirements(kind: Kind, name: str, root: Path = Path()) -> Mapping[str, str]:
    """The optional modules that a plugin needs, with the extra that brings each; nothing is imported."""
    return declared.declared_requirements(plugin_file(kind, name, root))


def plugin_sidecar(kind: Kind, name: str, root: Path = Path()) -> Sidecar | None:
    """The interpreter of its own that a plugin needs, by the `SIDECAR` of its class; nothing is imported."""
    needed = declared.declared_sidecar(plugin_file(kind, name, root))
    return sidecar_of(needed) if needed else None


def plugin_summary(kind: Kind, name: str, root: Path = Path()) -> str:
    """The first line of the plugin file's docstring, without importing it."""
    return declared.declared_summary(plugin_file(kind, name, root))


def comes_with_paredown(kind: Kind, name: str) -> bool:
    """Whether it is one of paredown's own, which are tested here, and not a recipe's file or a package's plugin."""
    return not name.endswith(".py") and _stem(name) in _own(kind)


def refused_plugins(kind: Kind) -> list[str]:
    """One line for every plugin of an installed package that cannot be used, such as one with a name of our own."""
    return list(dict.fromkeys(wrong for one in installed_plugins(kind) if (wrong := _wrong(kind, one))))


def allowed_choices(got: str, allowed: Iterable[str]) -> str:
    """`did you mean 'x'? allowed: w, x, y`, or without the question where nothing is close."""
    offered = list(allowed)
    close = difflib.get_close_matches(got, offered, n=1)
    question = f"did you mean {close[0]!r}? " if close else ""
    return f"{question}allowed: {', '.join(offered) or 'nothing'}"


def is_installed(module: str) -> bool:
    """Whether a module can be found; nothing is imported but the packages it is in."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _own(kind: Kind) -> dict[str, Path]:
    """Name to file of those that come with paredown."""
    package_of_kind(kind)  # refuses what is no kind
    folder = _STAGES if kind == "stages" else _STAGES / kind
    return {file.stem: file for file in folder.glob("*.py") if declared.sets_plugin(file)}


def _usable(kind: Kind) -> dict[str, InstalledPlugin]:
    """The same of installed packages, without those that cannot be used."""
    return {one.name: one for one in installed_plugins(kind) if not _wrong(kind, one)}


def _wrong(kind: Kind, one: InstalledPlugin) -> str:
    """Why a plugin of an installed package cannot be used; empty where it can be."""
    if one.name in _own(kind):
        return f"the {kind_in_singular(kind)} {one.name} is paredown's own; {one} has the same name and is not used"
    others = [other for other in installed_plugins(kind) if other.name == one.name]
    if len(others) > 1:
        return (
            f"the {kind_in_singular(kind)} {one.name} is brought by {' and by '.join(map(str, others))}: uninstall one"
        )
    if one.file is None:
        return f"the {kind_in_singular(kind)} {one.name} cannot be used: {one} has no such file"
    try:
        return "" if declared.sets_plugin(one.file) else _no_plugin(one.file)
    except InputError as error:
        return str(error)


def _no_plugin(file: Path) -> str:
    return f"{file} is no plugin: it must end with 'PLUGIN = TheClass'"


def _installed_as(kind: Kind, name: str) -> InstalledPlugin | None:
    return None if name.endswith(".py") or comes_with_paredown(kind, name) else _usable(kind).get(_stem(name))


def _file(one: InstalledPlugin) -> Path:
    if one.file is None:
        raise InputError(f"{one} has no such file")
    return one.file


def _module(kind: Kind, name: str, file: Path) -> Any:
    """Runs the plugin's module."""
    if name.endswith(".py"):
        return run_file(file)
    if one := _installed_as(kind, name):
        try:
            return importlib.import_module(one.module)
        except Exception as error:
            raise InputError(f"{one} cannot be imported: {type(error).__name__}: {error}") from error
    for one in installed_plugins(kind):
        if one.name == _stem(name):
            _warn_once(_wrong(kind, one))
    return importlib.import_module(f"{package_of_kind(kind)}.{_stem(name)}")


@cache
def _warn_once(line: str) -> None:
    """Logs a warning the first time that it comes up in this process."""
    _log.warning(line)


def _stem(name: str) -> str:
    """The file's name for a plugin's: packages that plugins are named after have hyphens, modules cannot."""
    return name.replace("-", "_")
