"""A plugin's file that imports by the names of the version before still runs, with one warning."""

import logging
from pathlib import Path

import pytest

from paredown.models.errors import InputError
from paredown.models.loading.moved_names import MODULES, NAMES, new_name, with_new_names
from paredown.models.loading.user_code import run_file

OLD = '''
"""As plugins were written."""

import paredown.models.graph as graph
from paredown.models.data import open_data
from paredown.models.spec import LimitError, Spec
from paredown.stages.problem import Choice as Plan, Site
from paredown.stages.runtimes import _machine
from paredown.stages.runtimes._timing import take_turns
from paredown.stages.transforms.base import Form, Subject
'''


def names() -> list[str]:
    """What the documentation's examples and our own plugins imported by names that have moved."""
    listed = {
        "models.blocks": "Place",
        "models.data": "Data DataSpec Split open_data",
        "models.fake_quant": "insert observe",
        "models.fold": "fold_batch_norm",
        "models.graph": "ChannelGroup FUSED Layer Network analyse channel_source module_of operator read_layers source",
        "models.load": "ModelSpec load_model quiet_torchvision",
        "models.memo": "remembered_per_object",
        "models.onnx_export": "export",
        "models.onnx_graph": "copy_of layer_weight set_weight weighted_nodes weights",
        "models.qdq": "FUSED LEAST_STEP Range activation_scale quantize quantized_values range_of units weight_scales",
        "models.resolution": "layer_pixels shrink_before shrink_onnx shrink_trace takes",
        "models.sparse": "Sparsity by_magnitude n_of_m solver",
        "models.spec": "InputError LimitError MachineError MissingError ParedownError",
        "models.supernet": "ABSORBED Branch KEEP branches pick",
        "models.surgery": "prune zero_channels",
        "stages.base": "Bound write_notes",
        "stages.carry": "carried",
        "stages.discovery": "make",
        "stages.evidence": "Evidence Latency",
        "stages.linearise": "Linear linearise",
        "stages.measure": "logits_of runtime_of scored write",
        "stages.original": "load_weights save_weights teacher",
        "stages.pinning": "matched",
        "stages.problem": "Candidate Problem Site Solution cost excess exists first_plan holds loss owners_first",
        "stages.runtimes": "_machine _timing",
        "stages.runtimes._inprocess": "WARM_UP logits naming peak_memory",
        "stages.runtimes._machine": "ThisMachine fingerprint",
        "stages.runtimes._sidecars": "SIDECARS",
        "stages.runtimes._timing": "collector_off rounds_in_turns take_turns",
        "stages.runtimes._worker": "Worker",
        "stages.structure": "even_picks merges picks_of site_of under",
        "stages.student": "Lowered compressed surgery",
        "stages.subject": "load_subject",
        "stages.training": "Schedule Task home supervised train world",
        "stages.transforms.base": "Choice Form Subject",
    }
    return [f"paredown.{module}.{name}" for module, listed_names in listed.items() for name in listed_names.split()]


@pytest.mark.parametrize("old", names())
def test_what_plugins_imported_is_found(old: str) -> None:
    new = new_name(old)
    _, moved = with_new_names(f"from {old.rpartition('.')[0]} import {old.rpartition('.')[2]}".encode(), "x.py")
    assert (moved == (f"{old} -> {new}",)) == (new != old)
    exec(f"from {new.rpartition('.')[0]} import {new.rpartition('.')[2]}")


def test_every_new_module_is_there() -> None:
    for places in MODULES.values():
        for module in places:
            exec(f"import paredown.{module}")
    assert all(f"{new_name(f'paredown.{old}')}".endswith(f".{name}") for old, name in NAMES.items())


def test_a_name_that_is_called_otherwise_keeps_its_name_in_the_file() -> None:
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


def test_an_old_file_runs_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "old.py").write_text(OLD)
    with caplog.at_level(logging.WARNING, logger="paredown"):
        module = run_file(tmp_path / "old.py")
        assert run_file(tmp_path / "old.py") is module
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path / 'old.py'} imports by old names, which the next version will not know: ")
    assert "paredown.stages.problem.Site -> paredown.stages.solvers.problem.Site" in line
    assert "paredown.stages.transforms.base.Subject -> paredown.stages.analysis.prepared_model.PreparedModel" in line
    assert "Spec" not in line
    assert module.Form.__name__ == "LayerForm"
    assert module.graph.__name__ == "paredown.models.network.trace"
    assert module._machine.__name__ == "paredown.stages.runtimes.support.machine"
    assert module.__doc__ == "As plugins were written."


def test_a_file_without_old_names_runs_as_it_stands(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "new.py").write_text(
        "from paredown.models.data import opening\nfrom paredown.models.spec import Spec\n"
    )
    assert run_file(tmp_path / "new.py").opening.open_data
    assert caplog.messages == []


def test_what_is_nowhere_is_refused_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "lost.py").write_text("from paredown.stages.problem import no_such_thing\n")
    with pytest.raises(
        InputError, match=r"lost\.py cannot be imported: ModuleNotFoundError: .*paredown\.stages\.problem"
    ):
        run_file(tmp_path / "lost.py")
