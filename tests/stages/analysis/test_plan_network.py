"""Plans that replace blocks: which layers, sites and borders there are, and that a plan's network is the real one."""

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from paredown.models.compression.supernet import KEEP, pick_branch
from paredown.models.network.trace import analyse_network
from paredown.models.onnx.edit import save_onnx
from paredown.stages.analysis.dataflow import layer_borders, schedule_steps, value_lifetimes
from paredown.stages.analysis.plan_network import covering_picks, network_of_plan, owner_of_layer, picks_of
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.blocks.base import conv_unit
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.sites import random_choice, without_absent_sites
from paredown.stages.runtimes.onnxruntime import OnnxRuntime
from paredown.stages.solvers.problem import is_plan, owners_first, validate_problem
from paredown.stages.solvers.problem import plan_cost as plan_cost
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.quantize import Quantize
from paredown.stages.transforms.resize import Resize
from paredown.stages.transforms.substitute import Substitute

ALL = (Substitute(), Narrow(), Resize(), Quantize())


def named(prepared: PreparedModel) -> set[tuple[str, str]]:
    return {(a.name, b.name) for a, b, _ in layer_borders(prepared)}


class Gated(nn.Module):
    """Layers behind a product, a sum and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.gate = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)
        self.b, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(16, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.a(x)
        gated = a * torch.sigmoid(self.gate(a))
        y: torch.Tensor = self.last(torch.cat([gated, self.b(x)], 1)) + gated
        return y.mean((2, 3))


def test_borders_lie_between_layers_also_behind_gates_and_concatenations(prepared: PreparedModel) -> None:
    network = analyse_network(Gated().eval(), (3, 8, 8))
    gated = PreparedModel(network, prepared.model, (), {}, {}, 8, 8)
    assert named(gated) == {
        ("a", "gate"),
        ("a", "last"),
        ("gate", "last"),
        ("b", "last"),
        ("last", "add"),
        ("a", "add"),
        ("gate", "add"),
    }


def test_without_picks_the_plans_network_is_the_original(supernet: PreparedModel, prepared: PreparedModel) -> None:
    original = network_of_plan(supernet, {})
    assert [layer.name for layer in original.network.layers] == [layer.name for layer in prepared.network.layers]
    images = torch.randn(4, *prepared.network.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(original.network.graph(images), prepared.network.graph(images))
    assert named(original) == named(prepared)


@pytest.mark.parametrize("index", range(4))
def test_a_plans_network_is_what_surgery_makes(
    supernet: PreparedModel, index: int, tmp_path: Path, net: nn.Module
) -> None:
    """The cut graph, the cut ONNX file and the module with the picked blocks in it compute the same."""
    picks = dict(covering_picks(supernet.branches)[index])
    one = network_of_plan(supernet, {f"substitute:{block}": name for block, name in picks.items()})
    module = pick_branch(net, supernet.replacements, picks)
    images = torch.randn(4, *supernet.network.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module(images).numpy()
        assert np.allclose(one.network.graph(images).numpy(), expected, atol=1e-4)
    save_onnx(one.model, tmp_path / "model.onnx")
    assert np.allclose(OnnxRuntime().run(tmp_path / "model.onnx", [images.numpy()], 1), expected, atol=1e-3)
    there = analyse_network(module, supernet.network.shape).layers
    assert [layer.op for layer in one.network.layers] == [layer.op for layer in there]
    assert [layer.name for layer in one.network.layers if layer.op != "add"] == [
        layer.name for layer in there if layer.op != "add"
    ]


def test_layers_inside_a_block_need_its_pick(supernet: PreparedModel) -> None:
    needs = {layer.name: owner_of_layer(supernet, layer) for layer in supernet.network.layers}
    assert needs["stem.0"] is needs["fc"] is None
    assert needs["block.conv1"] == ("substitute:block", KEEP)
    assert needs["block.instead.wide.0.conv"] == ("substitute:block", "wide")


def test_sites_inside_a_branch_are_owned_and_those_across_are_not(supernet: PreparedModel) -> None:
    sites = {site.name: site for site in PlanSpace(supernet, ALL).sites}
    assert sites["substitute:block"].owner is None
    assert sites["narrow:block.conv1"].owner == ("substitute:block", KEEP)
    assert sites["narrow:block.instead.wide.0.conv"].owner == ("substitute:block", "wide")
    assert sites["quantize:block.instead.wide.0.conv"].owner == ("substitute:block", "wide")
    assert sites["narrow:stem.0"].owner is None, "its channels run through every branch"


def test_choices_of_blocks_that_are_not_there_are_dropped(supernet: PreparedModel) -> None:
    sites = PlanSpace(supernet, ALL).sites
    kept = {"narrow:block.conv1": "16", "quantize:fc": "int8"}
    assert without_absent_sites(sites, kept) == kept
    assert without_absent_sites(sites, {**kept, "substitute:block": "wide"}) == {
        "substitute:block": "wide",
        "quantize:fc": "int8",
    }


def test_what_follows_a_left_out_block_reads_what_comes_before_it(supernet: PreparedModel) -> None:
    found = {(a.name, b.name): between for a, b, between in layer_borders(supernet)}
    assert found["stem.0", "depthwise"] == {("substitute:block", frozenset({"nothing"}))}
    assert found["add", "depthwise"] == frozenset()
    assert ("stem.0", "depthwise") in named(network_of_plan(supernet, {"substitute:block": "nothing"}))


class Fire(nn.Module):
    """Ends in a concatenation: two layers make what it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.one, self.three = conv_unit((16, 8)), conv_unit((8, 8)), conv_unit((8, 8), 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.squeeze(x))
        return torch.relu(torch.cat([self.one(x), self.three(x)], 1))


