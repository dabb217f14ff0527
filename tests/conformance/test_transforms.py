"""Every transform that discovery finds: what it says, what it imitates and what it lowers are one and the same."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from paredown.models.network.trace import analyse_network
from paredown.models.onnx.edit import constant_arrays, save_onnx, value_shapes
from paredown.models.onnx.export import export_onnx
from paredown.stages import plugins
from paredown.stages.analysis.plan_network import network_of_plan
from paredown.stages.analysis.prepared_model import LayerForm, PreparedModel
from paredown.stages.planning.footprint import layer_pixels
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.runtimes.onnxruntime import OnnxRuntime
from paredown.stages.solvers.problem import Choice
from paredown.stages.transforms.base import OTHERWISE, Transform
from paredown.stages.transforms.loading import transform_of

NAMES = plugins.plugin_names("transforms")

pytestmark = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def transform(name: str) -> Transform:
    if line := plugins.missing_requirement("transforms", name):
        pytest.skip(line)
    made: Transform = plugins.load_plugin("transforms", name)()
    return made


@pytest.fixture
def prepared(transform: Transform, prepared: PreparedModel, supernet: PreparedModel) -> PreparedModel:
    """With blocks to choose from where the transform needs them."""
    return supernet if "library" in transform.NEEDS else prepared


@pytest.fixture(scope="module")
def images(tools: Any) -> torch.Tensor:
    return torch.randn(16, *tools.shape, generator=torch.Generator().manual_seed(3))


def choices(transform: Transform, prepared: PreparedModel) -> list[Choice]:
    """Every site alone at its harshest, two mixtures, and what the transform calls uniform."""
    sites, rng = transform.sites(prepared), np.random.default_rng(0)
    alone = [{site.name: site.candidates[-1].name} for site in sites]
    mixed = [{site.name: rng.choice([c.name for c in site.candidates]).item() for site in sites} for _ in range(2)]
    return [*alone, *mixed, *transform.uniform(prepared)]


def plain_of(prepared: PreparedModel, images: torch.Tensor) -> np.ndarray:
    """What the original computes."""
    with torch.no_grad():
        logits: np.ndarray = network_of_plan(prepared, {}).network.graph(images).numpy()
    return logits


def computed(model: onnx.ModelProto, images: torch.Tensor, folder: Path) -> np.ndarray:
    save_onnx(model, folder / "model.onnx")
    return OnnxRuntime().run(folder / "model.onnx", [images.numpy()], threads=1)


def lowered(transform: Transform, prepared: PreparedModel, choice: Choice) -> onnx.ModelProto:
    one = network_of_plan(prepared, choice)
    return transform.lower(one, choice, one.model)


def imitated(transform: Transform, prepared: PreparedModel, choice: Choice, images: torch.Tensor) -> np.ndarray:
    one = network_of_plan(prepared, choice)
    graph = transform.imitate(one, choice, copy.deepcopy(one.network.graph))
    with torch.no_grad():
        logits: np.ndarray = graph(images).numpy()
    return logits


def real_form(model: onnx.ModelProto, layer: str) -> tuple[tuple[int, ...], int]:
    """(weight shape, bits) of a layer in a file."""
    node, stored = next(n for n in model.graph.node if n.name == layer), constant_arrays(model)
    weight = node.input[1].removesuffix(".dq")
    return (stored[f"{weight}.q"].shape, 8) if f"{weight}.q" in stored else (stored[weight].shape, 32)


def zeros(model: onnx.ModelProto, layer: str) -> float:
    """The share of zeros in a layer's weight; integers that were rounded to zero do not count."""
    node, stored = next(n for n in model.graph.node if n.name == layer), constant_arrays(model)
    weight = node.input[1]
    return float((stored[weight] == 0).mean()) if weight in stored else 0.0


