"""Names that have moved are found where they are now."""

import importlib

import pytest

from paredown.models.loading.moved_names import MODULES, SYMBOLS, with_new_names


@pytest.mark.parametrize("new", sorted(set(MODULES.values())))
def test_every_new_module_is_there(new: str) -> None:
    importlib.import_module(new)


@pytest.mark.parametrize(("old", "new"), sorted(SYMBOLS.items()))
def test_every_new_name_is_there(old: str, new: str) -> None:
    module, _, name = new.rpartition(".")
    assert hasattr(importlib.import_module(module), name), old


def test_a_name_that_moved_and_is_called_otherwise_keeps_its_name_in_the_file() -> None:
    tree, moved = with_new_names(
        b"from paredown.models.graph import Layer, Network\nfrom paredown.models.qdq import units\n", "f"
    )
    names: dict[str, object] = {}
    exec(compile(tree, "f", "exec"), names)
    assert {"Layer", "Network", "units"} <= set(names)
    assert moved == (
        "paredown.models.graph.Layer -> paredown.models.network.layers.Layer",
        "paredown.models.graph.Network -> paredown.models.network.trace.Network",
        "paredown.models.qdq.units -> paredown.models.compression.qdq.quantizable_nodes",
    )