class Fires(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.after = conv_unit((3, 16), 3), Fire(), conv_unit((16, 16), 3)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.after(self.block(self.stem(x))).mean((2, 3)))  # type: ignore[no-any-return]


def test_every_producer_of_a_concatenation_crosses_its_own_border(tools: Any) -> None:
    torch.manual_seed(0)
    other = tools.warmed(nn.Sequential(conv_unit((16, 16)), nn.ReLU()), (16, 24, 24))
    fires = tools.subject_of(tools.warmed(Fires()), replacements={"block": {"other": other}})
    problem, profile = (
        tools.random_problem(fires, (Substitute(), Quantize()), {"latency": 1.0}),
        tools.random_profile(fires),
    )
    plain = without_absent_sites(problem.sites, {site.name: site.candidates[0].name for site in problem.sites})
    made = ["quantize:block.one.conv", "quantize:block.three.conv"]
    for int8 in ([], made[:1], made, [*made, "quantize:after.conv"]):
        choice = {**plain, **dict.fromkeys(int8, "int8")}
        predicted = PlanSpace(fires, (Substitute(), Quantize())).predict(profile, choice)
        assert plan_cost(problem, choice)["latency"] == pytest.approx(predicted["latency"])


def test_branches_share_their_places_in_the_schedule(supernet: PreparedModel) -> None:
    place = schedule_steps(supernet)
    assert place["block.conv1"] == place["block.instead.wide.0.conv"] == place["stem.0"] + 1
    assert place["depthwise"] == max(place[name] for name in place if name.startswith(("block.", "add"))) + 1
    assert all(first <= last for first, last in value_lifetimes(supernet).values())


def test_every_plan_costs_what_the_plans_own_network_does(supernet: PreparedModel, tools: Any) -> None:
    """The search's tables over all plans at once against the cost model of each network on its own."""
    problem = tools.random_problem(supernet, ALL, {"latency": 1.0, "size": 1.0, "memory": 100.0})
    profile = tools.random_profile(supernet)
    validate_problem(problem)
    rng, seen = np.random.default_rng(0), set[tuple[str, str]]()
    for _ in range(60):
        choice = {s.name: rng.choice([c.name for c in s.candidates]).item() for s in owners_first(problem)}
        choice = without_absent_sites(problem.sites, choice)
        assert is_plan(problem, choice)
        seen.add((choice["substitute:block"], choice["resize:input"]))
        predicted, found = PlanSpace(supernet, ALL).predict(profile, choice), plan_cost(problem, choice)
        assert found["latency"] == pytest.approx(predicted["latency"])
        assert found["size"] == pytest.approx(predicted["size"])
    assert len(seen) == 8


def test_random_plans_pick_replacements_and_only_what_exists(supernet: PreparedModel) -> None:
    sites, rng = PlanSpace(supernet, ALL).sites, np.random.default_rng(0)
    drawn = [random_choice(sites, rng) for _ in range(30)]
    assert {picks_of(choice).get("block", KEEP) for choice in drawn} == {KEEP, "wide", "small", "nothing"}
    assert all(choice == without_absent_sites(sites, choice) for choice in drawn)


def test_a_narrowed_plan_with_a_replacement_is_lowered_and_trained_alike(
    supernet: PreparedModel, net: nn.Module, tmp_path: Path
) -> None:
    narrowed = {"narrow:stem.0": "8", "narrow:block.instead.wide.0.conv": "16"}
    choice = {"substitute:block": "wide", "resize:input": "16", **narrowed}
    one, module, model = network_of_plan(supernet, choice), copy.deepcopy(net), network_of_plan(supernet, choice).model
    for transform in ALL:
        module, model = transform.apply(one, choice, module), transform.lower(one, choice, model)
    save_onnx(model, tmp_path / "model.onnx")
    images = torch.randn(4, *supernet.network.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module.eval()(images).numpy()
    assert np.allclose(OnnxRuntime().run(tmp_path / "model.onnx", [images.numpy()], 1), expected, atol=1e-3)
    graph = one.network.graph
    for transform in ALL:
        graph = transform.imitate(one, choice, copy.deepcopy(graph))
    with torch.no_grad():
        assert np.allclose(graph(images).numpy(), expected, atol=1e-4)
    assert {m.out_channels for m in module.block.modules() if isinstance(m, nn.Conv2d)} == {16, 8}


def test_every_branch_is_shown_once_in_few_networks(supernet: PreparedModel) -> None:
    shown = covering_picks(supernet.branches)
    assert [dict(picks).get("block", KEEP) for picks in shown] == [KEEP, "wide", "small", "nothing"]
    assert len(set(itertools.chain.from_iterable(picks.values() for picks in shown))) == 3
