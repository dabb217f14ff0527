"""Finds plugins: a file in one of six folders is a plugin, and its name is its name in the recipe.

Listing reads the sources and imports nothing, so it is fast and works without the optional dependencies.
"""

import ast
import difflib
import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from paredown.models.errors import InputError, MissingError
from paredown.models.files import is_file
from paredown.models.loading.user_code import _load_file
from paredown.stages.runtimes.sidecars.environment import Sidecar
from paredown.stages.runtimes.sidecars.registry import sidecar_of

Kind = Literal["stages", "transforms", "blocks", "solvers", "runtimes", "engines"]
KINDS: tuple[Kind, ...] = ("stages", "transforms", "blocks", "solvers", "runtimes", "engines")
_HERE = Path(__file__).parent


def names(kind: Kind) -> list[str]:
    """The plugins of a kind, sorted: the files of its folder that set `PLUGIN`."""
    return sorted(file.stem for file in _folder(kind).glob("*.py") if _plugin_name(_tree(file)) is not None)


def load(kind: Kind, name: str, root: Path = Path()) -> type[Any]:
    """The plugin's class. `name` may be `path/to/file.py`, relative to `root`.

    Raises InputError for a name that does not exist or a file that cannot be used, MissingError (with the
    command that mends it) where an optional dependency is not installed.
    """
    file = source(kind, name, root)
    if line := missing(kind, name, root):
        raise MissingError(line)
    module = _load_file(file) if name.endswith(".py") else importlib.import_module(_module_name(kind, name))
    plugin = module.PLUGIN
    if not isinstance(plugin, type):
        raise InputError(f"{file}: PLUGIN must be a class, got {plugin!r}")
    return plugin


def make(kind: Kind, name: str, options: Mapping[str, Any], root: Path = Path()) -> Any:
    """The plugin with its options; raises InputError, one line, where it does not have them."""
    cls = load(kind, name, root)
    try:
        return cls(**options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise InputError(f"{name}: {key} is not known; {choices(key, cls.model_fields)}") from error
        raise InputError(f"{name}: {key}: {first['msg']}, got {first['input']!r}") from error


def source(kind: Kind, name: str, root: Path = Path()) -> Path:
    """The file that holds a plugin; raises InputError where there is none."""
    if name.endswith(".py"):
        file = root / Path(name).expanduser()
        if not is_file(file):
            raise InputError(f"{kind}: the file {file} does not exist")
        if _plugin_name(_tree(file)) is None:
            raise InputError(f"{file} is no plugin: it must end with 'PLUGIN = TheClass'")
        return file
    allowed = names(kind)
    if _stem(name) not in allowed:
        raise InputError(f"{kind}: {name!r} is not known; {choices(name, [*allowed, 'path/to/file.py'])}")
    return _folder(kind) / f"{_stem(name)}.py"


def missing(kind: Kind, name: str, root: Path = Path()) -> str | None:
    """One line that says what is not installed and how to install it; None where everything is there."""
    tree = _tree(source(kind, name, root))
    for module, extra in _requires(tree).items():
        if not _installed(module):
            return f'{name} needs the module {module}, which is not installed: pip install "paredown[{extra}]"'
    needed = _sidecar(tree)
    return needed.missing() if needed else None


def requires(kind: Kind, name: str, root: Path = Path()) -> Mapping[str, str]:
    """The optional modules that a plugin needs, with the extra that brings each; nothing is imported."""
    return _requires(_tree(source(kind, name, root)))


def sidecar(kind: Kind, name: str, root: Path = Path()) -> Sidecar | None:
    """The interpreter of its own that a plugin needs, by the `SIDECAR` of its class; nothing is imported."""
    return _sidecar(_tree(source(kind, name, root)))


def summary(kind: Kind, name: str, root: Path = Path()) -> str:
    """The first line of the plugin file's docstring, without importing it."""
    return (ast.get_docstring(_tree(source(kind, name, root))) or "").partition("\n")[0]


def choices(got: str, allowed: Iterable[str]) -> str:
    """`did you mean 'x'? allowed: w, x, y`, or without the question where nothing is close."""
    names = list(allowed)
    close = difflib.get_close_matches(got, names, n=1)
    question = f"did you mean {close[0]!r}? " if close else ""
    return f"{question}allowed: {', '.join(names) or 'nothing'}"


def _folder(kind: Kind) -> Path:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    return _HERE if kind == "stages" else _HERE / kind


def _module_name(kind: Kind, name: str) -> str:
    return f"paredown.stages.{_stem(name)}" if kind == "stages" else f"paredown.stages.{kind}.{_stem(name)}"


def _stem(name: str) -> str:
    """The file's name for a plugin's: packages that plugins are named after have hyphens, modules cannot."""
    return name.replace("-", "_")


def _tree(file: Path) -> ast.Module:
    return _parsed(file.read_bytes(), str(file))


@lru_cache(maxsize=256)
def _parsed(text: bytes, file: str) -> ast.Module:
    """Kept, because every name in a recipe is looked up among all files of a folder."""
    try:
        return ast.parse(text, filename=file)
    except SyntaxError as error:
        raise InputError(f"{file}:{error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:  # zero bytes; nested without end
        raise InputError(f"{file}: is no Python: {error}") from error


def _plugin_name(tree: ast.Module) -> str | None:
    """The name on the right of the module-level `PLUGIN = TheClass`; None where there is no such line."""
    for node in reversed(tree.body):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "PLUGIN" for target in targets):
            value = getattr(node, "value", None)
            return value.id if isinstance(value, ast.Name) else ""
    return None


def _class(tree: ast.Module) -> ast.ClassDef | None:
    name = _plugin_name(tree)
    return next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)


def _requires(tree: ast.Module) -> Mapping[str, str]:
    return dict(_said(tree, "REQUIRES") or {})


def _sidecar(tree: ast.Module) -> Sidecar | None:
    needed = _said(tree, "SIDECAR")
    return sidecar_of(needed) if needed else None


def _said(tree: ast.Module, name: str) -> Any:
    """The literal value of one of the plugin class's fields; None where it does not have it."""
    node = _class(tree)
    for line in node.body if node else []:
        target = getattr(line, "target", None)
        if isinstance(line, ast.AnnAssign) and isinstance(target, ast.Name) and target.id == name:
            return ast.literal_eval(line.value) if line.value else None
    return None


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
