"""Every stage that discovery finds keeps to the contract, so that its product is stored under a sound key."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from paredown import stages
from paredown.models.spec import Spec
from paredown.pipeline.recipe.recipe import DEFAULT
from paredown.stages import plugins
from paredown.stages.base import Stage, State

NAMES = plugins.plugin_names("stages")
STAGES = Path(stages.__file__).parent
ALWAYS = {"out", "products", "product", "progress", "cache", "root", "with_product", "few", "few_images"}
"""What a stage may take from its state without saying so: it decides where, not what."""

READABLE = {field.name for field in fields(State)} - ALWAYS

pytestmark = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def stage(name: str) -> Any:
    if line := plugins.missing_requirement("stages", name):
        pytest.skip(line)
    return plugins.load_plugin("stages", name)


def is_state(node: ast.AST) -> bool:
    """`state`, or `self.state` and the like."""
    return (isinstance(node, ast.Name) and node.id == "state") or (
        isinstance(node, ast.Attribute) and node.attr == "state"
    )


def definitions(tree: ast.Module) -> dict[str, list[ast.AST]]:
    """Functions, methods and classes of a file by name."""
    found: dict[str, list[ast.AST]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.setdefault(node.name, []).append(node)
    return found


def imported(tree: ast.Module) -> dict[str, tuple[Path, str]]:
    """Names that a file takes from files below the stages' folder: where they are defined, and as what."""
    return {
        alias.asname or alias.name: (file_of(str(node.module)), alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("paredown.stages.")
        for alias in node.names
        if file_of(str(node.module)).exists()
    }


def file_of(module: str) -> Path:
    return STAGES.joinpath(*module.split(".")[2:]).with_suffix(".py")


def read_by(member: str) -> set[str]:
    """The fields that a property or a method of `State` reads for the stage; of a field, itself."""
    tree = ast.parse((STAGES / "base.py").read_text())
    (state,) = definitions(tree)["State"]
    methods = [node for node in ast.walk(state) if isinstance(node, ast.FunctionDef) and node.name == member]
    attributes = [node for method in methods for node in ast.walk(method) if isinstance(node, ast.Attribute)]
    owned = {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "self"}
    return owned & READABLE if methods else {member}


def handed(node: ast.AST) -> set[str]:
    """The names of functions, methods and classes that `node` calls with its state."""
    return {
        call.func.id if isinstance(call.func, ast.Name) else call.func.attr
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name | ast.Attribute)
        if any(is_state(given) for given in [*call.args, *(keyword.value for keyword in call.keywords)])
    }


def reached(file: Path, name: str, seen: set[tuple[Path, str]]) -> Iterator[ast.AST]:
    """What is called `name` in a file, and all that it hands its state to."""
    if (file, name) in seen:
        return
    seen.add((file, name))
    tree = ast.parse(file.read_text())
    local, other = definitions(tree), imported(tree)
    for node in local.get(name, []):
        yield node
        for callee in handed(node):
            if callee in local:
                yield from reached(file, callee, seen)
            elif callee in other:
                yield from reached(*other[callee], seen)


def code_of(name: str) -> list[ast.AST]:
    file = plugins.plugin_file("stages", name)
    return list(reached(file, "run", set()))


def touched(code: Iterable[ast.AST]) -> set[str]:
    """The fields of the state that the code reads, also through the state's own properties and methods."""
    return {
        name
        for part in code
        for node in ast.walk(part)
        if isinstance(node, ast.Attribute) and is_state(node.value)
        for name in read_by(node.attr)
    }


def products(code: Iterable[ast.AST]) -> set[str]:
    """The products asked for by name: `state.product("x")`, `state.products.get("x")`, `state.products["x"]`."""
    asked = set()
    for node in (node for part in code for node in ast.walk(part)):
        match node:
            case ast.Call(func=ast.Attribute(attr="product"), args=[ast.Constant(value=str(name)), *_]):
                asked.add(name)
            case ast.Call(
                func=ast.Attribute(attr="get", value=ast.Attribute(attr="products")),
                args=[ast.Constant(value=str(name)), *_],
            ):
                asked.add(name)
            case ast.Subscript(value=ast.Attribute(attr="products"), slice=ast.Constant(value=str(name))):
                asked.add(name)
    return asked


def covered(stage: Any) -> set[str]:
    """What is in a stage's key: what it reads, and what the stages read whose products it needs."""
    makers = {maker.gives: maker for maker in (plugins.load_plugin("stages", name) for name in NAMES)}
    found, left = set(stage.reads), list(stage.needs)
    while left:
        maker = makers[left.pop()]
        found |= set(maker.reads)
        left += maker.needs
    return found


def test_it_is_a_frozen_spec_that_refuses_unknown_keys(stage: Any) -> None:
    assert issubclass(stage, Spec)
    assert stage.model_config["frozen"] is True
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        stage.model_validate({"no_such_option": 1})


def test_its_options_all_have_defaults_and_go_into_json(stage: Any) -> None:
    first, second = stage(), stage()
    assert first == second
    assert first.model_dump(mode="json") == second.model_dump(mode="json")


def test_options_that_are_left_out_are_in_no_lock(stage: Any) -> None:
    """A lock that did not have them is compared with what the recipe says."""
    assert stage().model_dump(mode="json", exclude_defaults=True) == {}


def test_it_says_what_it_needs_gives_uses_and_reads(stage: Any) -> None:
    for part in ("needs", "uses", "reads"):
        value = getattr(stage, part)
        assert isinstance(value, tuple)
        assert all(isinstance(item, str) for item in value)
    assert set(stage.reads) <= READABLE
    assert stage.gives.isidentifier()
    assert stage.gives not in (*stage.needs, *stage.uses)
    assert not set(stage.needs) & set(stage.uses)


def test_its_keys_are_its_own(stage: Any) -> None:
    """An option must not hide what the runner looks for."""
    assert not set(vars(Stage)) & set(stage.model_fields)


def test_it_reads_nothing_that_is_not_in_its_key(stage: Any, name: str) -> None:
    assert touched(code_of(name)) - ALWAYS <= covered(stage)


def test_it_asks_for_no_product_that_it_does_not_declare(stage: Any, name: str) -> None:
    assert products(code_of(name)) <= {*stage.needs, *stage.uses}


def test_what_it_needs_is_given_by_some_stage(stage: Any, name: str) -> None:
    others = [plugins.load_plugin("stages", other) for other in NAMES if other != name]
    assert set(stage.needs) <= {other.gives for other in others}


def test_the_default_pipeline_knows_it_or_leaves_it_out(stage: Any, name: str) -> None:
    assert name in DEFAULT or not any(
        stage.gives in plugins.load_plugin("stages", other).needs for other in DEFAULT if other in NAMES
    )
