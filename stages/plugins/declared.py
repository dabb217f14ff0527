"""What a plugin's file says of itself, read from its syntax tree: nothing is run and nothing is imported."""

import ast
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from paredown.models.errors import InputError


def sets_plugin(file: Path) -> bool:
    """Whether the file has a line `PLUGIN = ...`. Raises InputError, with file and line, for what is no Python."""
    return _plugin_name(_tree(file)) is not None


def declared_requirements(file: Path) -> Mapping[str, str]:
    """`REQUIRES` of the plugin's class: modules that may be missing, and the extra that brings each."""
    return dict(_literal(file, "REQUIRES") or {})


def declared_sidecar(file: Path) -> str:
    """`SIDECAR` of the plugin's class: the interpreter of its own that it needs, or nothing."""
    return str(_literal(file, "SIDECAR") or "")


def declared_summary(file: Path) -> str:
    """The first line of the file's docstring."""
    return (ast.get_docstring(_tree(file)) or "").partition("\n")[0]


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
        match node:
            case ast.Assign(targets=targets, value=value) if any(_is_plugin(target) for target in targets):
                return value.id if isinstance(value, ast.Name) else ""
            case ast.AnnAssign(target=target, value=given) if _is_plugin(target):
                return given.id if isinstance(given, ast.Name) else ""
    return None


def _is_plugin(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id == "PLUGIN"


def _literal(file: Path, name: str) -> Any:
    """The literal value of one of the plugin class's fields; None where its own body does not have it."""
    tree = _tree(file)
    wanted = _plugin_name(tree)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == wanted:
            for line in node.body:
                match line:
                    case ast.AnnAssign(target=ast.Name(id=field), value=value) if field == name and value is not None:
                        return ast.literal_eval(value)
    return None
