"""From the plan to the artifact: surgery, batch norm, training, export."""

import copy
import itertools
import json
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from paredown.models.data.dataset import ImageData, Split
from paredown.models.errors import InputError, LimitError
from paredown.models.onnx.edit import constant_arrays
from paredown.stages import export
from paredown.stages.analysis.teacher import load_teacher, load_weights, save_weights
from paredown.stages.base import State
from paredown.stages.limits import Target
from paredown.stages.measuring import torch_parity
from paredown.stages.measuring.accuracy import Answers
from paredown.stages.measuring.model_files import write_model
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.planning.plan_space import load_plan_space
from paredown.stages.products.parity import Parity
from paredown.stages.products.plan import Plan
from paredown.stages.products.ranges import CalibratedRanges
from paredown.stages.profile import ProfileStage
from paredown.stages.recover import Recover
from paredown.stages.training.schedule import Schedule
from paredown.stages.training.statistics import reestimate_batch_norm
from paredown.stages.training.student import LoweredStudent, load_compressed, settle_batch_norm
from paredown.stages.transforms.quantize import int8_layers

SHORT = Schedule(epochs=1, lr=1e-3)


def of(state: State) -> ImageData:
    return state.open_data()


def test_the_teacher_is_the_recipes_model(started: State, net: nn.Module, tools: Any) -> None:
    images = torch.randn(3, *tools.shape)
    assert torch.equal(load_teacher(started, of(started))(images), net(images))


def test_the_teacher_is_the_fitted_one_where_there_is_one(
    started: State, net: nn.Module, tools: Any, tmp_path: Path
) -> None:
    with torch.no_grad():
        net.get_parameter("fc.bias").fill_(3)
    save_weights(net, tmp_path / "weights.safetensors")
    images = torch.randn(3, *tools.shape)
    assert torch.equal(load_teacher(started.with_product("original", tmp_path), of(started))(images), net(images))


def test_the_compressed_module_has_the_plans_widths(finished: State) -> None:
    space, choice = load_plan_space(finished), Plan.load(finished.product("plan")).choice
    module = load_compressed(finished, of(finished))
    for layer in space.prepared.network.layers:
        if layer.op != "add":
            form = space.form_of(layer, choice)
            assert module.get_parameter(f"{layer.name}.weight").shape[0] == form.channels_out