def real_pixels(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """Height x width of what every node of a file reads and computes."""
    known = value_shapes(onnx.shape_inference.infer_shapes(model))
    area = {value: math.prod(shape[2:]) for value, shape in known.items()}
    read = {node.name: next((value for value in node.input if value in area), "") for node in model.graph.node}
    return {node.name: (area.get(read[node.name], 0), area.get(node.output[0], 0)) for node in model.graph.node}


def test_sites_are_named_and_offer_a_choice(transform: Transform, prepared: PreparedModel) -> None:
    """After the transform itself, or after the one that it derives from."""
    sites = transform.sites(prepared)
    assert sites
    assert len({site.name for site in sites}) == len(sites)
    for site in sites:
        assert isinstance(transform, transform_of(site.name)) and site.place
        assert len(site.candidates) > 1
        assert len({candidate.name for candidate in site.candidates}) == len(site.candidates)


def test_it_needs_a_feature_that_runtimes_are_asked_for(transform: Transform) -> None:
    """Those that `Runtime.supports` lists, or none."""
    assert transform.FEATURE in ("", "int8", "narrow", "resize", "substitute", "sparse")


def test_its_keys_are_its_own(transform: Transform) -> None:
    """An option must not hide what others ask a transform."""
    assert not set(vars(Transform)) & set(type(transform).model_fields)


def test_what_it_calls_changes_is_listed(transform: Transform, prepared: PreparedModel) -> None:
    for site in transform.sites(prepared):
        candidates = [candidate.name for candidate in site.candidates]
        changes = {transform.change_kind(a, b) for a in candidates for b in candidates if a != b}
        assert changes <= {*transform.CHANGES, OTHERWISE}


def test_what_drawings_show_says_nothing_of_the_unchanged_layer(transform: Transform, prepared: PreparedModel) -> None:
    for site in transform.sites(prepared):
        first, *others = [candidate.name for candidate in site.candidates]
        plain = transform.describe(first, first)
        assert plain is None or (plain.width == plain.kept and plain.bits in (None, 32))
        assert all((transform.describe(first, other) is None) == (plain is None) for other in others)


def test_its_pins_are_sites_and_candidates(transform: Transform, prepared: PreparedModel) -> None:
    candidates = {site.name: [c.name for c in site.candidates] for site in transform.sites(prepared)}
    assert all(name in candidates[site] for site, name in transform.pinned(prepared).items() if site in candidates)


def test_the_channels_and_zeros_that_training_is_told_are_those_of_the_form(
    transform: Transform, prepared: PreparedModel
) -> None:
    for choice in choices(transform, prepared):
        one = network_of_plan(prepared, choice)
        space, sparse = PlanSpace(one, (transform,)), transform.sparse_layers(choice)
        for layer in one.network.layers:
            assert space.form_of(layer, choice).sparsity == sparse.get(layer.name)
        for group in one.groups:
            kept = transform.kept_channels(one, group, choice, range(group.width))
            assert list(kept) == sorted(set(kept))
            for name in group.outputs:
                assert space.form_of(one.network.layer(name), choice).channels_out == len(kept)


def test_sites_are_the_same_every_time(transform: Transform, prepared: PreparedModel) -> None:
    assert transform.sites(prepared) == transform.sites(prepared)


def test_uniform_choices_name_known_sites_and_candidates_and_change_something(
    transform: Transform, prepared: PreparedModel
) -> None:
    known = {site.name: [c.name for c in site.candidates] for site in transform.sites(prepared)}
    uniform = transform.uniform(prepared)
    assert uniform
    for choice in uniform:
        assert all(candidate in known[site] for site, candidate in choice.items())
        assert any(candidate != known[site][0] for site, candidate in choice.items())


def test_the_first_candidates_leave_everything_as_it_is(
    transform: Transform, prepared: PreparedModel, images: torch.Tensor
) -> None:
    plain, original = plain_of(prepared, images), network_of_plan(prepared, {})
    space = PlanSpace(prepared, (transform,))
    for choice in ({}, {site.name: site.candidates[0].name for site in transform.sites(prepared)}):
        assert np.array_equal(imitated(transform, prepared, choice, images), plain)
        assert weights_of(lowered(transform, prepared, choice)) == weights_of(original.model)
        for layer in original.network.layers:
            assert space.form_of(layer, choice) == LayerForm(layer.channels_in, layer.channels_out)


def weights_of(model: onnx.ModelProto) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in constant_arrays(model).items()}


def test_what_is_lowered_computes_what_is_imitated(
    transform: Transform, prepared: PreparedModel, images: torch.Tensor, tmp_path: Path
) -> None:
    plain = plain_of(prepared, images)
    for choice in choices(transform, prepared):
        expected = imitated(transform, prepared, choice, images)
        got = computed(lowered(transform, prepared, choice), images, tmp_path)
        error, change = np.abs(got - expected).mean(), np.abs(expected - plain).mean()
        if any(
            choice.get(site.name, site.candidates[0].name) != site.candidates[0].name
            for site in transform.sites(prepared)
        ):
            assert change > 0
        # Integer kernels round halves in their own way; everything else must be exact.
        assert error <= 1e-4 * plain.std() + (0.5 * change if transform.FEATURE == "int8" else 0.0)


