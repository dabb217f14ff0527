"""What is calibrated once, and read again by later stages."""

import shutil
from dataclasses import replace
from pathlib import Path

from paredown.models.network.trace import analyse_network
from paredown.stages.analysis.prepare import forget_prepared_model, load_prepared_model
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.base import State
from paredown.stages.products.calibration import Calibration


def test_ranges_are_written_in_an_order_that_is_the_same_in_every_process(planned: State) -> None:
    """The lock has a digest of the file, and Python orders sets of words anew in every process."""
    ranges = list(Calibration.load(planned.product("profile")).ranges)
    assert ranges == sorted(ranges)


def test_later_stages_read_what_was_calibrated(planned: State) -> None:
    saved, prepared = Calibration.load(planned.product("profile")), load_prepared_model(planned)
    assert prepared.ranges == saved.ranges and prepared.channel_ranking == saved.order
    assert prepared.groups == saved.groups and not prepared.branches
    assert {name for group in prepared.groups for name in group.inputs} == set(prepared.moments)


def test_a_traced_network_alone_has_layers_and_nothing_calibrated(prepared: PreparedModel) -> None:
    bare = PreparedModel.traced_only(analyse_network(prepared.network.module, prepared.network.shape))
    assert [layer.name for layer in bare.network.layers] == [layer.name for layer in prepared.network.layers]
    assert not bare.ranges and not bare.groups and not bare.model.graph.node


def test_the_prepared_model_of_the_last_stage_is_not_traced_again(planned: State) -> None:
    first = load_prepared_model(planned)
    assert load_prepared_model(replace(planned, out=planned.out / "next")) is first
    forget_prepared_model()
    assert load_prepared_model(planned) is not first


def test_a_profile_or_model_that_changed_is_read_again(planned: State, tmp_path: Path) -> None:
    """Also one that was written anew into the same folder."""
    folder = shutil.copytree(planned.product("profile"), tmp_path / "profile")
    state = planned.with_product("profile", folder)
    first = load_prepared_model(state)
    saved = Calibration.load(folder)
    value = next(iter(saved.ranges))
    replace(saved, ranges={**saved.ranges, value: (-7.0, 7.0)}).save(folder)
    second = load_prepared_model(state)
    assert first.ranges[value] != second.ranges[value] == (-7.0, 7.0)
    assert load_prepared_model(replace(state, seed=state.seed + 1)) is not second
    assert load_prepared_model(planned).ranges == first.ranges
