"""A shortlist of plans is halved on ever more images until one is left."""

import pytest

from paredown.stages.planning.shortlist import successive_halving


def test_the_best_is_left_after_ever_more_images() -> None:
    asked: list[tuple[int, int]] = []

    def score(name: int, images: int) -> float:
        asked.append((name, images))
        return {0: 0.5, 1: 0.2, 2: 0.9, 3: 0.3}[name] + (0.2 if name == 1 and images > 32 else 0)

    scores = successive_halving([0, 1, 2, 3], score, 32)
    assert list(scores) == [2, 0, 1, 3], "on more images the third is better than the first one"
    assert asked == [(0, 32), (1, 32), (2, 32), (3, 32), (1, 64), (3, 64), (3, 128)]
    assert scores[1] == pytest.approx(0.4)


def test_one_alone_wins_and_none_is_nothing() -> None:
    assert successive_halving([7], lambda name, images: 0.1, 8) == {7: 0.1}
    assert successive_halving([], lambda name, images: 0.1, 8) == {}
