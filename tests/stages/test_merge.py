"""Two neighbouring blocks, and one replacement that stands for both: offered, searched, stitched in and told."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from paredown.models.compression.supernet import ABSORBED, KEEP
from paredown.models.loading.spec import ModelSpec
from paredown.models.network.blocks import find_blocks, neighbours
from paredown.models.network.trace import Network, analyse_network
from paredown.pipeline.report.replaced_blocks import BlockOffer, ReplacedBlock
from paredown.stages import library
from paredown.stages.analysis.plan_network import covering_picks, network_of_plan, picks_of
from paredown.stages.analysis.prepare import load_prepared_model
from paredown.stages.analysis.replacements import load_replacements
from paredown.stages.analysis.teacher import load_teacher
from paredown.stages.base import State
from paredown.stages.limits import Bound, Limits
from paredown.stages.planning.plan_meter import PlanMeter
from paredown.stages.planning.plan_space import load_plan_space, load_profile
from paredown.stages.planning.problem_builder import build_problem
from paredown.stages.planning.search_loop import SearchLoop
from paredown.stages.planning.single_losses import measure_singles
from paredown.stages.planning.sites import random_choice, without_absent_sites
from paredown.stages.planning.teacher_comparison import TeacherComparison
from paredown.stages.plugins import load_plugin
from paredown.stages.products.losses import ExpectedLosses
from paredown.stages.products.plan import Plan
from paredown.stages.products.replacement_scores import ReplacementScores
from paredown.stages.solvers.milp import Milp
from paredown.stages.solvers.problem import is_plan
from paredown.stages.solvers.problem import plan_cost as plan_cost
from paredown.stages.solvers.random import RandomSearch
from paredown.stages.training.blockwise import record_features, relative_error
from paredown.stages.training.distillation import feature_points
from paredown.stages.training.schedule import Schedule
from paredown.stages.training.student import load_compressed
from paredown.stages.transforms.loading import profiled_transforms

PAIR = '''

class Pair(Net):
    def __init__(self, classes):
        super().__init__(classes)
        self.again = Block(16, 32)

    def forward(self, x):
        x = self.again(self.block(self.stem(x)))
        x = self.pointwise(torch.relu(self.bn(self.depthwise(x))))
        return self.fc(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Tapped(Pair):
    """What the first block computes is read behind the second one too."""

    def forward(self, x):
        y = self.block(self.stem(x))
        x = self.pointwise(torch.relu(self.bn(self.depthwise(self.again(y) + y))))
        return self.fc(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def net(classes):
    return Pair(classes)
'''
SHORT = Schedule(epochs=1, lr=1e-3)
STAGES: dict[str, dict[str, Any]] = {
    "baseline": {"rounds": 1, "runs": 1},
    "library": {"blocks": {"basic": {"ratios": [1.5]}}, "images": 64, "steps": 32},
    "profile": {"transforms": ["substitute", "quantize"], "plans": 4, "images": 32},
    "sensitivity": {"images": 8, "plans": 6},
    "search": {"front": 0, "rounds": 4, "alternatives": 0},
    "compress": {"batches": 2},
    "recover": {"distil": SHORT, "quantize": SHORT},
    "export": {"agreement": 0.5},
}


def modules(tools: Any) -> dict[str, Callable[[int], nn.Module]]:
    names: dict[str, Callable[[int], nn.Module]] = {}
    exec(tools.net_source + PAIR, names)
    return names


def network(tools: Any, kind: str) -> Network:
    return analyse_network(modules(tools)[kind](3).eval(), tools.shape)


@pytest.fixture(scope="module")
def merged(started: State, run: Callable[..., State], tools: Any, tmp_path_factory: pytest.TempPathFactory) -> State:
    """The state after all stages up to `export`, under a limit that two kept blocks cannot hold."""
    root = tmp_path_factory.mktemp("merged")
    (root / "exact.py").symlink_to(started.root / "exact.py")
    (root / "images.npz").symlink_to(started.root / "images.npz")
    (root / "pair.py").write_text(tools.net_source + PAIR)
    torch.manual_seed(0)
    torch.save(tools.warmed(modules(tools)["net"](3)).state_dict(), root / "pair.pth")
    limits = Limits(latency_p50=Bound(value=0.25, unit="x"))
    model = ModelSpec(source="pair.py:net", weights="pair.pth")
    state = replace(started, root=root, cache=root / "cache", model=model, limits=limits, products={})
    for name, options in STAGES.items():
        state = run(state, name, **options)
    return state


def test_neighbours_are_blocks_of_which_nothing_else_reads_the_first(tools: Any) -> None:
    pair, tapped = network(tools, "Pair"), network(tools, "Tapped")
    assert [(a.name, b.name) for a, b in neighbours(pair, find_blocks(pair))] == [("block", "again")]
    assert neighbours(tapped, find_blocks(tapped)) == ()
    assert [place.name for place in find_blocks(tapped)] == ["block", "again"]


def test_a_second_block_of_another_shape_is_no_neighbour(tools: Any) -> None:
    pair = network(tools, "Pair")
    one, two = find_blocks(pair)
    assert neighbours(pair, (one, replace(two, shape_out=(32, 6, 6)))) == ()


def test_the_library_trains_one_for_both(merged: State) -> None:
    library = ReplacementScores.load(merged.product("library"))
    assert list(library.merged) == ["block"] and library.merged["block"].last == "again"
    (name,) = library.merged["block"].kept
    both, parts = library.merged["block"].keep, [library.blocks[b].keep for b in ("block", "again")]
    assert both.macs == pytest.approx(sum(part.macs for part in parts))
    data = merged.open_data()
    images = [x for x, _, _ in data.training_batches(32, 0, 0)]
    original = load_teacher(merged, data)
    features = record_features(original, "block", "again", images)
    error = relative_error(load_replacements(merged, original)["block"][name], features)
    assert error < 0.9
    assert error == pytest.approx(library.merged["block"].candidates[name].error, rel=0.5)


def test_the_first_block_itself_may_learn_the_work_of_both(merged: State) -> None:
    """It starts from what it computes already, so it is nearer than a fresh block after as many steps."""
    tried = ReplacementScores.load(merged.product("library")).merged["block"]
    assert set(tried.candidates) == {"merged_own", "merged_basic_r1_5"}
    assert tried.candidates["merged_own"].error < tried.candidates["merged_basic_r1_5"].error
    data = merged.open_data()
    original = load_teacher(merged, data)
    assert tried.kept == ("merged_own",)
    own = load_replacements(merged, original)["block"]["merged_own"]
    assert type(own) is type(original.get_submodule("block"))
    assert not torch.equal(own.conv1.weight, original.get_submodule("block").conv1.weight)  # type: ignore[union-attr,arg-type]


def test_the_number_of_cores_does_not_change_what_is_learnt(
    merged: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for workers in (1, 3):
        monkeypatch.setattr(library, "workers_for", lambda _device, n=workers: n)
        out = tmp_path / str(workers)
        out.mkdir()
        load_plugin("stages", "library")(**STAGES["library"]).run(replace(merged, cache=out / "cache", out=out))
    one, three = ((tmp_path / n / "weights.safetensors").read_bytes() for n in ("1", "3"))
    assert one == three == (merged.product("library") / "weights.safetensors").read_bytes()


def test_what_stands_for_both_is_picked_in_both_or_in_none(merged: State) -> None:
    space = load_plan_space(merged)
    sites = space.sites
    first, second = sites[:2]
    (name,) = (c.name for c in first.candidates if c.needs)
    assert [c.name for c in second.candidates if c.needs] == [ABSORBED]
    for seed in range(20):
        choice = random_choice(sites, np.random.default_rng(seed))
        assert (choice[first.name] == name) == (choice[second.name] == ABSORBED)
    other = {
        site.name: site.candidates[-1].name for site in sites if site.owner is None and not site.candidates[-1].needs
    }
    assert without_absent_sites(sites, {**other, first.name: name}) == other


def test_even_picks_merge_every_pair_and_show_every_branch(merged: State) -> None:
    found = load_prepared_model(merged).branches
    picks = covering_picks(found)
    shown = {(block, name) for one in picks for block, name in one.items()}
    assert shown == {(branch.block, name) for branch in found for name in branch.values if name != KEEP}
    assert all(
        ("again" in one and one["again"] == ABSORBED) == one.get("block", "").startswith("merged_") for one in picks
    )


def test_losses_of_both_sum_to_what_the_pair_does(merged: State) -> None:
    space = load_plan_space(merged)
    data = merged.open_data()
    split = data.calibration.take(8, merged.seed)
    judge = TeacherComparison(space, torch.from_numpy(next(data.batches(split, 8))[0]))
    singles = measure_singles(space.sites, judge.losses, lambda done: None).losses
    name = next(c for c in singles["substitute:block"] if c.startswith("merged_"))
    whole = judge.loss({"substitute:block": name, "substitute:again": ABSORBED})
    assert singles["substitute:again"][ABSORBED] == pytest.approx(0, abs=1e-9)
    assert singles["substitute:block"][name] == pytest.approx(whole)
    assert whole > 0
    inside = next(site for site in singles if site.startswith(f"quantize:block.instead.{name}."))
    picks = {"substitute:block": name, "substitute:again": ABSORBED}
    more = max(judge.loss({**picks, inside: "int8"}) - whole, 0.0)
    assert singles[inside]["int8"] == pytest.approx(more, abs=1e-7), "the second block is absorbed there too"


def test_the_search_merges_and_the_artifact_has_one_block(merged: State) -> None:
    picks = picks_of(Plan.load(merged.product("plan")).choice)
    assert picks["block"].startswith("merged_") and picks["again"] == ABSORBED
    model = onnx.load(merged.product("exported") / "model.onnx")
    names = [node.name for node in model.graph.node if node.op_type == "Conv"]
    assert sum(name.startswith(f"block.instead.{picks['block']}.") for name in names) == 2
    assert not any(name.startswith(("again", "block.conv")) for name in names)


def test_every_plan_costs_what_its_own_network_does(merged: State) -> None:
    """Also where a value passes through a block that another one absorbed."""
    space, profile = load_plan_space(merged), load_profile(merged)
    problem = build_problem(space, profile, ExpectedLosses.load(merged.product("sensitivity")).losses, {"latency": 1.0})
    rng, seen = np.random.default_rng(0), set[str]()
    for _ in range(60):
        choice = random_choice(problem.sites, rng)
        whole = {**{s.name: s.candidates[0].name for s in problem.sites}, **choice}
        whole = without_absent_sites(problem.sites, whole)
        assert is_plan(problem, whole)
        seen.add(whole["substitute:again"])
        predicted = space.predict(profile, whole)
        assert plan_cost(problem, whole)["latency"] == pytest.approx(predicted["latency"])
    assert {KEEP, ABSORBED} <= seen


def test_every_solver_keeps_pairs_together(merged: State) -> None:
    space, profile = load_plan_space(merged), load_profile(merged)
    whole = json.loads((merged.product("baseline") / "evidence.json").read_text())["latency"]["p50"]
    problem = build_problem(
        space,
        profile,
        ExpectedLosses.load(merged.product("sensitivity")).losses,
        {"latency": 0.25 * whole},
    )
    for solver in (Milp(), RandomSearch(evaluations=300)):
        assert is_plan(problem, solver.solve(problem).choice)


def test_the_student_learns_the_pairs_end_only(merged: State) -> None:
    data = merged.open_data()
    prepared, transforms, teacher = load_prepared_model(merged), profiled_transforms(merged), load_teacher(merged, data)
    plan = Plan.load(merged.product("plan"))
    assert set(feature_points(prepared, transforms, plan.choice, teacher)) == {"again"}
    kept = {site: name for site, name in plan.choice.items() if not site.startswith("substitute:")}
    assert set(feature_points(prepared, transforms, kept, teacher)) == {"block", "again"}


def test_the_students_merged_block_starts_as_it_was_trained(merged: State) -> None:
    data = merged.open_data()
    choice = {
        site: name for site, name in Plan.load(merged.product("plan")).choice.items() if site.startswith("substitute:")
    }
    prepared = load_prepared_model(merged)
    student = load_compressed(merged, data)
    assert isinstance(student.get_submodule(f"again.instead.{ABSORBED}"), nn.Identity)
    one = network_of_plan(prepared, choice).network
    x = torch.randn(2, *one.shape, generator=torch.Generator().manual_seed(0))
    stitched = load_plugin("transforms", "substitute")().apply(prepared, choice, load_teacher(merged, data))
    with torch.no_grad():
        assert torch.allclose(one.graph(x), stitched.eval()(x), atol=1e-4)


def test_a_known_plan_holds_by_what_was_measured(merged: State) -> None:
    """Also where the model believes that it does not."""
    space, profile = load_plan_space(merged), load_profile(merged)
    slow = replace(profile, latency_scale=2.0)
    state = replace(merged, out=merged.root)
    whole = json.loads((merged.product("baseline") / "evidence.json").read_text())["latency"]["p50"]
    limits = {"latency": 0.6 * whole}
    loop = SearchLoop(
        load_plugin("stages", "search")().loop_options(),
        PlanMeter(space, state),
        Milp(),
        ExpectedLosses.load(merged.product("sensitivity")).losses,
        limits,
    )
    found = loop.try_profiled_plans(slow)
    assert found is not None and found.sample is not None
    assert found.solution.costs["latency"] > limits["latency"] > found.sample.latency
    assert found.holds and found.solution.feasible


def offer(name: str, ms: float, loss: float, instead_of: float, picked: bool = False) -> BlockOffer:
    return BlockOffer(name, "basic", ms, loss, 0.1, instead_of, picked=picked)


def test_the_report_says_what_a_merged_block_stands_for() -> None:
    keep, both = offer("keep", 0.4, 0.0, 0.4), offer("merged_basic_r1_5", 0.3, 0.02, 0.8, picked=True)
    gone = offer(ABSORBED, 0.0, 0.0, 0.4, picked=True)
    first = ReplacedBlock("layer1.0", keep, both, (keep, both), 3, "", "layer1.1")
    second = ReplacedBlock("layer1.1", keep, gone, (keep, gone), 3, "layer1.0", "")
    assert first.why == "saves 0.500 ms (-62 %) for 0.02 nats, standing for layer1.1 too"
    assert second.why == "layer1.0 does its work too"
    stays = ReplacedBlock("layer1.1", keep, keep, (keep, gone), 3, "layer1.0", "")
    assert stays.why == "nothing offered is faster"


def test_without_merging_nothing_of_it_is_offered(merged: State, tmp_path: Path) -> None:
    state = replace(merged, out=tmp_path)
    load_plugin("stages", "library")(**{**STAGES["library"], "merge": 0}).run(state)
    data = merged.open_data()
    found = load_replacements(state.with_product("library", tmp_path), load_teacher(merged, data))
    assert not any(name == ABSORBED or name.startswith("merged_") for names in found.values() for name in names)
