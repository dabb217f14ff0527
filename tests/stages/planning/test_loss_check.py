"""What the chosen plan really loses is measured on other images, and a harsh plan is told as such."""

from dataclasses import replace

import pytest

from paredown.stages.base import State
from paredown.stages.planning.loss_check import check_loss
from paredown.stages.planning.plan_space import load_plan_space
from paredown.stages.planning.unseen_images import held_out_images
from paredown.stages.products.loss_check import LossCheck
from paredown.stages.products.losses import ExpectedLosses
from paredown.stages.products.plan import Plan

CHECK = LossCheck(
    predicted=0.03,
    spread=0.1,
    most=2.0,
    measured=0.057,
    error=0.004,
    images=128,
    before=50.0,
    points=-4.7,
    points_error=1.56,
)


def expected(spread: float) -> ExpectedLosses:
    return ExpectedLosses({}, {}, {}, None, 8, spread=spread)


def test_a_plan_that_loses_what_was_expected_is_not_harsh_and_one_that_loses_far_more_is(planned: State) -> None:
    space, choice = load_plan_space(planned), {"narrow:pointwise.0": "16", "narrow:block.conv1": "8"}
    found = check_loss(space, planned, choice, 1.0, expected(0.1))
    assert found.images == len(held_out_images(planned, planned.open_data(), 256))
    assert found.error > 0
    assert not found.harsh
    half = (found.measured - 2 * found.error) / 2
    assert half > 0
    assert check_loss(space, planned, choice, half, expected(0.3)).harsh
    assert not check_loss(space, planned, choice, half, expected(0.5)).harsh, "within errors"


def test_nothing_changed_is_nothing_lost(planned: State) -> None:
    found = check_loss(load_plan_space(planned), planned, {}, 0.0, expected(0.1))
    assert (found.measured, found.harsh) == (0, False)
    assert (found.points, found.points_error) == (0, 0)


def test_the_search_leaves_what_its_plan_really_loses(planned: State) -> None:
    plan = Plan.load(planned.product("plan"))
    assert plan.loss_check is not None and plan.predicted is not None
    assert plan.loss_check.predicted == plan.predicted.loss
    assert plan.loss_check.spread == ExpectedLosses.load(planned.product("sensitivity")).spread
    again = check_loss(load_plan_space(planned), planned, plan.choice, plan.loss_check.predicted, expected(0.0))
    assert again.measured == pytest.approx(plan.loss_check.measured)


def test_both_losses_are_told_with_what_they_mean() -> None:
    assert CHECK.sentence() == (
        "expected loss 0.03 nats (within a factor of 1.2), measured on 128 held-out images 0.057 ± 0.004 (-4.7 ± 1.6 "
        "points of top-1 before any training): this plan is harsh, losses of its parts no longer add up; recovery "
        "starts from there"
    )
    assert "harsh" not in replace(CHECK, measured=0.04).sentence()
    beyond = replace(CHECK, predicted=4.0, measured=2.5).sentence()
    assert "this plan is harsh, it loses more than any that losses were fitted to (2);" in beyond
