"""The chosen plan's loss, measured on images that no loss was fitted to: does what was expected of it hold?"""

import torch

from paredown.stages.base import State
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.single_losses import standard_error
from paredown.stages.planning.teacher_comparison import TeacherComparison, divergences
from paredown.stages.planning.unseen_images import held_out_images
from paredown.stages.products.loss_check import LossCheck
from paredown.stages.products.losses import ExpectedLosses
from paredown.stages.solvers.problem import Choice

IMAGES = 256
"""Held-out images on which it is measured; all of them where there are fewer."""


def check_loss(space: PlanSpace, state: State, choice: Choice, predicted: float, expected: ExpectedLosses) -> LossCheck:
    """What a plan loses before any training, beside what was `predicted` from `expected` losses; see `LossCheck`."""
    data = state.open_data()
    split = held_out_images(state, data, IMAGES)
    images, labels = next(data.batches(split, len(split)))
    judge = TeacherComparison(space, torch.from_numpy(images))
    answers = judge.answers(choice)
    losses = divergences(answers, judge.teacher)
    before, after = (100.0 * (one.argmax(1).numpy() == labels) for one in (judge.teacher, answers))
    return LossCheck(
        predicted=predicted,
        spread=expected.spread,
        most=expected.most,
        measured=float(losses.mean()),
        error=standard_error(losses),
        images=len(losses),
        before=float(before.mean()),
        points=float((after - before).mean()),
        points_error=standard_error(after - before),
    )
