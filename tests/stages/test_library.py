"""The library: what it builds and keeps for every block, that it trains nothing twice, and what it refuses."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from paredown.models.compression.supernet import KEEP, Replacements
from paredown.models.errors import InputError
from paredown.models.network.trace import analyse_network
from paredown.stages.analysis.replacements import load_replacements
from paredown.stages.analysis.teacher import load_teacher
from paredown.stages.base import State
from paredown.stages.blocks import trained_cache
from paredown.stages.library import Library
from paredown.stages.plugins import load_plugin
from paredown.stages.products.replacement_scores import ReplacementScores

FEW = {"basic": {"ratios": [0.5, 1]}, "depthwise_separable": {"kernels": [3]}, "identity": {}}

OWN = '''
"""A block of a user's own."""

from typing import ClassVar

import torch
from torch import nn

from paredown.stages.blocks.base import Block


class Part(nn.Module):
    def __init__(self, wide, out):
        super().__init__()
        self.conv = nn.Conv2d(wide, out, 3, padding=1)

    def forward(self, x):
        {forward}


class Mine(Block):
    def build(self, place):
        return {{"small": Part(place.shape_in[0], place.shape_out[0] + {more})}}


PLUGIN = Mine
'''


@pytest.fixture(scope="module")
def state(started: State, tmp_path_factory: pytest.TempPathFactory) -> State:
    """With a cache of its own."""
    return replace(started, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The candidates that were really trained, by name and steps."""
    seen: list[str] = []
    store = trained_cache._store

    def noted(module: nn.Module, error: float, path: Path) -> None:
        seen.append(path.stem)
        store(module, error, path)

    monkeypatch.setattr(trained_cache, "_store", noted)
    yield seen


def run(state: State, tmp_path: Path, **options: Any) -> State:
    out = tmp_path / "library"
    out.mkdir(parents=True, exist_ok=True)
    small: dict[str, Any] = {"blocks": FEW, "images": 64, "steps": 8, "keep": 3}
    Library(**{**small, **options}).run(replace(state, out=out))
    return state.with_product("library", out)


@pytest.fixture(scope="module")
def made(state: State, tmp_path_factory: pytest.TempPathFactory) -> State:
    return run(state, tmp_path_factory.mktemp("made"))


def test_every_block_gets_replacements_with_their_errors(made: State) -> None:
    tried = ReplacementScores.load(made.product("library")).blocks
    assert list(tried) == ["block"]
    block = tried["block"]
    assert set(block.kept) <= set(block.candidates)
    assert block.kept
    assert "identity" in block.candidates
    errors = [score.error for score in block.candidates.values()]
    assert all(0 <= error < 5 for error in errors)
    assert block.keep.macs > max(score.macs for score in block.candidates.values())


def test_what_does_more_work_than_the_block_is_not_offered(state: State, tmp_path: Path) -> None:
    wide = {**FEW, "inverted_residual": {"expansions": [64], "kernels": [3]}}
    tried = ReplacementScores.load(run(state, tmp_path, blocks=wide).product("library")).blocks["block"]
    assert not any(name.startswith("inverted_residual") for name in tried.candidates)


def test_replacements_come_back_with_their_weights_and_stand_in(made: State) -> None:
    found = replacements(made)["block"]
    assert KEEP not in found
    again = replacements(made)["block"]
    for name, module in found.items():
        assert not module.training
        assert module(torch.zeros(1, 16, 12, 12)).shape == (1, 16, 12, 12)
        assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again[name].parameters(), strict=True))


def test_training_brought_the_kept_ones_nearer(made: State, state: State, tmp_path: Path) -> None:
    longer = ReplacementScores.load(run(state, tmp_path, steps=64).product("library")).blocks["block"]
    short = ReplacementScores.load(made.product("library")).blocks["block"]
    best = [min(block.candidates[name].error for name in block.kept) for block in (short, longer)]
    assert best[1] < best[0]
    assert best[1] < 0.5


def test_the_same_again_trains_nothing(made: State, state: State, tmp_path: Path, trained: list[str]) -> None:
    again = run(state, tmp_path)
    assert trained == []
    assert ReplacementScores.load(again.product("library")) == ReplacementScores.load(made.product("library"))
    assert weights(again) == weights(made)


def replacements(state: State) -> Replacements:
    return load_replacements(state, load_teacher(state, state.open_data()))


def weights(state: State) -> bytes:
    return (state.product("library") / "weights.safetensors").read_bytes()


def test_one_more_candidate_trains_that_one(made: State, state: State, tmp_path: Path, trained: list[str]) -> None:
    more = {**FEW, "depthwise_separable": {"kernels": [3, 5]}}
    tried = ReplacementScores.load(run(state, tmp_path, blocks=more, keep=9).product("library")).blocks["block"]
    assert "depthwise_separable_k5" in tried.candidates
    assert 0 < len(trained) <= 3, "at most its three rounds"


def test_other_rounds_before_are_other_weights(state: State, tmp_path: Path, trained: list[str]) -> None:
    """Eight steps after two are not the eight last of thirty-two after eight."""
    own, cold = replace(state, cache=tmp_path / "warm"), replace(state, cache=tmp_path / "cold")
    run(own, tmp_path / "a", steps=32)
    warm = run(own, tmp_path / "b", steps=8)
    assert weights(warm) == weights(run(cold, tmp_path / "c", steps=8))


def test_a_changed_block_of_ones_own_is_trained_anew(state: State, tmp_path: Path, trained: list[str]) -> None:
    root = tmp_path / "root"
    shutil.copytree(state.root, root, symlinks=True)
    own = replace(state, root=root, cache=tmp_path / "cache")
    for forward in ("return torch.relu(self.conv(x)) + x", "return torch.tanh(self.conv(x)) + x"):
        (root / "mine.py").write_text(OWN.format(forward=forward, more=0))
        run(own, tmp_path, blocks={"mine.py": {}})
    assert len(set(trained)) == len(trained) >= 4, "nothing was taken for the other"


def test_a_network_that_asks_for_the_size_of_its_batch_gets_replacements(state: State, tmp_path: Path) -> None:
    """`x.size(0)` is a node of the trace that no module made."""
    root = tmp_path / "root"
    shutil.copytree(state.root, root, symlinks=True)
    text = (root / "net.py").read_text()
    (root / "net.py").write_text(
        text.replace("return self.fc(", "x = ").replace(
            ".flatten(1))", "\n        return self.fc(x.view(x.size(0), -1))"
        )
    )
    found = replacements(run(replace(state, root=root, cache=tmp_path / "cache"), tmp_path))
    assert list(found) == ["block"]
    assert found["block"]


def test_a_damaged_file_is_trained_again(state: State, tmp_path: Path, trained: list[str]) -> None:
    own = replace(state, cache=tmp_path / "cache")
    run(own, tmp_path)
    before = len(trained)
    victim = sorted((own.cache / "replacements").glob("*.safetensors"))[0]
    victim.write_bytes(victim.read_bytes()[:40])
    run(own, tmp_path)
    assert trained[before:] == [victim.stem]


def test_another_original_shares_nothing(state: State, tmp_path: Path, net: nn.Module, trained: list[str]) -> None:
    root = tmp_path / "root"
    shutil.copytree(state.root, root, symlinks=True)
    with torch.no_grad():
        net.get_parameter("block.conv1.weight").mul_(1.5)
    torch.save(net.state_dict(), root / "net.pth")
    run(replace(state, root=root), tmp_path)
    assert len(trained) >= 3


def test_a_model_without_blocks_is_refused() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    with pytest.raises(InputError, match="no block that could be replaced"):
        Library().check(analyse_network(plain, (3, 8, 8)), Path())


def checked(tmp_path: Path, net: nn.Module, tools: Any, forward: str, more: int = 0) -> str:
    (tmp_path / "mine.py").write_text(OWN.format(forward=forward, more=more))
    return Library(blocks={"mine.py": {}}).check(analyse_network(net, tools.shape), tmp_path)


def test_a_good_block_of_ones_own_is_counted(tmp_path: Path, net: nn.Module, tools: Any) -> None:
    told = checked(tmp_path, net, tools, "return torch.relu(self.conv(x)) + x")
    assert told == "1 blocks, 1 replacements to try"


def test_a_block_may_call_its_layer_twice(tmp_path: Path, net: nn.Module, tools: Any) -> None:
    """It stays as it is then: no other transform changes that layer."""
    assert checked(tmp_path, net, tools, "return self.conv(self.conv(x))") == "1 blocks, 1 replacements to try"


@pytest.mark.parametrize(
    ("forward", "more", "said"),
    [
        (
            "return self.conv(x)",
            8,
            r"mine\.py \(small\) at block makes \(24, 12, 12\) of .*; it must make \(16, 12",
        ),
        ("return self.conv(x[:, :3])", 0, r"mine\.py \(small\) at block: RuntimeError"),
        ("return self.conv(x) * float(x.sum())", 0, r"mine_small at block: it cannot be traced by torch\.export"),
        (
            "return self.conv(x) + torch.special.bessel_j0(x)",
            0,
            r"mine_small at block: it cannot be exported to ONNX",
        ),
    ],
)
def test_a_bad_block_is_refused_by_name(
    tmp_path: Path, net: nn.Module, tools: Any, forward: str, more: int, said: str
) -> None:
    with pytest.raises(InputError, match=f"library.blocks: {said}"):
        checked(tmp_path, net, tools, forward, more)


@pytest.mark.parametrize(
    ("variant", "file"), [("r0.5", "mine.py"), ("", "keep.py"), ("x", "merged.py"), ("", "absorbed.py")]
)
def test_a_name_that_cannot_be_one_is_refused(
    tmp_path: Path, net: nn.Module, tools: Any, variant: str, file: str
) -> None:
    text = OWN.format(forward="return self.conv(x)", more=0).replace('"small"', repr(variant))
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=r"builds '.*' at block; allowed: letters"):
        Library(blocks={file: {}}).check(analyse_network(net, tools.shape), tmp_path)


def test_options_that_a_kind_does_not_have_are_refused(net: nn.Module, tools: Any) -> None:
    with pytest.raises(InputError, match=r"library.blocks: basic: ratio is not known; did you mean 'ratios'\?"):
        Library(blocks={"basic": {"ratio": 2}}).check(analyse_network(net, tools.shape), Path())


def test_substitute_without_a_library_says_what_is_missing(started: State, tmp_path: Path) -> None:
    stage = load_plugin("stages", "profile")(transforms=["substitute", "quantize"])
    with pytest.raises(InputError, match="the stage `library` makes; put it before"):
        stage.run(replace(started, out=tmp_path))


def test_the_product_is_plain_data(made: State) -> None:
    files = {file.name for file in made.product("library").iterdir()}
    assert files == {"library.json", "weights.safetensors"}
    assert json.loads((made.product("library") / "library.json").read_text())["plugins"] == FEW
