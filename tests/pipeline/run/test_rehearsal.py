"""A rehearsal: what cannot come through all stages is refused before any work, in a line with the stage's name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paredown.models.errors import InputError
from paredown.models.progress import silent_progress
from paredown.pipeline.public.runs import run_stages
from paredown.pipeline.recipe.recipe import load_recipe
from paredown.pipeline.run import rehearsal
from paredown.pipeline.run.rehearsal import Rehearsal, check_and_rehearse, rehearse, rehearse_once
from paredown.stages import base

Write = Callable[..., Path]

SHRINKING = """
from paredown.stages.transforms.narrow import Narrow


class Shrinking(Narrow):
    def lower(self, prepared, choice, model):
        if any(site.startswith("narrow:") and name == "8" for site, name in choice.items()):
            raise IndexError("the layer block.conv1 has no channel 8")
        return super().lower(prepared, choice, model)


PLUGIN = Shrinking
"""


@pytest.fixture
def recipe(tools: Any, tmp_path: Path) -> Path:
    """A recipe of every stage but `library`, whose options ask for more than a rehearsal does."""
    (tmp_path / "net.py").write_text(tools.net_source)
    (tmp_path / "exact.py").write_text(tools.runtime_source)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (120, 24, 24, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(120) % 3)
    file = tmp_path / "demo.yaml"
    file.write_text(tools.recipe_text("size: 0.001x, latency_p50: 0.001x", fit="epochs: 90", verify="rounds: 900"))
    return file


def rewritten(recipe: Path, old: str, new: str, file: str = "net.py") -> Path:
    text = (recipe.parent / file).read_text()
    assert old in text
    (recipe.parent / file).write_text(text.replace(old, new))
    return recipe


def refusal(recipe: Path) -> str:
    with pytest.raises(InputError) as caught:
        rehearse(load_recipe(recipe), recipe.parent / "cache")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_stages_come_through_whatever_the_limits_are(recipe: Path) -> None:
    done = rehearse(load_recipe(recipe), recipe.parent / "cache")
    stages = ("fit", "baseline", "profile", "sensitivity", "search", "compress", "recover", "export", "verify")
    assert done.rehearsed == stages
    covered = ["narrow: 3 channel groups, 5 of 6 layers", "quantize: 6 of 6 layers"]
    assert list(done.lines()) == [*covered, f"rehearsed: {', '.join(stages)}"]
    assert not list((recipe.parent / "cache").glob("rehearsal-*"))


def test_a_network_that_trains_to_nothing_but_nan(recipe: Path) -> None:
    body = "x = self.block(self.stem(x))"
    rewritten(recipe, body, f"{body}\n        x = x * float('nan') if self.training else x")
    assert refusal(recipe) == "fit would fail: the loss of a training step is nan (phase fit)"


def test_a_network_whose_step_has_no_gradient(recipe: Path) -> None:
    rewritten(recipe, "return self.fc(", "return (self.fc if not self.training else self.fc.requires_grad_(False))(")
    rewritten(recipe, "x = self.block(self.stem(x))", "x = self.block(self.stem(x)).detach()")
    rewritten(recipe, "x = self.pointwise(", "x = self.pointwise.requires_grad_(not self.training)(")
    rewritten(recipe, "torch.relu(self.bn(self.depthwise(x)))", "x[:, :16].detach()")
    assert refusal(recipe).startswith("fit would fail: the model cannot be trained: its answers have no gradient")


def test_code_of_the_users_that_fails_in_training_is_named_with_its_line(recipe: Path) -> None:
    body = "x = self.block(self.stem(x))"
    rewritten(recipe, body, f"{body}\n        if self.training:\n            raise ValueError('not now')")
    line = (recipe.parent / "net.py").read_text().splitlines().index("            raise ValueError('not now')") + 1
    assert refusal(recipe) == f"fit would fail: ValueError: not now ({recipe.parent / 'net.py'}:{line})"


def test_a_transform_whose_lowering_fails(recipe: Path) -> None:
    (recipe.parent / "shrinking.py").write_text(SHRINKING)
    rewritten(recipe, "plans: 1, images: 16", "plans: 1, images: 16, transforms: [shrinking.py, quantize]", recipe.name)
    place = f"{recipe.parent / 'shrinking.py'}:8"
    assert refusal(recipe) == f"profile would fail: IndexError: the layer block.conv1 has no channel 8 ({place})"


def test_a_runtime_that_computes_something_else(recipe: Path) -> None:
    method = "    def version(self):"
    other = "    def run(self, *args, **more):\n        return -super().run(*args, **more)\n\n"
    rewritten(recipe, method, other + method, "exact.py")
    assert refusal(recipe).startswith("baseline would fail: exported, its logits are up to ")


def test_a_softmax_over_the_images_of_a_batch(recipe: Path) -> None:
    rewritten(
        recipe,
        "return self.fc(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))",
        "return self.fc(x.mean((2, 3))).softmax(0)",
    )
    text = "baseline would fail: what the model answers to an image depends on the other images of its batch"
    assert refusal(recipe) == f"{text}, as a softmax over axis 0 does; allowed is an answer to each image alone"


def test_a_stage_of_the_users_has_no_rehearsal(recipe: Path, write_stage: Write) -> None:
    write_stage("own", needs=("artifact",))
    recipe.write_text(recipe.read_text() + "  - own.py\n")
    done = rehearse(load_recipe(recipe), recipe.parent / "cache")
    assert done.left_out == ("own.py",)
    assert "not rehearsed: own.py" in done.lines()


def test_what_needs_the_product_of_such_a_stage_is_left_out(recipe: Path, write_stage: Write) -> None:
    write_stage("baseline")
    rewritten(recipe, "- baseline: {rounds: 1, runs: 3}", "- baseline.py", recipe.name)
    assert rehearse(load_recipe(recipe), recipe.parent / "cache").rehearsed == ("fit",)


def test_a_run_rehearses_once_per_recipe(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = list[str]()
    stage = "paredown.pipeline.run.rehearsal._goes_through"
    monkeypatch.setattr(stage, lambda step, state: bool(count.append(step.name)))
    rehearse_once(load_recipe(recipe), recipe.parent / "cache")
    rewritten(
        recipe, "latency_p50: 0.001x", "latency_p50: 0.5x", recipe.name
    )  # limits change nothing that is rehearsed
    rehearse_once(load_recipe(recipe), recipe.parent / "cache")
    assert len(count) == 9
    rewritten(recipe, "epochs: 90", "epochs: 80", recipe.name)
    rehearse_once(load_recipe(recipe), recipe.parent / "cache")
    assert len(count) == 18


def test_a_run_may_do_without(write_stage: Write, write_recipe: Write, tmp_path: Path) -> None:
    """For the case that a refusal is wrong."""
    write_stage("first", extra="def rehearse(self, state): raise ValueError('not today')")
    images = np.zeros((20, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(20) % 2)
    (tmp_path / "net.py").write_text("")
    file = rewritten(write_recipe("- first.py"), "source: images", "source: images.npz", "demo.yaml")
    with pytest.raises(InputError, match=r"^first\.py would fail: ValueError: not today"):
        run_stages(load_recipe(file), tmp_path / "runs", silent_progress)
    assert not (tmp_path / "ran.txt").exists()
    run_stages(load_recipe(file), tmp_path / "runs", silent_progress, rehearsal=False)
    assert (tmp_path / "ran.txt").exists()


def test_large_images_are_taken_in_smaller_number() -> None:
    few = {side: rehearsal.images_taken(side) for side in (64, 448, 2000)}
    assert few == {64: 8, 448: 2, 2000: 2}


def test_the_data_is_identified_once(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    open_data = rehearsal.open_data

    def counted(*given: Any) -> Any:
        opened.append(1)
        return open_data(*given)

    monkeypatch.setattr(rehearsal, "open_data", counted)
    monkeypatch.setattr(base, "open_data", counted)
    rehearse(load_recipe(recipe), recipe.parent / "cache")
    assert len(opened) == 1


def test_what_the_check_has_warned_of_is_not_told_again(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Rehearsal(("baseline",), notes=("two images are equal", "narrow: 1 channel group"))
    monkeypatch.setattr(rehearsal, "check_recipe", lambda *_: iter(["warning: two images are equal", "limits: size"]))
    monkeypatch.setattr(rehearsal, "rehearse", lambda *_: found)
    lines = ["warning: two images are equal", "limits: size", "narrow: 1 channel group", "rehearsed: baseline"]
    assert list(check_and_rehearse(load_recipe(recipe), recipe.parent)) == lines
