"""How much candidates hurt, alone and together."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from paredown.stages.base import State
from paredown.stages.problem import Candidate, Site
from paredown.stages.profile import random_choice
from paredown.stages.sensitivity import Judge, Losses, fit_coefficients, load_losses
from paredown.stages.structure import sites_of
from paredown.stages.transforms.base import Choice, Subject
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.quantize import Quantize

BOTH = (Narrow(), Quantize())
SITES = tuple(Site(f"{kind}:{i}", (Candidate("keep"), Candidate("cut"))) for kind in ("a", "b") for i in range(6))


@pytest.fixture(scope="module")
def judge(subject: Subject) -> Judge:
    return Judge(subject, BOTH, torch.randn(24, *subject.network.shape, generator=torch.Generator().manual_seed(0)))


def test_no_change_is_no_loss(judge: Judge, subject: Subject) -> None:
    assert judge.loss({}) == pytest.approx(0, abs=1e-9)
    assert judge.loss({site.name: site.candidates[0].name for site in sites_of(subject, BOTH)}) < 1e-9


def test_it_is_the_divergence_of_the_teachers_answers(judge: Judge, subject: Subject) -> None:
    choice = {"narrow:block.conv1": "8"}
    graph = Narrow().imitate(subject, choice, subject.network.graph.__deepcopy__({}))
    with torch.no_grad():
        told = subject.network.graph(judge.images).softmax(1).double()
        changed = graph(judge.images).softmax(1).double()
    divergence = (told * (told / changed).log()).sum(1).mean()
    assert judge.loss(choice) == pytest.approx(float(divergence), rel=1e-3)
    assert float(divergence) > 1e-4


def test_harsher_is_worse_and_more_is_worse(judge: Judge) -> None:
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
    coefficients, spearman = fit_coefficients(SITES, *made_up(truth))
    assert spearman is not None
    assert spearman > 0.99
    assert coefficients == pytest.approx(truth, rel=0.2)


def test_too_few_plans_leave_the_coefficients_at_one() -> None:
    singles, plans, measured = made_up({"a": 2.0, "b": 0.5})
    assert fit_coefficients(SITES, singles, plans[:3], measured[:3]) == ({"a": 1.0, "b": 1.0}, None)


@pytest.mark.parametrize("plans", [[{}] * 6, [{"a:0": "cut"}] * 6], ids=["empty", "all alike"])
def test_plans_that_say_nothing_have_no_rank_correlation(plans: Sequence[Choice]) -> None:
    """A correlation of constants is not a number, and JSON cannot say that."""
    singles, _, _ = made_up({"a": 1.0, "b": 1.0})
    _, spearman = fit_coefficients(SITES, singles, plans, [0.1] * 6)
    assert spearman is None


def test_the_stage_lists_every_candidate_from_mild_to_harsh(planned: State) -> None:
    losses = load_losses(planned)
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
