"""What a user's file can import: modules beside it, seen while its code runs, and kept apart from other projects'.

Two recipes in one process may each have a `layers.py`. Every project therefore has modules of its own, which are in
`sys.modules` while its code runs, and until that of another project does. An import statement in its code, run at any
time, is answered by its own project.
"""

import builtins
import hashlib
import os
import sys
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
)
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from paredown.models.files import is_file
from paredown.models.loading.code_places import is_library

Compile = Callable[[bytes, str], CodeType]
_NEVER = sys.stdlib_module_names | {"numpy", "paredown", "torch"}
"""Modules that no file beside a recipe may stand in for."""
_LEVEL = 3
"""The place of `level` behind the name in `__import__`; it is 0 for an import that is not relative."""


class UserProject:
    """Folders from which code of the user's imports first, and the modules that came from there."""

    def __init__(self, folders: Sequence[Path], compile_source: Compile) -> None:
        self.folders, self._compile = tuple(map(str, folders)), compile_source
        self.modules: dict[str, ModuleType] = {}
        self.names: set[str] = set()
        self.files: set[str] = set()
        self._digests: dict[str, str] = {}
        self.builtins = {**vars(builtins), "__import__": self._import}

    @contextmanager
    def active(self) -> Iterator[None]:
        """Its modules can be imported in here."""
        _running.append(self)
        _show(self)
        try:
            yield
        finally:
            _running.pop()
            if _running:
                _show(_running[-1])
            elif _displaced:
                _show(None)

    def code(self, path: str) -> CodeType:
        """The code of a source file, whose content is remembered."""
        text = Path(path).read_bytes()
        self._digests[path] = hashlib.sha256(text).hexdigest()
        return self._compile(text, path)

    def add_file(self, module: ModuleType) -> None:
        """Takes in the module of a file that a recipe names. It stays in `sys.modules`: its name is its own."""
        vars(module)["__builtins__"] = self.builtins
        self.files.add(module.__name__)
        sys.modules[module.__name__] = module  # dataclasses, pydantic and torch look a class's module up there

    def forget_if_changed(self) -> None:
        """Drops all modules, so that they are run again, where one of their files is not as it was."""
        if self in _running or all(_digest(path) == digest for path, digest in self._digests.items()):
            return
        for name in (*self.files, *(self.names if _shown[0] is self else ())):
            sys.modules.pop(name, None)
        for kept in (self.modules, self.names, self.files, self._digests):
            kept.clear()

    def claim(self, name: str) -> None:
        """Before the project's code imports `name` while its modules are shown: what the process had imported under
        that name from files of the user's is put aside, so that the project runs the files as they are now."""
        top = name.partition(".")[0]
        if top in _NEVER or top in self.names or not _is_users(top) or PathFinder.find_spec(top) is None:
            return
        self.names.add(top)
        _put_aside({top})

    def provided(self) -> frozenset[str]:
        """The top-level modules in its folders."""
        paths = [path for folder in self.folders for path in Path(folder).glob("*")]
        names = {path.stem for path in paths if path.suffix == ".py" or is_file(path / "__init__.py")}
        return frozenset(names - _NEVER)

    def find(self, name: str, path: Sequence[str] | None) -> ModuleSpec | None:
        """The module of the user's that `name` stands for, in the folders of its package or in those of the project."""
        spec = self._beside(name, self.folders if path is None else [one for one in path if self._holds(one)])
        if spec is None and path is None:
            spec = self._elsewhere(name)
        if spec:
            self.names.add(name)
        return spec

    def _beside(self, name: str, folders: Sequence[str]) -> ModuleSpec | None:
        if name in _NEVER:
            return None
        parts: list[str] = []
        source, binary = (SourceFileLoader, [".py"]), (ExtensionFileLoader, EXTENSION_SUFFIXES)
        for folder in folders:
            spec = FileFinder(folder, source, binary).find_spec(name)
            if spec and spec.loader:
                return self._own(spec)
            parts += (spec.submodule_search_locations or []) if spec else []
        if not parts or ("." not in name and PathFinder.find_spec(name)):
            return None  # a plain folder stands behind packages of the same name
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = parts
        return spec

    def _elsewhere(self, name: str) -> ModuleSpec | None:
        """A module of the user's elsewhere, as on PYTHONPATH: it is one of the project's too, and changes with it."""
        spec = PathFinder.find_spec(name)
        if spec is None or spec.origin is None or is_library(spec.origin) or not spec.origin.endswith(".py"):
            return None
        return self._own(spec)

    def _own(self, spec: ModuleSpec) -> ModuleSpec:
        """The spec, with a loader of the project's for a source file."""
        if isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Source(self, spec.name, spec.loader.path)
            spec.cached = None
        return spec

    def _holds(self, folder: str) -> bool:
        inside = any(f"{folder}{os.sep}".startswith(f"{own}{os.sep}") for own in self.folders)
        return inside or not is_library(f"{folder}{os.sep}")

    def _import(self, name: str, *rest: Any, **named: Any) -> ModuleType:
        """`__import__` of the project's code."""
        with self.active():
            if not (rest[_LEVEL] if len(rest) > _LEVEL else named.get("level", 0)):
                self.claim(name)
            return builtins.__import__(name, *rest, **named)


class _Source(SourceFileLoader):
    """Runs a source file of a project's. No byte code is written beside it, and none is read."""

    def __init__(self, project: UserProject, name: str, path: str) -> None:
        super().__init__(name, path)
        self._project = project

    def get_code(self, fullname: str) -> CodeType:
        return self._project.code(self.path)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self._project.builtins
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds modules in the project whose code runs."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return _running[-1].find(fullname, path) if _running else None


_running: list[UserProject] = []
"""The projects whose code runs now, the innermost last."""
_shown: list[UserProject | None] = [None]
"""The project whose modules are in `sys.modules`."""
_displaced: dict[str, ModuleType] = {}
"""Modules of the same names, which are not the project's."""
_finder = _Finder()


def _show(project: UserProject | None) -> None:
    """Puts the modules of a project into `sys.modules`, and takes those of the one before out."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    before = _shown[0]
    if project is before:
        return
    if before:
        before.modules |= {name: sys.modules.pop(name) for name in before.names if name in sys.modules}
    sys.modules.update(_displaced)
    _displaced.clear()
    _shown[0] = project
    if project:
        _put_aside(project.provided() | {name for name in project.names if "." not in name})
        sys.modules.update(project.modules)


def _put_aside(tops: Container[str]) -> None:
    """Takes top-level modules, with all below them, out of `sys.modules` while a project is shown."""
    others = [name for name in sys.modules if name.partition(".")[0] in tops]
    _displaced.update({name: sys.modules.pop(name) for name in others})


def _is_users(top: str) -> bool:
    """Whether an imported top-level module, or one below it where it has no file, was run from a file of the user's."""
    there = sys.modules.get(top)
    if there is None:
        return False
    inside = [there] if _file_of(there) else [one for name, one in sys.modules.items() if name.startswith(f"{top}.")]
    return any((file := _file_of(one)).endswith(".py") and not is_library(file) for one in inside)


def _file_of(module: ModuleType) -> str:
    file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
    return file if isinstance(file, str) else ""


def _digest(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""
