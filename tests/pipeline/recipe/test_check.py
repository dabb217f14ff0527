"""`paredown check`: everything that can be known before any work."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paredown.models.data.dataset import ImageData, Split
from paredown.models.errors import InputError, MissingError
from paredown.pipeline.recipe.check import check_recipe, class_lines, untold_drop
from paredown.pipeline.recipe.recipe import load_recipe
from paredown.stages.limits import Limits
from paredown.stages.plugins import lookup

Write = Callable[..., Path]

NET = """
import torch

def make(classes=3):
    layers = [torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(8, classes))
"""


@pytest.fixture
def recipe(write_stage: Write, write_recipe: Write, tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    images = np.random.default_rng(0).integers(0, 255, (90, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(90) % 3)
    write_stage("first", extra='solver: str = "milp"')
    file = write_recipe("- first.py")
    file.write_text(file.read_text().replace("source: images", "source: images.npz"))
    return file


def lines(recipe: Path) -> dict[str, str]:
    found = (line.partition(": ") for line in check_recipe(load_recipe(recipe), recipe.parent / "cache"))
    return {name: text for name, _, text in found}


def test_what_holds_is_told(recipe: Path) -> None:
    checked = lines(recipe)
    assert checked["stages"] == "first.py"
    assert checked["plugins"] == "runtime.py, milp"
    assert checked["images"].endswith("3 classes")
    assert checked["input"].startswith("largest centre square, scaled to 32 x 32 px")
    assert checked["model"] == "2 layers traced"
    assert checked["limits"] == "size 0.5x"


def test_a_limit_that_the_test_images_cannot_tell_is_a_warning(recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace("{size: 0.5x}", "{size: 0.5x, accuracy_drop: 1}"))
    told = list(check_recipe(load_recipe(recipe), recipe.parent / "cache"))
    (line,) = [one for one in told if "accuracy_drop:" in one]
    assert line.startswith("warning: limits.accuracy_drop: of the test split, 21 images cannot tell 1 point; about 5,")
    assert "with 99 % confidence" in line and "different images in 5 % of them" in line


@pytest.mark.parametrize(("images", "told"), [(3900, True), (4000, False)])
def test_with_less_confidence_fewer_images_do(images: int, told: bool) -> None:
    assert bool(untold_drop(Limits(accuracy_drop=1, confidence=0.95), images)) is told
    assert untold_drop(Limits(), images) == ""


def test_a_solver_that_does_not_exist(recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace("- first.py", "- first.py: {solver: mlip}"))
    with pytest.raises(InputError, match="solvers: 'mlip' is not known; did you mean 'milp'"):
        lines(recipe)


def test_a_plugin_that_is_not_installed(recipe: Path) -> None:
    text = 'class R:\n    REQUIRES: dict[str, str] = {"no_such_module": "wings"}\n\nPLUGIN = R\n'
    (recipe.parent / "runtime.py").write_text(text)
    with pytest.raises(MissingError, match=r'pip install "paredown\[wings\]"'):
        lines(recipe)


def test_a_runtime_to_compare_with_that_is_not_installed(recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace("runtime: runtime.py", "runtime: runtime.py, compare: [other.py]"))
    (recipe.parent / "other.py").write_text((recipe.parent / "runtime.py").read_text())
    assert lines(recipe)["plugins"] == "runtime.py, other.py, milp"
    text = 'class R:\n    REQUIRES: dict[str, str] = {"no_such_module": "wings"}\n\nPLUGIN = R\n'
    (recipe.parent / "other.py").write_text(text)
    with pytest.raises(MissingError, match=r'pip install "paredown\[wings\]"'):
        lines(recipe)


@pytest.mark.parametrize(("gone", "expected"), [("net.py", "net.py"), ("images.npz", "images.npz")])
def test_files_that_are_not_there(recipe: Path, gone: str, expected: str) -> None:
    loaded = load_recipe(recipe)
    (recipe.parent / gone).unlink()
    with pytest.raises(InputError, match=expected):
        list(check_recipe(loaded, recipe.parent / "cache"))


def test_weights_that_are_not_there(recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace("source: net.py:make", "source: net.py:make, weights: w.pth"))
    with pytest.raises(InputError, match=r"w\.pth"):
        lines(recipe)


def test_a_model_with_other_classes(recipe: Path) -> None:
    net = recipe.parent / "net.py"
    net.write_text(NET.replace("def make(classes=3)", "def make()").replace("8, classes", "8, 5"))
    with pytest.raises(InputError, match="fit"):
        lines(recipe)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("import torch", "import torch\nlen(3)", r"TypeError: object of type 'int' has no len\(\) \(.*net\.py:3\)"),
        ("    layers =", "    torch.nn.Linear('8')\n    layers =", r"^model 'net\.py:make' raised .*net\.py:5\)$"),
        ("Conv2d(3, 8, 3)", "Conv2d(4, 8, 3)", r"^[^\n]*expected input\[[^\n]*$"),
        ("torch.nn.ReLU()", "torch.nn.LSTM(30, 30)", r"^[^\n]+$"),
    ],
)
def test_whatever_a_model_does_wrong_is_one_line(recipe: Path, old: str, new: str, line: str) -> None:
    net = recipe.parent / "net.py"
    net.write_text(NET.replace(old, new, 1))
    with pytest.raises(InputError, match=line):
        lines(recipe)


def test_a_stage_whose_check_fails_is_named(recipe: Path) -> None:
    with (recipe.parent / "first.py").open("a") as stage:
        stage.write("\nFirst = PLUGIN\nFirst.check = lambda self, network, root: network.nothing\n")
    with pytest.raises(InputError, match=r"^first\.py cannot be used: AttributeError: .*first\.py:\d+\)$"):
        lines(recipe)


def test_what_a_stage_says_of_the_model_is_told(recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace("- first.py", "- library: {blocks: [basic]}"))
    with pytest.raises(InputError, match="library: the model has no block that could be replaced"):
        lines(recipe)


def test_a_block_that_does_not_exist(recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace("- first.py", "- library: {blocks: [bsic]}"))
    with pytest.raises(InputError, match="blocks: 'bsic' is not known; did you mean 'basic'"):
        lines(recipe)


def profiled(recipe: Path, options: str) -> Path:
    recipe.write_text(recipe.read_text().replace("- first.py", f"- baseline\n  - profile: {{transforms: {options}}}"))
    return recipe


@pytest.mark.parametrize("engine", ["neural-compressor", "{neural-compressor: {images: 64}}"])
def test_an_engine_that_is_not_installed(recipe: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    found = lookup.is_installed
    monkeypatch.setattr(lookup, "is_installed", lambda module: module != "neural_compressor" and found(module))
    line = "neural-compressor needs the module neural_compressor, which is not installed: pip install "
    with pytest.raises(MissingError, match=rf'^{line}"paredown\[neural-compressor\]"$'):
        lines(profiled(recipe, f"{{quantize: {{engine: {engine}}}}}"))


def test_without_optional_packages_the_rest_works(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "is_installed", lambda module: False)
    assert lines(profiled(recipe, "{quantize: {engine: own}}"))["profile"] == "quantize"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("{engine: neural-compresor}", "engines: 'neural-compresor' is not known; did you mean 'neural_compressor'"),
        ("{engine: {own: {}, other: {}}}", "quantize.engine names 2 engines"),
        ("{layers: {'1': fp32}}", "quantize.layers: '1' fits none of the 2 layers; near: 0, 4"),
        ("{layers: {'0': int4}}", "quantize: layers.0: "),
    ],
)
def test_what_quantize_cannot_use(recipe: Path, options: str, line: str) -> None:
    with pytest.raises(InputError, match=line):
        lines(profiled(recipe, f"{{quantize: {options}}}"))


def test_pinned_layers_are_counted(recipe: Path) -> None:
    assert lines(profiled(recipe, "{quantize: {layers: {'.*': fp32}}}"))["profile"] == "quantize; 2 sites pinned"


PICTURES = """
import torch

