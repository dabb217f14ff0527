"""Which replacements are trained on: the unbeaten ones, thinned from the most exact to the cheapest."""

import pytest
import torch
from torch import nn

from paredown.models.network.blocks import Place
from paredown.stages.blocks.scores import measure_work, surviving_names
from paredown.stages.products.replacement_scores import ReplacementScore


def score(error: float, macs: float, elements: float = 1.0, parameters: float = 1.0) -> ReplacementScore:
    return ReplacementScore(error, macs, elements, parameters, 0)


def test_work_is_counted_where_the_block_stands() -> None:
    place = Place("x", (4, 8, 8), (6, 4, 4), "relu", False)
    module = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1, groups=4, bias=False), nn.Conv2d(4, 6, 1, bias=False))
    found = measure_work(module, place, 0.5, 7)
    assert found.macs == pytest.approx((4 * 16 * 9 + 6 * 16 * 4) / 1e6)
    assert found.elements == pytest.approx((4 * 16 + 6 * 16) / 1e6)
    assert found.parameters == (36 + 24) / 1e3
    assert (found.error, found.steps) == (0.5, 7)


def test_nothing_is_counted_twice_or_left_behind() -> None:
    conv = nn.Conv2d(4, 4, 1)
    place = Place("x", (4, 8, 8), (4, 8, 8), "relu", False)
    assert measure_work(conv, place, 0, 0) == measure_work(conv, place, 0, 0)
    assert not conv._forward_hooks
    assert torch.is_grad_enabled()


def test_one_is_beaten_only_in_everything() -> None:
    assert score(0.1, 1).beats(score(0.2, 2))
    assert not score(0.1, 3).beats(score(0.2, 2))
    assert not score(0.1, 1, elements=5).beats(score(0.2, 2))
    assert not score(0.1, 1).beats(score(0.1, 1))


def test_the_front_survives_from_exact_to_cheap() -> None:
    scores = {"exact": score(0.1, 9), "middle": score(0.3, 5), "cheap": score(0.8, 1), "beaten": score(0.4, 6)}
    assert surviving_names(scores, 5) == ["exact", "middle", "cheap"]
    assert surviving_names(scores, 2) == ["exact", "cheap"]
    assert surviving_names(scores, 1) == ["exact"]


def test_a_long_front_is_thinned_evenly() -> None:
    scores = {f"c{i}": score(i / 10, 10 - i) for i in range(9)}
    assert surviving_names(scores, 3) == ["c0", "c4", "c8"]
    assert len(set(surviving_names(scores, 4))) == 4