def test_lowering_and_imitating_leave_the_subject_untouched(
    transform: Transform, prepared: PreparedModel, images: torch.Tensor
) -> None:
    before, plain = weights_of(prepared.model), prepared.network.graph(images)
    for choice in transform.uniform(prepared):
        lowered(transform, prepared, choice)
        imitated(transform, prepared, choice, images)
        transform.apply(network_of_plan(prepared, choice), choice, copy.deepcopy(prepared.network.module))
    assert weights_of(prepared.model) == before
    assert torch.equal(prepared.network.graph(images), plain)


def test_the_form_is_that_of_the_lowered_graph(transform: Transform, prepared: PreparedModel) -> None:
    for choice in choices(transform, prepared):
        model = lowered(transform, prepared, choice)
        found = real_pixels(model)
        for layer, form in PlanSpace(prepared, (transform,)).forms(choice):
            assert layer_pixels(layer, form) == found[layer.name]
            if layer.op == "add":
                continue
            shape, bits = real_form(model, layer.name)
            assert shape[0] == form.channels_out
            assert shape[1] == (1 if layer.depthwise else form.channels_in)
            assert bits == form.bits
            assert zeros(model, layer.name) == pytest.approx(form.sparsity.level if form.sparsity else 0.0, abs=0.02)


def test_a_joins_form_is_that_of_what_it_reads(transform: Transform, prepared: PreparedModel) -> None:
    add, space = prepared.network.layer("add"), PlanSpace(prepared, (transform,))
    for choice in choices(transform, prepared):
        if add.name not in {layer.name for layer in network_of_plan(prepared, choice).network.layers}:
            continue
        made = space.form_of(prepared.network.layer("block.conv2"), choice)
        form = space.form_of(add, choice)
        assert form.channels_in == form.channels_out == made.channels_out
        assert (
            layer_pixels(add, form)[0]
            == layer_pixels(add, form)[1]
            == layer_pixels(prepared.network.layer("block.conv2"), made)[1]
        )


def test_only_touching_sites_change_a_layer(transform: Transform, prepared: PreparedModel) -> None:
    space = PlanSpace(prepared, (transform,))
    for site in transform.sites(prepared):
        changed = [
            layer.name
            for layer in prepared.network.layers
            for candidate in site.candidates
            if space.form_of(layer, {site.name: candidate.name}) != space.form_of(layer, {})
        ]
        touched = [layer.name for layer in prepared.network.layers if site.name in transform.touching(prepared, layer)]
        assert set(changed) == set(touched)
        # What replaces a block decides which layers there are, and changes none.
        assert bool(touched) == (transform.FEATURE != "substitute")


def test_predicted_sizes_are_those_of_files(transform: Transform, prepared: PreparedModel, tmp_path: Path) -> None:
    def file_mib(choice: Choice) -> float:
        save_onnx(lowered(transform, prepared, choice), tmp_path / "model.onnx")
        stored = constant_arrays(onnx.load(tmp_path / "model.onnx"))
        return sum(value.nbytes for value in stored.values()) / 2**20

    for choice in choices(transform, prepared):
        assert PlanSpace(prepared, (transform,)).size_mib(choice) == pytest.approx(file_mib(choice), rel=0.03)


def test_an_applied_module_is_trained_and_exported(
    transform: Transform, prepared: PreparedModel, net: nn.Module, images: torch.Tensor, tools: Any
) -> None:
    choice = transform.uniform(prepared)[-1]
    one = network_of_plan(prepared, choice)
    module = transform.apply(one, choice, net)
    module.train()
    module(images).square().sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    network = analyse_network(module, tools.shape)
    model = export_onnx(network.module, tools.shape)
    for layer in one.network.layers:
        if layer.op != "add":
            form = PlanSpace(one, (transform,)).form_of(layer, choice)
            assert real_form(model, layer.name)[0][0] == form.channels_out


def test_an_applied_module_computes_what_is_imitated(
    transform: Transform, prepared: PreparedModel, net: nn.Module, images: torch.Tensor
) -> None:
    """Before training, and for what changes the module at all: precision is left to training."""
    if transform.FEATURE == "int8":
        return
    for choice in choices(transform, prepared):
        module = transform.apply(network_of_plan(prepared, choice), choice, copy.deepcopy(net))
        expected = torch.from_numpy(imitated(transform, prepared, choice, images))
        torch.testing.assert_close(module.eval()(images).detach(), expected, rtol=1e-3, atol=1e-4)
