"""Weights as training scripts of many frameworks leave them."""

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paredown.models.errors import InputError
from paredown.models.loading.checkpoint import fit_state, read_checkpoint
from paredown.models.loading.model import LoadedModel, open_model
from paredown.models.loading.spec import ModelSpec

NET = """
from torch import nn
def net(classes): return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    nn.Linear(8, classes))
"""


def _net() -> nn.Sequential:
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), *pool, nn.Linear(8, 4))


def _filled(value: float, prefix: str = "") -> dict[str, Tensor]:
    return {prefix + key: torch.full_like(tensor, value) for key, tensor in _net().state_dict().items()}


def _opened(saved: Any, folder: Path, name: str = "w.pth", **fields: Any) -> LoadedModel:
    (folder / "net.py").write_text(NET)
    torch.save(saved, folder / name)
    spec = ModelSpec(source="net.py:net", weights=name, **fields)
    return open_model(spec, 4, folder, head="keep", side=16)


def _value(loaded: LoadedModel) -> float:
    state = loaded.module.state_dict()
    assert all(torch.all(tensor == tensor.flatten()[0]) for tensor in state.values())
    (value,) = {float(tensor.flatten()[0]) for key, tensor in state.items() if not key.endswith("tracked")}
    return value


def _refused(saved: Any, folder: Path, **fields: Any) -> str:
    with pytest.raises(InputError) as caught:
        _opened(saved, folder, **fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _optimizer() -> dict[str, Any]:
    net = _net()
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


@pytest.mark.parametrize(
    "key", ["state_dict", "model", "net", "network", "ema", "model_state_dict", "params", "weights", "what_they_like"]
)
def test_the_only_weights_are_found_beside_all_that_scripts_save(key: str, tmp_path: Path) -> None:
    args = argparse.Namespace(lr=0.1, arch="x", layers=[1, 2])
    saved = {key: _filled(2), "optimizer": _optimizer(), "epoch": 3, "args": args, "best": np.float64(0.7)}
    saved |= {"scaler": {"scale": 2.0, "growth_tracker": 1}, "best_prec1": torch.tensor(71.2), "rng": [torch.ones(3)]}
    loaded = _opened(saved, tmp_path)
    assert _value(loaded) == 2
    assert loaded.notes == ()


@pytest.mark.parametrize("name", ["w.ckpt", "w.pth.tar", "w.bin", "w.tar", "w.pt", "w.th"])
def test_all_usual_endings_are_taken(name: str, tmp_path: Path) -> None:
    assert _value(_opened(_filled(3), tmp_path, name)) == 3


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "module.module.", "model.", "net.", "a.b."],
)
def test_prefixes_in_any_order_are_taken_off(prefix: str, tmp_path: Path) -> None:
    assert _value(_opened(_filled(2, prefix), tmp_path)) == 2


def test_averaged_models_and_counted_ones_load(tmp_path: Path) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(_net())
    for tensor in averaged.module.state_dict().values():
        tensor.fill_(2)
    assert _value(_opened(averaged.state_dict(), tmp_path)) == 2
    counted = _filled(3) | {
        "total_ops": torch.zeros(1),
        "0.total_ops": torch.zeros(1),
        "0.total_params": torch.zeros(1),
    }
    counted.pop("1.num_batches_tracked")
    assert _value(_opened(counted, tmp_path)) == 3


def test_lightning_s_checkpoints_load_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    saved = {
        "state_dict": OrderedDict(_filled(2, "model.")) | {"criterion.weight": torch.ones(4)},
        "hyper_parameters": {"lr": 0.1, "args": argparse.Namespace(width=3)},
        "optimizer_states": [_optimizer()],
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.9), "current": torch.tensor(0.8)}},
        "pytorch-lightning_version": "2.5.0",
        "loops": {"fit_loop": {"state_dict": {}}},
    }
    loaded = _opened(saved, tmp_path, "last.ckpt")
    assert _value(loaded) == 2
    assert loaded.notes == ("last.ckpt: left out, as not under 'model.': criterion.weight",)


