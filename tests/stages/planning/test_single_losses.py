"""What candidates cost alone: as differences on the same images, with errors, and never less for a harsher one."""

import numpy as np
import pytest

from paredown.stages.planning.single_losses import Floats, measure_singles, pooled, standard_error
from paredown.stages.solvers.problem import Candidate, Choice, Site

IMAGES = np.random.default_rng(0).exponential(1.0, 50)
COSTS = {("block:a", "thin"): 0.5, ("narrow:a", "16"): 0.02, ("narrow:a", "8"): 0.2, ("inner", "int8"): 0.01}
SITES = (
    Site("block:a", (Candidate("keep"), Candidate("thin"))),
    Site("narrow:a", (Candidate("32"), Candidate("16"), Candidate("8")), ordered=True),
    Site("inner", (Candidate("fp32"), Candidate("int8")), owner=("block:a", "thin")),
)


def measure(choice: Choice) -> Floats:
    return sum((COSTS.get(pick, 0.0) * IMAGES for pick in choice.items()), np.zeros(50))


def test_a_candidate_costs_its_mean_and_one_of_a_replaced_block_what_it_adds() -> None:
    found = measure_singles(SITES, measure, lambda done: None)
    for (site, name), cost in COSTS.items():
        assert found.losses[site][name] == pytest.approx(cost * IMAGES.mean())
        assert found.errors[site][name] == pytest.approx(cost * IMAGES.std(ddof=1) / 50**0.5)
    assert [found.losses[site.name][site.candidates[0].name] for site in SITES] == [0, 0, 0]


def test_what_seems_to_help_costs_nothing_less() -> None:
    def helps(choice: Choice) -> Floats:
        return measure(choice) - (0.3 if "inner" in choice else 0.0)

    found = measure_singles(SITES, helps, lambda done: None)
    assert found.losses["inner"]["int8"] == 0
    assert found.errors["inner"]["int8"] > 0


def test_a_harsher_candidate_that_measured_less_shares_its_mean_with_the_milder_one() -> None:
    means, errors = pooled([0.0, 0.3, 0.1, 0.8], [0.0, 0.1, 0.1, 0.2])
    assert means == pytest.approx([0.0, 0.2, 0.2, 0.8])
    assert errors == pytest.approx([0.0, 0.1, 0.1, 0.2])
    better_known = pooled([0.0, 0.3, 0.1], [0.0, 0.1, 0.01])[0]
    assert better_known[1] == better_known[2] == pytest.approx(0.1, abs=0.003)
    assert pooled([0.0, 0.3, 0.2, 0.1], [0.0, 0.1, 0.1, 0.1])[0] == pytest.approx([0.0, 0.2, 0.2, 0.2])


def test_what_is_in_order_stays_as_it_was_measured() -> None:
    assert pooled([0.0, 0.1, 0.2], [0.0, 0.1, 0.1]) == ([0.0, 0.1, 0.2], [0.0, 0.1, 0.1])
    assert pooled([0.0], [0.0]) == ([0.0], [0.0])


def test_the_standard_error_of_one_value_is_none() -> None:
    assert standard_error(np.array([2.0])) == 0
    assert standard_error(np.array([1.0, 3.0])) == pytest.approx(1.0)
