"""Sparsity through the whole pipeline: chosen per layer, held in training, counted in the artifact."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paredown.models.compression.sparsity import Sparsity
from paredown.models.errors import InputError
from paredown.models.onnx.edit import load_onnx, save_onnx, zero_shares
from paredown.stages.analysis.prepare import load_prepared_model
from paredown.stages.analysis.prepared_model import LayerForm, PreparedModel
from paredown.stages.base import State
from paredown.stages.export import missing_zeros
from paredown.stages.limits import Bound, Limits, Target
from paredown.stages.measuring.model_files import stored_model
from paredown.stages.planning.plan_space import load_profile
from paredown.stages.products.plan import Plan, PlannedLayer
from paredown.stages.products.product_files import read_notes
from paredown.stages.recover import Recover
from paredown.stages.runtimes.onnxruntime import OnnxRuntime
from paredown.stages.training.schedule import Schedule
from paredown.stages.transforms.loading import profiled_transforms
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.sparsify import Sparsify, sparse_layers

Run = Callable[..., State]

SHORT = Schedule(epochs=2, lr=1e-3)


@pytest.fixture(scope="module")
def skipping(started: State, run: Run, tmp_path_factory: pytest.TempPathFactory) -> State:
    """A state on a runtime to which zeros are no work, planned with sparsity and precision."""
    root = tmp_path_factory.mktemp("sparse")
    text = (started.root / "exact.py").read_text()
    text = text.replace("float(value.size * pixels)", "float(np.count_nonzero(value) * pixels)")
    text = text.replace(
        "    def version", "    def supports(self, feature):\n        return True\n\n    def version", 1
    )
    (root / "skipping.py").write_text(text)
    state = replace(started, target=Target(runtime=str(root / "skipping.py")), limits=limits("0.3x"), out=root)
    sparsify = {"levels": [0.5, 0.75, 0.9], "patterns": ["block4"]}
    state = run(state, "baseline", root, rounds=1, runs=1)
    state = run(state, "profile", root, transforms={"sparsify": sparsify, "quantize": {}}, plans=4, images=32)
    state = run(state, "sensitivity", root, images=8, plans=8)
    return run(state, "search", root, front=0, rounds=4)


@pytest.fixture(scope="module")
def pared(skipping: State, run: Run) -> State:
    root = skipping.out
    state = run(skipping, "compress", root, batches=2)
    state = run(state, "recover", root, distil=SHORT, quantize=SHORT)
    state = run(state, "export", root, agreement=0.5)
    return run(state, "verify", root, rounds=1, runs=1)


def limits(latency: str) -> Limits:
    return Limits(latency_p50=Bound.model_validate(latency))


def test_sites_are_layers_that_the_pattern_fits(prepared: PreparedModel) -> None:
    sites = {site.name: [c.name for c in site.candidates] for site in Sparsify(levels=(0.9, 0.5)).sites(prepared)}
    # The stem reads three channels, the depthwise convolution one.
    assert set(sites) == {f"sparsify:{n}" for n in ("block.conv1", "block.conv2", "pointwise.0", "fc")}
    assert sites["sparsify:fc"] == ["dense", "block4@0.5", "block4@0.9"]
    every = Sparsify(levels=(0.5,), patterns=("unstructured", "2:4", "block4")).sites(prepared)
    assert {site.name for site in every} == {*sites, "sparsify:stem.0"}
    assert not next(site for site in every if site.name == "sparsify:fc").ordered


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"levels": [0.5, 1.0]}, "above 0 and under 1"),
        ({"levels": []}, "one or more"),
        ({"patterns": ["block8"]}, "block8"),
        ({"layers": {"fc": "block8@0.5"}}, "no sparsity"),
        ({"layers": {"fc": 1.5}}, "layers"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Sparsify(**options)


def test_layers_can_be_pinned(prepared: PreparedModel) -> None:
    transform = Sparsify(levels=(0.5,), layers={"fc": "dense", "block[.].*": 0.85, "pointwise.0": "2:4"})
    assert transform.pinned(prepared) == {
        "sparsify:fc": "dense",
        "sparsify:block.conv1": "block4@0.85",
        "sparsify:block.conv2": "block4@0.85",
        "sparsify:pointwise.0": "2:4",
    }
    sites = {site.name: {c.name for c in site.candidates} for site in transform.sites(prepared)}
    assert all(name in sites[site] for site, name in transform.pinned(prepared).items())
    with pytest.raises(InputError, match="'heads' fits none"):
        Sparsify(layers={"heads": 0.5}).pinned(prepared)


def test_reconstruction_is_made_once_and_kept(skipping: State) -> None:
    prepared = load_prepared_model(skipping)
    weight = prepared.network.module.get_parameter("block.conv1.weight").detach()
    for name in ("block4@0.5", "block4@0.9"):
        sparsity = Sparsify().pruned(prepared, "block.conv1", Sparsity.parse(name), weight)
        assert np.array_equal(sparsity, prepared.pruned["block.conv1"][name].dense())
    magnitude = Sparsify(method="magnitude").pruned(prepared, "block.conv1", Sparsity.parse("block4@0.5"), weight)
    assert not np.array_equal(magnitude, prepared.pruned["block.conv1"]["block4@0.5"].dense())
    changed = Sparsify().pruned(prepared, "block.conv1", Sparsity.parse("block4@0.5"), weight * 1.5)
    assert np.array_equal(changed, magnitude * 1.5)


def test_the_plan_is_layer_wise_and_predicted_as_it_is_measured(skipping: State) -> None:
    plan = Plan.load(skipping.product("plan"))
    sparse = sparse_layers(plan.choice)
    assert sparse
    for layer in plan.layers:
        expected = sparse.get(layer.name)
        assert (layer.sparsity, layer.pattern) == ((expected.level, "block4") if expected else (0.0, ""))
    assert plan.predicted and plan.measured and plan.baseline and plan.baseline.latency
    assert plan.predicted.latency == pytest.approx(plan.measured.latency, rel=0.1)
    assert plan.measured.latency <= 0.3 * plan.baseline.latency.p50


def test_zeros_are_in_the_artifact_that_was_trained(pared: State) -> None:
    planned = sparse_layers(Plan.load(pared.product("plan")).choice)
    found = zero_shares(load_onnx(stored_model(pared.product("artifact"))))
    assert planned
    for name, sparsity in planned.items():
        assert found[name] >= sparsity.level - 0.01
    manifest = json.loads((pared.product("artifact") / "manifest.json").read_text())
    assert manifest["zeros"] == {name: found[name] for name in manifest["zeros"]}
    assert set(manifest["zeros"]) == set(planned)


def test_sparsity_may_grow_while_it_is_recovered(skipping: State, run: Run, tmp_path: Path) -> None:
    state = run(skipping, "compress", tmp_path, batches=1)
    state = run(state, "recover", tmp_path, gradual=2, distil=SHORT, quantize=SHORT)
    state = run(state, "export", tmp_path, agreement=0.5)
    found = zero_shares(load_onnx(stored_model(state.product("exported"))))
    for name, sparsity in sparse_layers(Plan.load(state.product("plan")).choice).items():
        assert found[name] >= sparsity.level - 0.01


def test_growth_cannot_take_longer_than_the_training() -> None:
    with pytest.raises(ValueError, match=r"gradual \(3\) is more than the epochs of distil \(2\)"):
        Recover(gradual=3, distil=SHORT)


def planned_layer(name: str, kept_in: int, kept_out: int, sparsity: float) -> PlannedLayer:
    return PlannedLayer(
        name=name,
        op="conv",
        depthwise=False,
        channels_in=kept_in,
        channels_out=kept_out,
        kept_in=kept_in,
        kept_out=kept_out,
        bits=32,
        sparsity=sparsity,
    )


def test_lost_zeros_are_an_error() -> None:
    planned = [planned_layer("a", 64, 64, 0.8), planned_layer("add", 64, 64, 0.0)]
    assert [*missing_zeros({"a": 0.795}, planned)] == []
    assert [*missing_zeros({"a": 0.6875}, [planned_layer("a", 16, 8, 0.7)])] == []  # of 32 blocks 22
    (line,) = missing_zeros({"a": 0.7}, planned)
    assert line.endswith("the layer a has 70.0 % zeros where the plan has 80.0 %")


def test_where_zeros_gain_nothing_they_are_left_out_with_the_numbers(started: State, run: Run, tmp_path: Path) -> None:
    state = replace(started, target=Target(runtime=str(started.root / "exact.py")))
    transforms = {"sparsify": {"levels": [0.9]}, "quantize": {}}
    state = run(state, "profile", tmp_path, transforms=transforms, plans=2, images=16)
    assert [type(one).__name__ for one in profiled_transforms(state)] == ["Quantize"]
    (line,) = read_notes(tmp_path)
    assert "sparsify is left out" in line and "`narrow` removes whole channels" in line
    assert "With block4@0.9 everywhere this network takes 1.00x of the time and 1.00x of the bytes" in line


def test_alone_it_is_refused_there(started: State, run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="finds nothing in this model to change; sparsify is left out"):
        run(started, "profile", tmp_path, transforms={"sparsify": {"levels": [0.9]}}, plans=0, images=8)


def test_in_a_container_zeros_are_fewer_bytes(started: State, run: Run, tmp_path: Path) -> None:
    target = Target(runtime=str(tmp_path / "exact.py"), container="gzip")
    state = replace(started, target=target, limits=Limits(size=Bound.model_validate("0.22x")))
    transforms = {"sparsify": {"levels": [0.5, 0.8, 0.9], "patterns": ["unstructured"]}, "quantize": {}}
    (tmp_path / "exact.py").write_text(
        (started.root / "exact.py")
        .read_text()
        .replace("onnx.load(path)", "load_onnx(path)")
        .replace("import constant_arrays, value_shapes", "import constant_arrays, load_onnx, value_shapes")
    )
    state = run(state, "profile", tmp_path, transforms=transforms, plans=2, images=16)
    profile = load_profile(state)
    seen = {name for sample in profile.samples for name in sample.choice.values()}
    assert "unstructured@0.9" not in seen or "int8" in seen
    shares = profile.shares["block.conv1"]
    assert shares["int8 unstructured@0.9"] < shares["int8 unstructured@0.5"] < shares["int8"] <= 1.01
    state = run(state, "sensitivity", tmp_path, images=8, plans=4)
    state = run(state, "search", tmp_path, front=0)
    plan = json.loads((state.product("plan") / "plan.json").read_text())
    assert sparse_layers(plan["choice"])
    assert plan["predicted"]["size"] == pytest.approx(plan["measured"]["size"], rel=0.1)
    state = run(state, "compress", tmp_path, batches=1)
    state = run(state, "recover", tmp_path, distil=Schedule(epochs=1), quantize=Schedule(epochs=1))
    state = run(state, "export", tmp_path, agreement=0.5)
    state = run(state, "verify", tmp_path, rounds=1, runs=1)
    file = stored_model(state.product("artifact"))
    assert file.name == "model.onnx.gz"
    assert file.stat().st_size <= 0.22 * stored_model(state.product("baseline")).stat().st_size
    assert json.loads((file.parent / "manifest.json").read_text())["sha256"].keys() == {
        "model.onnx.gz",
        "baseline/model.onnx",
    }


def test_narrowed_and_sparse_layers_are_imitated_as_they_are_lowered(prepared: PreparedModel, tmp_path: Path) -> None:
    choice = {"narrow:block.conv1": "16", "sparsify:block.conv2": "block4@0.5", "sparsify:block.conv1": "block4@0.75"}
    images = torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(3))
    graph, model = copy.deepcopy(prepared.network.graph), prepared.model
    for transform in (Narrow(), Sparsify()):
        graph, model = transform.imitate(prepared, choice, graph), transform.lower(prepared, choice, model)
    save_onnx(model, tmp_path / "model.onnx")
    with torch.no_grad():
        expected = graph(images).numpy()
    assert np.allclose(OnnxRuntime().run(tmp_path / "model.onnx", [images.numpy()], 1), expected, atol=1e-4)
    found = zero_shares(model)
    assert (found["block.conv1"], found["block.conv2"]) == (pytest.approx(0.75, abs=0.01), pytest.approx(0.5, abs=0.01))


def test_narrowed_to_what_the_pattern_does_not_divide_a_layer_stays_dense(prepared: PreparedModel) -> None:
    layer, transform = prepared.network.layer("block.conv2"), Sparsify()
    choice = {"sparsify:block.conv2": "block4@0.5"}
    assert transform.form(prepared, layer, LayerForm(30, 16), choice) == LayerForm(30, 16)
    assert transform.form(prepared, layer, LayerForm(28, 16), choice).sparsity == Sparsity("block4", 0.5)


def test_a_pin_that_cannot_hold_is_told_where_the_layer_is_named(prepared: PreparedModel) -> None:
    assert "sparsify:stem.0" not in Sparsify(layers={".*": 0.8}).pinned(prepared)
    with pytest.raises(InputError, match=r"stem\.0 cannot be block4@0\.8: its channels do not fit"):
        Sparsify(layers={"stem.0": 0.8}).pinned(prepared)
    assert Sparsify(layers={"fc": "block4@0.80"}).pinned(prepared) == {"sparsify:fc": "block4@0.8"}
    with pytest.raises(ValueError, match="a level needs a pattern"):
        Sparsify(patterns=("2:4",), layers={"fc": 0.5})