class Colours(torch.nn.Module):
    \"\"\"Right on every image: its class is the brightest channel.\"\"\"

    def __init__(self, order):
        super().__init__()
        self.order = order
        self.pick = torch.nn.Linear(3, 3, bias=False)
        self.pick.weight.data = torch.eye(3)[order]

    def forward(self, x):
        return self.pick(x.mean((2, 3)))

class Detached(Colours):
    def __init__(self):
        super().__init__([0, 1, 2])
        self.first = torch.nn.Conv2d(3, 3, 1, bias=False)
        self.first.weight.data = torch.eye(3)[..., None, None]

    def forward(self, x):
        return super().forward(self.first(x).detach())

def right(): return Colours([0, 1, 2])
def turned(): return Colours([1, 2, 0])
def blind():
    model = Colours([0, 1, 2])
    model.pick.weight.data.zero_()
    return model
"""


def coloured(tmp_path: Path, model: str, pipeline: str = "baseline") -> list[str]:
    """What check says of a model in PICTURES, on folders 1, 2 and 10 of red, green and blue images."""
    (tmp_path / "pictures.py").write_text(PICTURES)
    for channel, kind in enumerate(("1", "10", "2")):
        folder = tmp_path / "colours" / kind
        folder.mkdir(parents=True)
        for i in range(60):
            pixels = np.random.default_rng(100 * channel + i).integers(0, 60, (16, 16, 3), dtype=np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(folder / f"{i}.png")
    recipe = tmp_path / "colours.yaml"
    recipe.write_text(
        f"model: {{source: pictures.py:{model}}}\ndata: {{source: colours, image_size: 16}}\n"
        f"limits: {{size: 0.9x}}\npipeline: [{pipeline}]\n"
    )
    return list(check_recipe(load_recipe(recipe), tmp_path / "cache"))


def test_classes_are_told_in_order_with_their_counts(tmp_path: Path) -> None:
    said = coloured(tmp_path, "right")
    at = said.index("classes: 3 in this order (train + calibration + validation + test)")
    assert said[at + 1 : at + 4] == ["  0 1: 33 + 3 + 9 + 15", "  1 10: 33 + 3 + 9 + 15", "  2 2: 33 + 3 + 9 + 15"]
    assert said[at + 4] == "splits: all cut from the images"
    (warned,) = [line for line in said if line.startswith("warning: ")]
    assert "in the order of text (1, 10, 2), as" in warned


def test_a_long_list_of_classes_is_shortened() -> None:
    labels = np.repeat(np.arange(0, 100, 2), 2)
    split = Split(np.zeros((100, 1, 1, 3), np.uint8), labels)
    names = tuple(f"c{i}" for i in range(100))
    zero = (0.0, 0.0, 0.0)
    data = ImageData(split, split, split, split, names, zero, (1.0, 1.0, 1.0), "", "")
    said = list(class_lines(data))
    assert said[0] == "classes: 100 in this order, of which 50 have images (train + calibration + validation + test)"
    assert said[1:3] == ["  0 c0: 2 + 2 + 2 + 2", "  2 c2: 2 + 2 + 2 + 2"]
    assert len(said) == 14 and said[-1] == "  ... and 38 more, to 98 c98"


@pytest.mark.parametrize(
    ("model", "texts"),
    [
        ("turned", ["near chance: 0.00 % of 27 validation images", "'1' are answered '2', '10' are answered '1'"]),
        ("blind", ["constant: 100.00 % of 27 validation images are answered '1'"]),
        ("right", []),
    ],
)
def test_a_model_that_answers_oddly_is_warned_of(tmp_path: Path, model: str, texts: list[str]) -> None:
    said = [line for line in coloured(tmp_path, model) if line.startswith("warning: the model: ")]
    assert len(said) == len(texts)
    assert all(text in line for text, line in zip(texts, said, strict=True)), said


def test_a_model_that_fit_trains_first_may_answer_anything(tmp_path: Path) -> None:
    said = coloured(tmp_path, "turned", "fit, baseline")
    assert not [line for line in said if line.startswith("warning: the model: ")]


@pytest.mark.parametrize(("pipeline", "warned"), [("fit, baseline", True), ("baseline", False)])
def test_layers_that_training_would_leave_are_warned_of(tmp_path: Path, pipeline: str, warned: bool) -> None:
    said = [line for line in coloured(tmp_path, "Detached", pipeline) if line.startswith("warning: the model: ")]
    assert len(said) == warned
    assert all("no gradient reaches 1 of 2 layers (first)" in line for line in said)


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("torch.nn.Softmax(1)", "made by a softmax inside; training and comparing use what goes into it"),
        ("torch.nn.Sigmoid()", "made by a sigmoid inside; training and comparing use what goes into it"),
    ],
)
def test_what_makes_answers_of_logits_is_told(recipe: Path, end: str, expected: str) -> None:
    assert "answers" not in lines(recipe)
    (recipe.parent / "net.py").write_text(NET.replace("Linear(8, classes))", f"Linear(8, classes), {end})"))
    assert lines(recipe)["answers"] == expected
