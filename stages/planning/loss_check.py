"""The chosen plan's loss, measured on images that no loss was fitted to: does what was expected of it hold?"""

import math

import torch

from paredown.stages.base import State
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.teacher_comparison import TeacherComparison, divergences
from paredown.stages.planning.unseen_images import held_out_images
from paredown.stages.products.loss_check import LossCheck
from paredown.stages.solvers.problem import Choice

IMAGES = 256
"""Held-out images on which it is measured; all of them where there are fewer."""
ERRORS = 2.0
"""Standard errors, of measurement and prediction together, by which a plan loses more than expected to be `harsh`."""


def check_loss(space: PlanSpace, state: State, choice: Choice, predicted: float, spread: float) -> LossCheck:
    """What a plan loses before any training; `spread` is the standard deviation of the logarithm of measured over
    predicted losses, of plans that coefficients were not fitted to."""
    data = state.open_data()
    split = held_out_images(state, data, IMAGES)
    images, labels = next(data.batches(split, len(split)))
    judge = TeacherComparison(space, torch.from_numpy(images))
    answers = judge.answers(choice)
    losses = divergences(answers, judge.teacher)
    before, after = (100 * float((one.argmax(1).numpy() == labels).mean()) for one in (judge.teacher, answers))
    measured, error = float(losses.mean()), float(losses.std(ddof=1) / math.sqrt(len(losses)))
    return LossCheck(
        predicted=predicted,
        measured=measured,
        error=error,
        images=len(losses),
        before=before,
        after=after,
        harsh=measured - ERRORS * error > predicted * math.exp(ERRORS * spread),
    )
