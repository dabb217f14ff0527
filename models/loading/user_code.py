"""Runs Python files and modules that a recipe names, once per content, and finds functions in them."""

import ast
import functools
import hashlib
import importlib
import importlib.util
import io
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from paredown.models.errors import InputError, ParedownError
from paredown.models.files import is_file, resolve_path
from paredown.models.loading.code_places import fault_of, user_place
from paredown.models.loading.kept_settings import kept_settings, own_random_state
from paredown.models.loading.moved_names import with_new_names
from paredown.models.loading.user_imports import UserProject

NOT_IMPORTED = "{path} cannot be imported: {fault}"
NOT_RUN = "{path}: {fault}, while running it"

_log = logging.getLogger("paredown")
_projects: dict[tuple[Path, ...], UserProject] = {}


@dataclass(frozen=True)
class FunctionSource:
    """A function `name` of a `file` that a recipe names, which is `module` of a package unless that is empty, and the
    `folders` in which the file's imports are looked for first."""

    file: Path
    name: str
    module: str
    folders: tuple[Path, ...]


def find_source(source: str, root: Path) -> FunctionSource:
    """The file, which must exist, and the function of `path/to/file.py:function` or `package.module:function`."""
    named, _, name = source.rpartition(":")
    if named.endswith(".py"):
        path = resolve_path(named, root)
        if not is_file(path):
            raise InputError(f"{path}: no such file (from '{source}')")
        return FunctionSource(path, name, "", import_folders(path, root))
    root = root.absolute()
    return FunctionSource(_module_file(named, source, root), name, named, (root,))


def load_function(source: str, root: Path) -> Callable[..., Any]:
    """The function (or class) of `path/to/file.py:function` or `package.module:function`; when it is called, the
    modules beside its file can be imported. A call raises InputError where it ends the program."""
    found = find_source(source, root)
    project, function = _project(found.folders), load_object(found, root)
    if not callable(function):
        raise InputError(f"{found.file}: no function '{found.name}' in it")

    @functools.wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        with _running(project, found.file):
            return function(*arguments, **named)

    return called


def load_object(found: FunctionSource, root: Path) -> Any:
    """What a source names, a function or not; None where its file has nothing of that name."""
    project = _project(found.folders)
    module = _run_module(found, project) if found.module else run_file(found.file, NOT_RUN, root)
    return vars(module).get(found.name)


def run_file(path: Path, complaint: str = NOT_IMPORTED, root: Path | None = None) -> ModuleType:
    """The module that a file makes; raises InputError with the `complaint` in one line where running it fails.

    It can import what is beside it, in its package, and in the folder `root`; the import path stays as it is, and no
    byte code is written beside the file. While neither the file nor one that it imports changes, it is run once per
    process, so that its classes stay the same. Imports by names that paredown had before it was rearranged are taken
    from where they are now, with one warning.
    """
    folders, text = import_folders(path, root), path.read_bytes()
    project = _project(folders)
    named = "\0".join([str(path.resolve()), *map(str, folders)]).encode()
    name = f"paredown_code_{path.stem}_{hashlib.sha256(named + text).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__, module.__package__ = str(path), _package(path, project)
    project.add_file(module)
    try:
        with own_random_state(), _running(project, path):
            exec(_compiled(text, str(path)), vars(module))
    except Exception as error:
        del sys.modules[name]
        raise _refused(error, path, complaint) from error
    return module


def import_folders(path: Path, root: Path | None = None) -> tuple[Path, ...]:
    """Where a file's imports are looked for first: beside it, beside the package that it is in, and in `root`."""
    folder = path.absolute().parent
    folders = [folder, _beside_package(folder), *([root.absolute()] if root else [])]
    return tuple(dict.fromkeys(folders))


def _project(folders: tuple[Path, ...]) -> UserProject:
    project = _projects.setdefault(folders, UserProject(folders, _compiled))
    project.forget_if_changed()
    return project


def _beside_package(folder: Path) -> Path:
    while is_file(folder / "__init__.py"):
        folder = folder.parent
    return folder


def _package(path: Path, project: UserProject) -> str:
    """The package from which the file's relative imports start: its own, or one that stands for its folder."""
    folder = path.absolute().parent
    if is_file(folder / "__init__.py"):
        return ".".join(folder.relative_to(_beside_package(folder)).parts)
    name = f"paredown_folder_{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"
    package = ModuleType(name)
    package.__path__ = [str(folder)]
    project.add_file(package)
    return name


def _module_file(module: str, source: str, root: Path) -> Path:
    """The file of a module beside the recipe or in the environment; its packages are run."""
    project = _project((root,))
    try:
        with _running(project, root / module):
            project.claim(module)
            spec = importlib.util.find_spec(module)
    except ModuleNotFoundError as error:
        if not error.name or not f"{module}.".startswith(f"{error.name}."):
            raise InputError(f"'{source}': {fault_of(error)}, while looking for its module") from error
        spec = None
    except Exception as error:
        raise InputError(f"'{source}': {fault_of(error)}, while looking for its module") from error
    if spec is None or not spec.origin or not is_file(Path(spec.origin)):
        raise InputError(f"'{source}': no module '{module}' in {root}, and none is installed")
    return Path(spec.origin).absolute()


def _run_module(found: FunctionSource, project: UserProject) -> ModuleType:
    try:
        with own_random_state(), _running(project, found.file):
            return importlib.import_module(found.module)
    except Exception as error:
        raise _refused(error, found.file, NOT_RUN) from error


def _refused(error: Exception, path: Path, complaint: str) -> ParedownError:
    return error if isinstance(error, ParedownError) else InputError(complaint.format(path=path, fault=fault_of(error)))


def _compiled(text: bytes, path: str) -> CodeType:
    tree, moved = with_new_names(text, path)
    if moved:
        _log.warning("%s imports by old names, which the next version will not know: %s", path, "; ".join(moved))
    code: CodeType = compile(ast.fix_missing_locations(tree), path, "exec")
    return code


@contextmanager
def _running(project: UserProject, file: Path) -> Iterator[None]:
    """For code of the user's: what is beside it can be imported, what it prints goes to stderr, it is given no
    arguments of paredown's, and what it sets for the whole process does not outlast it. Raises InputError where it ends
    the program, as argparse does."""
    arguments, said = sys.argv, io.StringIO()
    sys.argv = [str(file)]
    try:
        with (
            project.active(),
            redirect_stdout(sys.stderr),
            redirect_stderr(said),
            kept_settings(),
        ):
            yield
    except SystemExit as error:
        last = said.getvalue().strip().rpartition("\n")[2]
        said = io.StringIO()
        text = f"ends the program with exit code {error.code}{f', saying: {last}' if last else ''}"
        raise InputError(f"{user_place(error) or file}: the code {text}") from error
    finally:
        sys.argv = arguments
        sys.stderr.write(said.getvalue())