@pytest.mark.parametrize(
    ("plain", "average"),
    [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("params", "params_ema"), ("model", "ema")],
)
def test_the_average_is_taken_and_told(plain: str, average: str, tmp_path: Path) -> None:
    saved = {plain: _filled(2), average: _filled(3, "module.")}
    loaded = _opened(saved, tmp_path)
    assert _value(loaded) == 3
    (note,) = loaded.notes
    assert f"the averaged weights ({average}) are taken; model.weights_key: {plain} takes the others" in note
    chosen = _opened(saved, tmp_path, weights_key=plain)
    assert _value(chosen) == 2 and chosen.notes == ()


def test_averages_without_names_are_told_and_not_taken(tmp_path: Path) -> None:
    """As the class ExponentialMovingAverage of several scripts saves them: a list, in the order of parameters."""
    averages = {"decay": 0.999, "shadow_params": list(_filled(3).values())}
    loaded = _opened({"model": _filled(2), "ema": averages, "optimizer": _optimizer()}, tmp_path)
    assert _value(loaded) == 2
    (note,) = loaded.notes
    assert "the averages in ema.shadow_params have no names and are not taken" in note
    assert _opened({"model": _filled(2), "losses": [torch.ones(1), torch.ones(1)]}, tmp_path).notes == ()


def test_of_several_none_is_guessed(tmp_path: Path) -> None:
    two = {"student": _filled(2), "teacher": _filled(3)}
    assert "several sets of weights (student, teacher): model.weights_key says which" in _refused(two, tmp_path)
    assert _value(_opened(two, tmp_path, weights_key="teacher")) == 3
    text = _refused(two, tmp_path, weights_key="other")
    assert "no weights under weights_key 'other'; there are: student, teacher" in text
    two = {"state_dict": _filled(2), "best_state_dict": _filled(3)}
    assert "several sets of weights (state_dict, best_state_dict)" in _refused(two, tmp_path)
    within = {"state_dict": _filled(2, "module.student.") | _filled(3, "module.teacher.")}
    assert "several sets of weights (student, teacher)" in _refused(within, tmp_path)
    assert _value(_opened(within, tmp_path, weights_key="state_dict.teacher")) == 3
    deep = {"ema": {"shadow": _filled(2), "start": _filled(3)}}
    assert _value(_opened(deep, tmp_path, weights_key="ema.start")) == 3


def test_other_weights_beside_the_model_s_do_not_count(tmp_path: Path) -> None:
    assert _value(_opened({"model": _filled(2), "criterion": {"centers": torch.ones(4, 8)}}, tmp_path)) == 2


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(kind: torch.dtype, tmp_path: Path) -> None:
    state = {key: value.to(kind) if value.is_floating_point() else value for key, value in _filled(2).items()}
    loaded = _opened(state, tmp_path)
    assert _value(loaded) == 2
    assert {parameter.dtype for parameter in loaded.module.parameters()} == {torch.float32}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_weights_that_are_no_floats_are_refused(tmp_path: Path) -> None:
    state = _filled(2)
    state["4.weight"] = torch.quantize_per_tensor(state["4.weight"], 0.1, 0, torch.qint8)
    assert "its weights are quantized (4.weight)" in _refused(state, tmp_path)
    state["4.weight"] = torch.ones(4, 8, dtype=torch.int8)
    assert "1 no floating point (4.weight int8)" in _refused(state, tmp_path)


def test_partial_weights_are_named_under_the_model_s_own_names(tmp_path: Path) -> None:
    state = _filled(2, "backbone.")
    del state["backbone.4.bias"]
    assert "do not fit the model: 1 missing (4.bias)" in _refused(state, tmp_path)
    state = _filled(2) | {"5.weight": torch.ones(2)}
    assert "1 unexpected (5.weight)" in _refused(state, tmp_path)


def test_a_pickled_module_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save({"model": _net()}, tmp_path / "w.pth")
    with pytest.raises(InputError) as caught:
        read_checkpoint(tmp_path / "w.pth")
    assert "which is never loaded: save model.state_dict() (it holds torch.nn.modules." in str(caught.value)


def test_values_beside_tensors_are_told(tmp_path: Path) -> None:
    loaded = _opened(_filled(2) | {"epoch": 3}, tmp_path)
    assert _value(loaded) == 2
    assert "left out, as no tensors: epoch" in loaded.notes[0]


def test_state_dicts_of_many_shapes_fit_strictly() -> None:
    net = _net()
    assert fit_state(net, _filled(2, "x."), 4, "keep", "w") == []
    assert torch.all(net.state_dict()["4.weight"] == 2)
