"""The files that a Python file of the user's imports, read from its text: nothing is run.

What a product is made from is known by the bytes of all these files, also of those that are imported only when a
function is called.
"""

import ast
import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from paredown.models.files import digest_file, is_file
from paredown.models.loading.code_places import is_library

_BY_NAME = frozenset({"importlib", "pkgutil", "runpy", "__import__", "exec"})
"""What imports modules whose names are known only when it runs."""
_MOST = 2000


def source_files(file: Path, folders: Sequence[Path]) -> tuple[Path, ...]:
    """`file`, then all files of the user's that it imports, directly or through others, sorted.

    Modules are looked for in `folders`, then where Python finds them; libraries do not count. Where a file imports by
    names that only running it would tell, all Python files beside and below it, and in and below `folders`, count.
    """
    seen, waiting = {file: None}, [file]
    while waiting and len(seen) < _MOST:
        for found in _imported(waiting.pop(), folders):
            if found not in seen:
                seen[found] = None
                waiting.append(found)
    return (file, *sorted(path for path in seen if path != file))


def digest_sources(file: Path, folders: Sequence[Path]) -> str:
    """sha256 of the file alone where it imports no other; else over the relative paths and digests of them all."""
    first, *others = source_files(file, folders)
    if not others:
        return digest_file(first)
    lines = [f"{os.path.relpath(path, first.parent)} {digest_file(path)}" for path in (first, *others)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _imported(file: Path, folders: Sequence[Path]) -> Iterator[Path]:
    """The files that one file imports itself."""
    if file.suffix != ".py":
        return
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return  # running it will say so
    if any(_named(node) & _BY_NAME for node in ast.walk(tree)):
        yield from (found for folder in dict.fromkeys((file.parent, *folders)) for found in _below(folder.absolute()))
    for node in ast.walk(tree):
        for level, dotted in _asked(node):
            parts = dotted.split(".") if dotted else []
            if level:
                yield from _files(file.parents[level - 1], parts) if level <= len(file.parents) else ()
            else:
                yield from _files_of_absolute(parts, folders)


def _named(node: ast.AST) -> set[str]:
    """The top-level modules and the plain names that a piece of code mentions."""
    if isinstance(node, ast.Name):
        return {node.id}
    return {dotted.partition(".")[0] for level, dotted in _asked(node) if not level}


def _asked(node: ast.AST) -> Iterator[tuple[int, str]]:
    """The level and the dotted name of everything that may be a module in an import."""
    if isinstance(node, ast.Import):
        yield from ((0, alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield node.level, ".".join(filter(None, (node.module, alias.name if alias.name != "*" else "")))


def _files_of_absolute(parts: Sequence[str], folders: Sequence[Path]) -> Iterator[Path]:
    """The files of a module in the first folder that has it, or in the user's environment."""
    if parts[0] in sys.stdlib_module_names or parts[0] == "paredown":
        return
    holding = [folder for folder in folders if next(_files(folder, parts[:1]), None)]
    namespaces = [folder for folder in folders if (folder / parts[0]).is_dir()]
    for folder in holding[:1] or _environment(parts[0]) or namespaces:
        yield from _files(folder, parts)


def _environment(name: str) -> list[Path]:
    """The folder in which Python finds a module that is no library's; the module is not imported."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return []
    if spec is None or spec.origin is None or is_library(spec.origin):
        return []
    origin = Path(spec.origin)
    return [origin.parents[1] if origin.name == "__init__.py" else origin.parent]


def _files(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """The files that importing `parts`, a dotted name, from a folder runs: those of packages on the way, then its own.

    A last part that is no module is a name in the one before it."""
    for part in parts:
        if is_file(init := folder / part / "__init__.py"):
            yield init.absolute()
        elif not (folder / part).is_dir():
            yield from (path for path in _module_files(folder, part) if is_file(path))
            return
        folder = folder / part


def _module_files(folder: Path, name: str) -> Iterable[Path]:
    return ((folder / f"{name}{suffix}").absolute() for suffix in (".py", *EXTENSION_SUFFIXES))


def _below(folder: Path) -> list[Path]:
    """All Python files in and below a folder, without hidden folders and environments."""
    found: list[Path] = []
    for place, inside, files in os.walk(folder):
        inside[:] = sorted(name for name in inside if not name.startswith((".", "__pycache__")) and name != "runs")
        if "pyvenv.cfg" in files:
            inside.clear()
        found += [Path(place, name) for name in sorted(files) if name.endswith(".py")]
        if len(found) > _MOST:
            break
    return found[:_MOST]
