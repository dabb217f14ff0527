"""How much each candidate hurts: the change of the teacher's output when it alone is made, without training."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from paredown.stages.base import Stage, State
from paredown.stages.planning.extremes import extreme_plans
from paredown.stages.planning.loss_model import LossFit, fit_loss_model
from paredown.stages.planning.plan_space import load_plan_space
from paredown.stages.planning.sites import random_choice, without_absent_sites
from paredown.stages.planning.teacher_comparison import TeacherComparison
from paredown.stages.products.losses import ExpectedLosses, Losses
from paredown.stages.solvers.problem import Choice, Site

BATCH = 8
"""Plans that are evaluated before it is asked again whether more of them would improve the coefficients."""
ENOUGH = 0.95
"""They do not where the error of left-out plans stays over this share of what it was."""


class Sensitivity(Stage):
    """Measures every candidate's KL divergence on calibration images, then fits how they add up in whole plans."""

    needs: ClassVar[tuple[str, ...]] = ("baseline", "profile")
    uses: ClassVar[tuple[str, ...]] = ("original", "library")
    gives: ClassVar[str] = "sensitivity"
    reads: ClassVar[tuple[str, ...]] = ("data", "seed")

    images: int = Field(40, ge=8, description="calibration images per candidate")
    plans: int = Field(
        32,
        ge=0,
        description="most random whole plans evaluated to fit the coefficients, until they no longer improve; "
        "0 leaves them at 1",
    )

    def run(self, state: State) -> None:
        data = state.open_data()
        space = load_plan_space(state)
        split = data.calibration.take(self.images, state.seed)
        images = torch.from_numpy(next(data.batches(split, len(split)))[0])
        judge = TeacherComparison(space, images)
        sites = space.sites
        singles = self._singles(judge, sites, state)
        fitted, plans = self._whole_plans(judge, sites, singles, state)
        losses = {s.name: {c: loss * fitted.sites[s.name] for c, loss in singles[s.name].items()} for s in sites}
        ExpectedLosses(losses, fitted.kinds, fitted.sites, fitted.spearman, plans).save(state.out)

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

    def _singles(self, judge: TeacherComparison, sites: Sequence[Site], state: State) -> Losses:
        """Site to candidate to the nats that it costs alone: its loss with the picks that it cannot be without (its
        site's owner, the first of its needs), less what those cost themselves. Owners come first in `sites`."""
        losses: Losses = {}
        needs = {(site.name, c.name): dict(c.needs[:1]) for site in sites for c in site.candidates}
        for index, site in enumerate(sites):
            state.progress("sensitivity: candidates", index, len(sites))
            owner_picks, owner_loss = dict[str, str](), 0.0
            if site.owner:
                owner_picks = {**dict([site.owner]), **needs[site.owner]}
                owner_loss = losses[site.owner[0]][site.owner[1]]
            losses[site.name] = {site.candidates[0].name: 0.0}
            for candidate in site.candidates[1:]:
                also = needs[site.name, candidate.name]
                also_loss = sum(losses[name].get(pick, 0.0) for name, pick in also.items() if name in losses)
                loss = judge.loss({**owner_picks, **also, site.name: candidate.name})
                losses[site.name][candidate.name] = max(loss - owner_loss - also_loss, 0.0)
            if site.ordered:
                _monotone(losses[site.name])
        return losses

    def _whole_plans(
        self, judge: TeacherComparison, sites: Sequence[Site], singles: Losses, state: State
    ) -> tuple[LossFit, int]:
        """The coefficients, and how many plans it took until more no longer improved them."""
        rng, plans, measured = np.random.default_rng(state.seed + 1), list[Choice](), list[float]()
        fitted = fit_loss_model(sites, singles, plans, measured)
        for start in range(0, self.plans, BATCH):
            for index in range(start, min(start + BATCH, self.plans)):
                state.progress("sensitivity: whole plans", index, self.plans)
                plans.append(_mild(random_choice(sites, rng), sites, rng))
                measured.append(judge.loss(plans[-1]))
            before, fitted = fitted, fit_loss_model(sites, singles, plans, measured)
            if fitted.error > ENOUGH * before.error:
                break
        return fitted, len(plans)


def _monotone(losses: dict[str, float]) -> None:
    """Candidates are listed from mild to harsh: a harsher one that measured better was luck."""
    highest = 0.0
    for name in losses:
        highest = losses[name] = max(highest, losses[name])


def _mild(choice: Choice, sites: Sequence[Site], rng: np.random.Generator) -> Choice:
    """The plan with all but a few sites left as they are: harsh plans all look equally ruined without training."""
    share = rng.uniform(0.05, 0.4)
    few = {site.name: choice[site.name] for site in sites if site.name in choice and rng.random() < share}
    return without_absent_sites(sites, few)


PLUGIN = Sensitivity
