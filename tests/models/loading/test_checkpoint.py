import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from paredown.models.errors import InputError
from paredown.models.loading.checkpoint import classifier_name, fit_state, read_state


def _net(classes: int = 4) -> nn.Sequential:
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), pool, nn.Linear(8, classes))


def _filled(value: float, classes: int = 4) -> dict[str, Tensor]:
    return {key: torch.full_like(tensor, value) for key, tensor in _net(classes).state_dict().items()}


def _refused(state: dict[str, Tensor], head: Any, classes: int = 4) -> str:
    with pytest.raises(InputError) as caught:
        fit_state(_net(classes), state, classes, head, "w.pth")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("nested", ["", "state_dict", "model", "model_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_checkpoints_of_every_common_form_are_read(tmp_path: Path, nested: str, prefix: str) -> None:
    state = {prefix + key: value for key, value in _filled(2).items()}
    torch.save({nested: state, "epoch": 3} if nested else state, tmp_path / "w.th")
    found = read_state(tmp_path / "w.th")
    assert list(found) == list(_filled(2))
    assert all(torch.all(value == 2) for value in found.values())


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(_filled(3), tmp_path / "w.safetensors")
    found = read_state(tmp_path / "w.safetensors")
    assert set(found) == set(_filled(3))
    assert all(torch.all(value == 3) for value in found.values())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_pointer_of_git_lfs_is_named_as_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(InputError, match="git lfs pull"):
        read_state(path)


def test_arguments_paths_and_numbers_of_a_training_script_do_not_hinder(tmp_path: Path) -> None:
    parsed = argparse.Namespace(lr=0.1, data=tmp_path)
    torch.save({"state_dict": _filled(2), "args": parsed, "best": np.float64(91.5)}, tmp_path / "w.pth")
    assert all(torch.all(value == 2) for value in read_state(tmp_path / "w.pth").values())


def test_torchscript_is_named_as_such(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    torch.jit.save(torch.jit.trace(_net().eval(), torch.zeros(1, 3, 8, 8)), tmp_path / "w.pt")
    recwarn.clear()
    with pytest.raises(InputError, match=r"w\.pt: it is TorchScript.*model\.state_dict"):
        read_state(tmp_path / "w.pt")
    assert not recwarn.list


def test_checkpoints_that_hold_code_or_rubbish_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(_net(), path)
    with pytest.raises(InputError, match="holds more than tensors"):
        read_state(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(InputError, match="no state_dict"):
        read_state(path)
    torch.save(_filled(1), path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=r"w\.pth: c"):
        read_state(path)
    (tmp_path / "w.safetensors").write_bytes(b"123")
    with pytest.raises(InputError, match=r"w\.safetensors: cannot be read"):
        read_state(tmp_path / "w.safetensors")


def test_weights_that_do_not_fit_are_refused_by_name() -> None:
    state = _filled(1)
    state["0.weight"] = torch.zeros(9, 3, 3, 3)
    state |= {f"extra{i}": torch.zeros(1) for i in range(4)}
    del state["1.weight"]
    for head in ("keep", "replace"):
        text = _refused(state, head)
        assert "1 missing (1.weight); 4 unexpected (extra0, extra1, extra2, ...)" in text
        assert "1 wrong shape (0.weight (9, 3, 3, 3), not (8, 3, 3, 3))" in text


def test_a_head_of_another_class_count_is_replaced_only_when_asked() -> None:
    model = _net(6)
    fresh = model.state_dict()["3.weight"].clone()
    fit_state(model, _filled(2), 6, "replace", "w.pth")
    assert torch.equal(model.state_dict()["3.weight"], fresh)
    assert torch.all(model.state_dict()["0.weight"] == 2)
    assert "4 classes at '3', the data has 6: a `fit` stage adapts it" in _refused(_filled(2), "keep", 6)


def test_replacing_keeps_a_head_that_fits_and_forgives_nothing_else() -> None:
    model = _net()
    fit_state(model, _filled(2), 4, "replace", "w.pth")
    assert torch.all(model.state_dict()["3.weight"] == 2)
    state = _filled(2)
    del state["3.bias"]
    assert "1 missing (3.bias)" in _refused(state, "replace")
    state = _filled(2)
    state["3.weight"] = torch.zeros(5, 9)
    assert "3.weight (5, 9)" in _refused(state, "replace")


def test_an_old_checkpoint_without_batch_counters_fits() -> None:
    state = _filled(2)
    del state["1.num_batches_tracked"]
    model = _net()
    fit_state(model, state, 4, "keep", "w.pth")
    assert torch.all(model.state_dict()["1.running_mean"] == 2)


def test_the_classifier_is_the_last_fitting_linear_or_else_1x1_convolution() -> None:
    squeeze, head = nn.Conv2d(8, 4, 1), nn.Linear(8, 4)
    assert classifier_name(nn.Sequential(nn.Linear(3, 4), head, squeeze), 4) == "1"
    assert classifier_name(nn.Sequential(squeeze, nn.Conv2d(8, 4, 3), nn.Linear(8, 5)), 4) == "0"
    assert classifier_name(nn.Sequential(squeeze, head), 9) is None
