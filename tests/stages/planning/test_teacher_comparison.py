"""How far a changed network is from its teacher, also where it has no answer."""

import pytest
import torch
from torch.nn.functional import kl_div

from paredown.models.errors import InputError
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.teacher_comparison import RUINED, TeacherComparison, divergences

TEACHER = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).log_softmax(1)
CHANGED = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).log_softmax(1)


def test_a_sound_network_is_compared_by_its_divergence() -> None:
    each = divergences(CHANGED, TEACHER)
    assert each.shape == (5,)
    assert each.mean() == pytest.approx(float(kl_div(CHANGED, TEACHER, reduction="batchmean", log_target=True)))
    told, got = TEACHER[3].double(), CHANGED[3].double()
    assert each[3] == pytest.approx(float((told.exp() * (told - got)).sum()))


def test_an_image_without_an_answer_is_worse_than_any_wrong_one() -> None:
    broken = CHANGED.clone()
    broken[2] = float("nan")
    whole, found = divergences(CHANGED, TEACHER), divergences(broken, TEACHER)
    assert found.tolist() == [*whole[:2], RUINED, *whole[3:]]
    assert divergences(torch.full((5, 3), float("nan")), TEACHER).tolist() == [RUINED] * 5


def test_an_original_without_an_answer_is_refused(prepared: PreparedModel) -> None:
    images = torch.zeros(4, 3, 24, 24)
    images[1] = float("inf")
    with pytest.raises(InputError, match="1 of 4 calibration images: logits are not finite"):
        TeacherComparison(PlanSpace(prepared, ()), images)
