"""How much candidates hurt, alone and together."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.base import State
from paredown.stages.planning.loss_model import fit_loss_model
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.single_losses import RESOLUTION, SingleLosses
from paredown.stages.planning.sites import random_choice
from paredown.stages.planning.teacher_comparison import TeacherComparison
from paredown.stages.products.losses import ExpectedLosses, Losses
from paredown.stages.products.product_files import read_notes
from paredown.stages.sensitivity import expected_losses, few_unseen, filled
from paredown.stages.solvers.problem import Candidate, Choice, Site
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.quantize import Quantize

BOTH = (Narrow(), Quantize())
SITES = tuple(Site(f"{kind}:{i}", (Candidate("keep"), Candidate("cut"))) for kind in ("a", "b") for i in range(6))


@pytest.fixture(scope="module")
def judge(prepared: PreparedModel) -> TeacherComparison:
    return TeacherComparison(
        PlanSpace(prepared, BOTH), torch.randn(24, *prepared.network.shape, generator=torch.Generator().manual_seed(0))
    )


def test_no_change_is_no_loss(judge: TeacherComparison, prepared: PreparedModel) -> None:
    assert judge.loss({}) == pytest.approx(0, abs=1e-9)
    assert judge.loss({site.name: site.candidates[0].name for site in PlanSpace(prepared, BOTH).sites}) < 1e-9


def test_it_is_the_divergence_of_the_teachers_answers(judge: TeacherComparison, prepared: PreparedModel) -> None:
    choice = {"narrow:block.conv1": "8"}
    graph = Narrow().imitate(prepared, choice, prepared.network.graph.__deepcopy__({}))
    with torch.no_grad():
        told = prepared.network.graph(judge.images).softmax(1).double()
        changed = graph(judge.images).softmax(1).double()
    divergence = (told * (told / changed).log()).sum(1).mean()
    assert judge.loss(choice) == pytest.approx(float(divergence), rel=1e-3)
    assert float(divergence) > 1e-4


def test_harsher_is_worse_and_more_is_worse(judge: TeacherComparison) -> None:
    mild, harsh = judge.loss({"narrow:pointwise.0": "40"}), judge.loss({"narrow:pointwise.0": "16"})
    assert 0 < mild < harsh < judge.loss({"narrow:pointwise.0": "16", "narrow:block.conv1": "8"})


def made_up(truth: dict[str, float]) -> tuple[Losses, list[Choice], list[float]]:
    """Plans whose measured losses are the sum of their parts, each kind times its true coefficient."""
    rng = np.random.default_rng(0)
    singles = {site.name: {"keep": 0.0, "cut": float(rng.uniform(0.01, 1))} for site in SITES}
    plans = [random_choice(SITES, rng) for _ in range(30)]
    measured = [sum(truth[s[0]] * singles[s][c] for s, c in plan.items()) for plan in plans]
    return singles, plans, measured


@pytest.mark.parametrize("truth", [{"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 0.5}, {"a": 0.3, "b": 3.5}], ids=str)
def test_coefficients_are_found_again(truth: dict[str, float]) -> None:
    found = fit_loss_model(SITES, *made_up(truth))
    assert found.spearman is not None
    assert found.spearman > 0.99
    assert found.kinds == pytest.approx(truth, rel=0.2)


def test_a_site_that_weighs_more_in_company_is_found() -> None:
    singles, _, _ = made_up({"a": 1.0, "b": 1.0})
    singles["a:3"]["cut"] = 0.5
    rng = np.random.default_rng(2)
    plans = [{site.name: rng.choice(["keep", "cut"]).item() for site in SITES} for _ in range(40)]
    plain = [sum(singles[s][c] for s, c in plan.items()) for plan in plans]
    heavy = [value + 2 * singles["a:3"][plan["a:3"]] for value, plan in zip(plain, plans, strict=True)]
    found = fit_loss_model(SITES, singles, plans, heavy)
    assert found.sites["a:3"] > 1.3 * max(value for site, value in found.sites.items() if site != "a:3")
    assert found.spearman is not None and found.spearman > 0.9
    assert max(fit_loss_model(SITES, singles, plans, plain).sites.values()) < 1.25, (
        "nothing is found where there is nothing"
    )


def test_noise_gives_no_site_a_coefficient_of_its_own() -> None:
    singles, plans, measured = made_up({"a": 1.0, "b": 1.0})
    rng = np.random.default_rng(1)
    noisy = [value * float(rng.lognormal(0, 0.3)) for value in measured[:10]]
    found = fit_loss_model(SITES, singles, plans[:10], noisy)
    by_kind = {name: found.kinds[name[0]] for name in found.sites}
    assert found.sites == pytest.approx(by_kind, rel=0.35)


def test_too_few_plans_leave_the_coefficients_at_one() -> None:
    singles, plans, measured = made_up({"a": 2.0, "b": 0.5})
    found = fit_loss_model(SITES, singles, plans[:3], measured[:3])
    assert found.kinds == {"a": 1.0, "b": 1.0}
    assert set(found.sites.values()) == {1.0}
    assert found.spearman is None


@pytest.mark.parametrize("plans", [[{}] * 6, [{"a:0": "cut"}] * 6], ids=["empty", "all alike"])
def test_plans_that_say_nothing_have_no_rank_correlation(plans: Sequence[Choice]) -> None:
    """A correlation of constants is not a number, and JSON cannot say that."""
    singles, _, _ = made_up({"a": 1.0, "b": 1.0})
    assert fit_loss_model(SITES, singles, plans, [0.1] * 6).spearman is None


def test_the_stage_lists_every_candidate_from_mild_to_harsh(planned: State) -> None:
    losses = ExpectedLosses.load(planned.product("sensitivity")).losses
    listed = json.loads((planned.product("profile") / "profile.json").read_text())["sites"]
    assert {site: list(candidates) for site, candidates in losses.items()} == listed
    for candidates in losses.values():
        values = list(candidates.values())
        assert values[0] == 0
        assert values == sorted(values)


def test_the_stage_says_how_well_it_predicts(planned: State) -> None:
    said = json.loads((planned.product("sensitivity") / "sensitivity.json").read_text())
    assert set(said["coefficients"]) == {"narrow", "quantize"}
    assert -1 <= said["spearman"] <= 1
    assert said["plans"] == 8
    losses, singles = said["losses"], said["factors"]
    assert set(losses) == set(singles)


def test_no_candidate_is_free_and_none_costs_less_than_its_error(planned: State) -> None:
    found = ExpectedLosses.load(planned.product("sensitivity"))
    assert found.errors is not None
    for site, (_, *changed) in ((site, tuple(losses)) for site, losses in found.losses.items()):
        for name in changed:
            assert found.losses[site][name] >= max(found.errors[site][name], RESOLUTION)


def test_a_fit_that_makes_a_site_cheap_stops_at_what_its_measurement_can_tell() -> None:
    singles = SingleLosses({"a": {"keep": 0.0, "cut": 0.4, "gone": 0.8}}, {"a": {"keep": 0.0, "cut": 0.2, "gone": 0.2}})
    assert expected_losses(singles, "a", 0.25) == pytest.approx({"keep": 0.0, "cut": 0.2, "gone": 0.2})
    assert expected_losses(singles, "a", 2.0) == pytest.approx({"keep": 0.0, "cut": 0.8, "gone": 1.6})


@pytest.mark.parametrize("power", [1.0, 1.2, 1.4])
def test_losses_that_grow_faster_than_their_sum_are_found(power: float) -> None:
    singles, plans, summed = made_up({"a": 1.0, "b": 1.0})
    rng = np.random.default_rng(3)
    found = fit_loss_model(SITES, singles, plans, [value**power * float(rng.lognormal(0, 0.05)) for value in summed])
    assert found.power == power
    assert found.spread is not None and 0.02 < found.spread < 0.15


@pytest.mark.parametrize("total", [1.0, 2.0, 3.0])
def test_random_plans_are_filled_up_to_a_total(total: float) -> None:
    singles, plans, _ = made_up({"a": 1.0, "b": 1.0})
    rng = np.random.default_rng(5)
    spent = [sum(singles[s][c] for s, c in filled(plan, SITES, singles, total, rng).items()) for plan in plans]
    assert max(spent) <= total
    whole = [sum(singles[s][c] for s, c in plan.items()) for plan in plans]
    assert np.median([one / min(total, most) for one, most in zip(spent, whole, strict=True) if most]) > 0.6


def test_the_power_bends_what_a_plan_is_expected_to_lose_but_not_the_order_of_plans() -> None:
    bent = ExpectedLosses({}, {}, {}, None, 8, power=1.5)
    assert [bent.of_plan(summed) for summed in (0.0, 0.25, 1.0, 4.0)] == [0.0, 0.125, 1.0, 8.0]


@pytest.mark.parametrize(("found", "said"), [(0, "profile calibrated on"), (7, "on 7 images"), (40, "")])
def test_too_few_images_that_nobody_calibrated_on_are_told(found: int, said: str) -> None:
    lines = few_unseen(found, 40)
    assert (said in lines[0]) if said else not lines


def test_without_any_such_image_it_goes_on_and_says_so(planned: State, tmp_path: Path, run: Any) -> None:
    """As where all splits are tiny."""
    data = planned.open_data()
    tiny = replace(data, validation=data.validation.take(1, 0))
    run(replace(planned, few_images=lambda: tiny), "sensitivity", tmp_path, images=8, plans=4)
    (line,) = read_notes(tmp_path)
    assert "profile calibrated on" in line
    assert ExpectedLosses.load(tmp_path / "sensitivity").losses
