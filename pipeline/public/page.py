"""The page on Python use, `docs/python.md`: what the two doors offer, from the docstrings in the sources."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from textwrap import dedent
from types import ModuleType
from typing import Any

DOORS = ("paredown", "paredown.plugins")
_INTRO = """# paredown from Python

Written by `python -m paredown.pipeline.reference` from docstrings; do not edit. [extending.md](extending.md) has a
working plugin of every kind, [recipe.md](recipe.md) the keys of recipes.
"""


def python_page() -> str:
    """The whole page as Markdown."""
    return _INTRO + "".join(part for door in DOORS for part in _door(importlib.import_module(door)))


def _door(module: ModuleType) -> Iterator[str]:
    yield f"\n## `{module.__name__}`\n\n{_prose(inspect.getdoc(module) or '')}\n"
    calls_first = sorted(module.__all__, key=lambda name: (inspect.isclass(getattr(module, name)), name.lower()))
    for name in (name for name in calls_first if not name.startswith("_")):
        if value := _documented(getattr(module, name)):
            yield f"\n### `{name}`\n\n{value}\n"


def _documented(value: Any) -> str:
    """Of a class or function what its source says; of an alias what it stands for."""
    if not inspect.isclass(value) and not inspect.isfunction(value):
        return f"`{re.sub(r'[a-z_]+[.](?=[A-Za-z])', '', str(value))}`"
    match ast.parse(inspect.getsource(value)).body[0]:
        case ast.FunctionDef() as node:
            return f"```python\n{_signature(node)}\n```\n\n{_docstring(node)}"
        case ast.ClassDef() as node:
            members = "\n".join(line for part in node.body for line in _member(part))
            return "\n\n".join(filter(None, [_docstring(node), members]))
    return ""


def _docstring(node: ast.FunctionDef | ast.ClassDef) -> str:
    return _prose(ast.get_docstring(node) or "")


def _member(part: ast.stmt) -> Iterator[str]:
    """A line for a public field, property or method of a class."""
    match part:
        case ast.AnnAssign(target=ast.Name(id=name)) if not name.startswith("_"):
            default = f" = {ast.unparse(part.value)}" if part.value else ""
            yield f"* `{name}: {ast.unparse(part.annotation)}{default}`"
        case ast.FunctionDef(name=name) if not name.startswith("_") or name == "__call__":
            known = any(isinstance(one, ast.Name) and one.id == "property" for one in part.decorator_list)
            shown = f"{name}: {ast.unparse(part.returns)}" if known and part.returns else _signature(part)[4:-1]
            first = (ast.get_docstring(part) or "").partition("\n\n")[0]
            yield f"* `{shown}` {' '.join(first.split())}".rstrip()


def _signature(node: ast.FunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"def {node.name}({ast.unparse(node.args)}){returns}:"


def _prose(text: str) -> str:
    """A docstring as Markdown: what is indented in it is code."""
    parts = re.split(r"((?:^    .*\n?|^\n(?=    ))+)", text, flags=re.MULTILINE)
    return "".join(f"\n```python\n{dedent(part).strip()}\n```\n" if "    " in part[:5] else part for part in parts)
