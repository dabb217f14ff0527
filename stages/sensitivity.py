"""How much each candidate hurts: the change of the teacher's output when it alone is made, without training."""

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from paredown.models.data.dataset import ImageData, Split
from paredown.stages.base import Stage, State
from paredown.stages.planning.extremes import extreme_plans
from paredown.stages.planning.loss_model import LossFit, fit_loss_model
from paredown.stages.planning.plan_space import PlanSpace, load_plan_space
from paredown.stages.planning.single_losses import RESOLUTION, SingleLosses, measure_singles
from paredown.stages.planning.sites import random_choice, without_absent_sites
from paredown.stages.planning.teacher_comparison import TeacherComparison
from paredown.stages.planning.unseen_images import unseen_images
from paredown.stages.products.losses import ExpectedLosses, Losses
from paredown.stages.products.product_files import write_notes
from paredown.stages.solvers.problem import Choice, Site

BATCH = 8
"""Plans that are evaluated before it is asked again whether more of them would improve the coefficients."""
ENOUGH = 0.95
"""They do not where the error of left-out plans stays over this share of what it was."""

WHOLE = 2
"""Times as many images for whole plans, other ones: of many candidates those seem best that the first images favour."""
MOST, RANGE = 0.4, math.log(300)
"""Random plans cost, by the sum of their parts, at most this share of the logarithm of the number of classes, and at
least a 300th of that: the logarithms of their losses are spread evenly, as what limits ask for is not known yet."""


class Sensitivity(Stage):
    """Measures every candidate's KL divergence on images that nothing was fitted to, then fits how they add up."""

    needs: ClassVar[tuple[str, ...]] = ("baseline", "profile")
    uses: ClassVar[tuple[str, ...]] = ("original", "library")
    gives: ClassVar[str] = "sensitivity"
    reads: ClassVar[tuple[str, ...]] = ("data", "seed")

    images: int = Field(40, ge=8, description="images per candidate, none of those that `profile` calibrated on")
    plans: int = Field(
        32,
        ge=0,
        description="most random whole plans evaluated to fit the coefficients, until they no longer improve; "
        "0 leaves them at 1",
    )

    def run(self, state: State) -> None:
        data, space = state.open_data(), load_plan_space(state)
        sites = space.sites
        unseen = unseen_images(state, data, self.images * (1 + WHOLE))
        write_notes(state.out, few_unseen(len(unseen), self.images))
        unseen = unseen if len(unseen) else data.calibration
        judge = _judge(space, data, unseen.take(self.images, state.seed))
        singles = measure_singles(
            sites, judge.losses, lambda done: state.progress("sensitivity: candidates", done, len(sites))
        )
        others = unseen.beyond(self.images, self.images * WHOLE, state.seed)
        fitted, plans = self._whole_plans(_judge(space, data, others) if len(others) else judge, singles.losses, state)
        losses = {site.name: expected_losses(singles, site.name, fitted.sites[site.name]) for site in sites}
        ExpectedLosses(
            losses,
            fitted.kinds,
            fitted.sites,
            fitted.spearman,
            plans,
            power=fitted.power,
            spread=fitted.spread,
            most=fitted.most,
            errors=singles.errors,
        ).save(state.out)

    def rehearse(self, state: State) -> bool:
        """Imitates the extreme plans; what it writes of single candidates is made up, the harsher the larger."""
        data, space = state.open_data(), load_plan_space(state)
        judge = TeacherComparison(space, torch.from_numpy(next(data.batches(data.calibration, 32))[0]))
        for plan in extreme_plans(space):
            judge.loss(plan)
        losses = {site.name: {c.name: 1e-3 * i for i, c in enumerate(site.candidates)} for site in space.sites}
        fitted = fit_loss_model(space.sites, losses, [], [])
        ExpectedLosses(losses, fitted.kinds, fitted.sites, fitted.spearman, 0).save(state.out)
        return True

    def _whole_plans(self, judge: TeacherComparison, singles: Losses, state: State) -> tuple[LossFit, int]:
        """The coefficients, and how many plans it took until more no longer improved them."""
        rng, plans, measured = np.random.default_rng(state.seed + 1), list[Choice](), list[float]()
        sites, most = judge.space.sites, MOST * math.log(judge.teacher.shape[1])
        fitted = fit_loss_model(sites, singles, plans, measured)
        for start in range(0, self.plans, BATCH):
            for index in range(start, min(start + BATCH, self.plans)):
                state.progress("sensitivity: whole plans", index, self.plans)
                total = most * math.exp(-rng.uniform(0, RANGE))
                plans.append(filled(random_choice(sites, rng), sites, singles, total, rng))
                measured.append(judge.loss(plans[-1]))
            before, fitted = fitted, fit_loss_model(sites, singles, plans, measured)
            if fitted.error > ENOUGH * before.error:
                break
        return fitted, len(plans)


def few_unseen(found: int, wanted: int) -> list[str]:
    """What to say of fewer images than are asked for that `profile` did not calibrate on; nothing of enough."""
    if found >= wanted:
        return []
    judged = f"on {found} images" if found else "on images that profile calibrated on, which makes them look small"
    return [
        f"sensitivity: losses are measured {judged}, as there are no {wanted} others in calibration and half of "
        "validation; fewer profile.images or larger splits would help"
    ]


def _judge(space: PlanSpace, data: ImageData, split: Split) -> TeacherComparison:
    return TeacherComparison(space, torch.from_numpy(next(data.batches(split, len(split)))[0]))


def expected_losses(singles: SingleLosses, site: str, factor: float) -> dict[str, float]:
    """A site's losses with its coefficient, which makes none of them smaller than what its measurement can tell from
    nothing: a candidate that a fit made free would be picked everywhere."""
    first, *changed = singles.losses[site].items()
    errors = singles.errors[site]
    return dict([first]) | {name: max(factor * loss, errors[name], RESOLUTION) for name, loss in changed}


def filled(choice: Choice, sites: Sequence[Site], singles: Losses, total: float, rng: np.random.Generator) -> Choice:
    """The plan's picks in a random order, as long as what they cost alone stays under a `total` in nats; all other
    sites are left as they are. Harsher plans all look equally ruined without training, and teach nothing."""
    few, spent = dict[str, str](), 0.0
    for index in rng.permutation(len(sites)).tolist():
        name = sites[index].name
        loss = singles[name][choice[name]] if name in choice else math.inf
        if spent + loss <= total:
            few[name] = choice[name]
            spent += loss
    return without_absent_sites(sites, few)


PLUGIN = Sensitivity