def test_batch_norm_sees_the_new_activations(net: nn.Module, data: ImageData) -> None:
    with torch.no_grad():
        net.get_parameter("stem.0.weight").mul_(3)
    momentum = [m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    reestimate_batch_norm(net, data, 2, seed=0)
    plain = replace(data, augment="none")
    images = [x for x, _, _ in itertools.islice(plain.training_batches(32, 0, 0), 2)]
    with torch.no_grad():
        made = [net.get_submodule("stem.0")(x) for x in images]
    norm = net.get_submodule("stem.1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean((0, 2, 3)) for x in made]).mean(0))
    variances = [x.transpose(0, 1).flatten(1).var(1) for x in made]
    torch.testing.assert_close(norm.running_var, torch.stack(variances).mean(0))
    assert [m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)] == momentum
    assert not any(m.training for m in net.modules())


def test_statistics_stay_where_nothing_changed(net: nn.Module, data: ImageData) -> None:
    """The original's own fit better than new ones, whatever images they are of."""
    same = copy.deepcopy(net.eval())
    settle_batch_norm(same, net, data, 2, seed=0)
    held = net.state_dict()
    assert all(torch.equal(value, held[name]) for name, value in same.state_dict().items())
    reestimate_batch_norm(same, data, 2, seed=0)
    assert not all(torch.equal(value, held[name]) for name, value in same.state_dict().items())


def test_statistics_are_new_only_where_answers_come_nearer(net: nn.Module, data: ImageData) -> None:
    """Weights that became three times as large need new statistics; a new bias of the answers does not."""
    for name, nearer in (("stem.0.weight", True), ("fc.bias", False)):
        reestimate_batch_norm(net, data)  # so that the teacher's fit these images
        changed = copy.deepcopy(net)
        with torch.no_grad():
            changed.get_parameter(name).mul_(3)
        before = copy.deepcopy(changed.state_dict())
        settle_batch_norm(changed, net, data, 2, seed=0)
        state = changed.state_dict()
        assert torch.equal(state["stem.1.running_var"], before["stem.1.running_var"]) != nearer, name


def test_recovered_weights_are_folded_and_changed(finished: State) -> None:
    stored = load_file(finished.product("recovered") / "weights.safetensors")
    assert not any("running_mean" in name for name in stored)
    folded = LoweredStudent.fold(load_compressed(finished, of(finished)), finished)
    assert stored.keys() == folded.state_dict().keys()
    assert any(not torch.equal(stored[name], value) for name, value in folded.state_dict().items())


def test_only_products_are_left_of_training(finished: State) -> None:
    left = {file.name for file in finished.product("recovered").iterdir()}
    assert left == {"weights.safetensors", "ranges.json", "curves.json"}
    curve = json.loads((finished.product("recovered") / "curves.json").read_text())
    assert [(entry["phase"], entry["epoch"]) for entry in curve] == [("distil", 1), ("quantize", 1)]


def test_the_artifact_has_the_plans_precisions(finished: State) -> None:
    model = onnx.load(finished.product("artifact") / "model.onnx")
    int8 = {name for name in int8_layers(Plan.load(finished.product("plan")).choice) if name != "add"}
    assert {name.removesuffix(".weight.q") for name in constant_arrays(model) if name.endswith(".weight.q")} == int8
    assert int8
    onnx.checker.check_model(model)


def test_ranges_are_those_of_the_values_that_are_rounded(finished: State) -> None:
    module = LoweredStudent.fold(load_compressed(finished, of(finished)), finished)
    load_weights(module, finished.product("recovered") / "weights.safetensors")
    lowered = LoweredStudent.of(module, finished)
    assert set(CalibratedRanges.load(finished.product("recovered")).ranges) == lowered.values() != set()


def test_the_artifact_agrees_with_torch(finished: State) -> None:
    parity = json.loads((finished.product("exported") / "parity.json").read_text())
    assert parity["agreement"] >= 0.8
    assert parity["mean_difference"] < 0.2 * parity["logit_spread"]
    assert parity["images"] == len(of(finished).validation)


def test_training_again_gives_the_same_weights(finished: State, tmp_path: Path) -> None:
    Recover(distil=SHORT, quantize=SHORT).run(replace(finished, out=tmp_path))
    first, second = (load_file(f / "weights.safetensors") for f in (finished.product("recovered"), tmp_path))
    assert all(torch.equal(first[name], second[name]) for name in first)
    ranges = [CalibratedRanges.load(folder).ranges for folder in (finished.product("recovered"), tmp_path)]
    assert ranges[0] == ranges[1]


def test_exporting_again_gives_the_same_file(finished: State, tmp_path: Path) -> None:
    export.Export(agreement=0.8).run(replace(finished, out=tmp_path))
    assert (tmp_path / "model.onnx").read_bytes() == (finished.product("exported") / "model.onnx").read_bytes()


def answers_nothing(_path: Path, _data: ImageData, split: Split, _state: State) -> Answers:
    return Answers(np.zeros((len(split), 3), np.float32), np.asarray(split.labels))


def test_too_little_parity_is_a_missed_limit_that_keeps_the_file(
    finished: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_parity, "answers_of", answers_nothing)
    with pytest.raises(
        LimitError, match=r"^parity: artifact and torch agree on 0\.\d+ of \d+ images; the limit"
    ) as caught:
        export.Export(agreement=1.0, difference=1e9).run(replace(finished, out=tmp_path))
    assert caught.value.keep
    assert (tmp_path / "model.onnx").exists()
    assert Parity.load(tmp_path).limit == 1.0
    with pytest.raises(LimitError, match=r"^parity: the logits of artifact and torch differ by 100\.0 % of") as caught:
        export.Export().run(replace(finished, out=tmp_path))
    assert caught.value.keep


def test_few_equal_answers_are_told_where_no_limit_asks_for_more(
    finished: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_parity, "answers_of", answers_nothing)
    export.Export(difference=1e9).run(replace(finished, out=tmp_path))
    (note,) = (tmp_path / "notes.txt").read_text().splitlines()
    assert re.search(r"answers only \d+\.\d % of \d+ validation images as the torch network", note)
    assert "differ by 100.0 % of their spread" in note


def test_a_rehearsal_has_no_limit_on_parity_even_where_nothing_is_rounded(
    finished: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_parity, "answers_of", answers_nothing)
    monkeypatch.setattr(torch_parity, "nudged", lambda _network: nullcontext())
    assert export.Export().rehearse(replace(finished, out=tmp_path))
    found = Parity.load(tmp_path)
    assert found.rounding == 0 and torch_parity.too_far(found)


def test_a_scale_that_is_not_the_trained_networks_is_no_rounding(finished: State, tmp_path: Path) -> None:
    module = LoweredStudent.fold(load_compressed(finished, of(finished)), finished)
    load_weights(module, finished.product("recovered") / "weights.safetensors")
    lowered = LoweredStudent.of(module, finished)
    ranges = dict(CalibratedRanges.load(finished.product("recovered")).ranges)
    imitation, split = lowered.imitation(ranges), of(finished).validation
    for factor in (1.0, 0.7):
        changed = {name: (low * factor, high * factor) for name, (low, high) in ranges.items()}
        path = write_model(lowered.artifact(changed), runtime_of(finished), tmp_path, finished.target.container)
        parity = torch_parity.measure_parity(imitation, path, of(finished), split, finished, 0.95, 2.0)
        assert bool(torch_parity.too_far(parity)) == (factor != 1), parity


def test_a_plan_without_int8_is_left_in_float(finished: State, tmp_path: Path) -> None:
    plan = json.loads((finished.product("plan") / "plan.json").read_text())
    plan["choice"] = {s: "fp32" if s.startswith("quantize:") else c for s, c in plan["choice"].items()}
    plan["layers"] = [{**layer, "bits": 32} for layer in plan["layers"]]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    state = finished.with_product("plan", tmp_path)
    for name, stage in (("recovered", Recover(distil=SHORT, quantize=SHORT)), ("exported", export.Export())):
        (tmp_path / name).mkdir()
        stage.run(replace(state, out=tmp_path / name))
        state = state.with_product(name, tmp_path / name)
    curve = json.loads((tmp_path / "recovered" / "curves.json").read_text())
    assert {entry["phase"] for entry in curve} == {"distil"}
    stored = constant_arrays(onnx.load(tmp_path / "exported" / "model.onnx"))
    assert {value.dtype for value in stored.values()} <= {np.dtype(np.float32), np.dtype(np.int64)}
    assert json.loads((tmp_path / "exported" / "parity.json").read_text())["agreement"] == 1.0


def test_a_layer_that_the_network_never_calls_is_no_hindrance(
    planned: State, net: nn.Module, data: ImageData, tools: Any, tmp_path: Path
) -> None:
    net.register_module("spare", nn.Linear(4, 4))
    prepared = tools.subject_of(net)
    chosen = tuple(layer.name for layer in prepared.network.layers)
    lowered = LoweredStudent(prepared.network, prepared.model, chosen, 7)
    before = {name: value.clone() for name, value in prepared.network.module.state_dict().items()}
    state = replace(planned, out=tmp_path)
    Recover(quantize=SHORT)._quantize(copy.deepcopy(net), lowered, dict(prepared.ranges), data, state)
    after = prepared.network.module.state_dict()
    assert torch.equal(after["spare.weight"], before["spare.weight"])
    assert not torch.equal(after["fc.weight"], before["fc.weight"])


@pytest.mark.parametrize(
    ("options", "supported", "said"),
    [
        ({"narrow": {"levels": (1.0,)}}, True, "narrow finds nothing in this model to change"),
        ({"quantize": {}}, False, "does not support int8, so 'quantize' would gain nothing"),
        ({"quantise": {}}, True, "did you mean 'quantize'"),
        ({"narrow": {"level": 0.5}}, True, "profile.transforms"),
    ],
    ids=["nothing to change", "not supported", "unknown", "unknown option"],
)
def test_a_profile_that_cannot_be_made_is_refused(
    started: State, tmp_path: Path, options: dict[str, Any], supported: bool, said: str
) -> None:
    (tmp_path / "exact.py").write_text(
        (started.root / "exact.py")
        .read_text()
        .replace(
            "    def version",
            f"    def supports(self, feature):\n        return {supported} or feature == 'cold'\n\n    def version",
        )
    )
    state = replace(started, target=Target(runtime=str(tmp_path / "exact.py")), out=tmp_path)
    with pytest.raises(InputError, match=said):
        ProfileStage(transforms=options, images=8, plans=0).run(state)
