"""What is learnt of one kind of work from times of it at several places."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paredown.stages.planning.work_law import LEAST, Work, WorkLaw

SIZES = (8, 16, 32, 64, 128)


def work(place: str, size: int, path: int = 0) -> Work:
    return Work(place, (size / 100, 1.0), (float(size),), (path,))


@given(st.floats(0.05, 10), st.floats(0.01, 1))
def test_a_law_is_found_again_and_says_what_another_place_takes(per_amount: float, each: float) -> None:
    def truth(one: Work) -> float:
        return per_amount * one.amounts[0] + each

    law = WorkLaw([(one, truth(one)) for place in "ab" for one in (work(place, size) for size in SIZES)])
    assert law.estimate(work("a", 48)).ms == pytest.approx(truth(work("a", 48)), rel=0.02)
    assert law.estimate(work("unseen", 256)).ms == pytest.approx(truth(work("unseen", 256)), rel=0.02)


def test_a_place_keeps_what_it_differs_by_and_is_less_sure_far_away() -> None:
    seen = [(work("slow", size), 3 * size / 100) for size in (16, 32)]
    seen += [(work("usual", size), size / 100) for size in SIZES for _ in range(6)]
    law = WorkLaw(seen)
    assert law.estimate(work("slow", 24)).ms == pytest.approx(3 * 0.24, rel=0.05)
    near, far = law.estimate(work("slow", 24)), law.estimate(work("slow", 1024))
    assert near.deviation / near.ms < far.deviation / far.ms
    unseen = law.estimate(work("unseen", 24))
    assert unseen.deviation / unseen.ms > 3 * near.deviation / near.ms


def test_a_width_of_another_path_may_differ_from_its_neighbours() -> None:
    """As 24 channels, which no register holds, between 16 and 32."""
    seen = [(work("a", size), size / 100) for size in (16, 32, 48, 64) for _ in range(2)]
    seen += [(work("a", size, path=1), 1.6 * size / 100) for size in (24, 40) for _ in range(2)]
    law = WorkLaw(seen)
    assert law.estimate(work("a", 56, path=1)).ms > 1.2 * 0.56
    assert law.estimate(work("a", 48)).ms < 1.1 * 0.48


@pytest.mark.parametrize("ms", [0.0, 1e-9])
def test_no_work_is_free(ms: float) -> None:
    law = WorkLaw([(work("a", size), ms) for size in SIZES])
    assert all(law.estimate(work("a", size)).ms > 0 for size in SIZES)
    mixed = WorkLaw([*((work("a", size), size / 100) for size in SIZES), (work("b", 64), ms)])
    assert mixed.estimate(work("b", 64)).ms >= LEAST * mixed.lawful(work("b", 64))


def test_what_is_left_out_is_what_the_others_say() -> None:
    rng = np.random.default_rng(0)
    seen = [(work("a", size), size / 100 * float(rng.uniform(0.9, 1.1))) for size in SIZES]
    law = WorkLaw(seen)
    outlier = WorkLaw([*seen, (work("a", 32), 0.9)])
    assert outlier.left_out()[-1] == pytest.approx(law.estimate(work("a", 32)).ms, rel=0.15)
    assert outlier.left_out()[-1] < 0.45
