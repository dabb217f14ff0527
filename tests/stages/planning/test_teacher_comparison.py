"""How far a changed network is from its teacher, also where it has no answer."""

import pytest
import torch
from torch.nn.functional import kl_div

from paredown.models.errors import InputError
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.teacher_comparison import RUINED, TeacherComparison, divergence

TEACHER = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).log_softmax(1)
CHANGED = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).log_softmax(1)


def test_a_sound_network_is_compared_by_its_divergence() -> None:
    assert divergence(CHANGED, TEACHER) == float(kl_div(CHANGED, TEACHER, reduction="batchmean", log_target=True))


def test_an_image_without_an_answer_is_worse_than_any_wrong_one() -> None:
    broken = CHANGED.clone()
    broken[2] = float("nan")
    rest = [0, 1, 3, 4]
    assert divergence(broken, TEACHER) == pytest.approx((4 * divergence(CHANGED[rest], TEACHER[rest]) + RUINED) / 5)
    assert divergence(torch.full((5, 3), float("nan")), TEACHER) == RUINED


def test_an_original_without_an_answer_is_refused(prepared: PreparedModel) -> None:
    images = torch.zeros(4, 3, 24, 24)
    images[1] = float("inf")
    with pytest.raises(InputError, match="1 of 4 calibration images: logits are not finite"):
        TeacherComparison(PlanSpace(prepared, ()), images)
