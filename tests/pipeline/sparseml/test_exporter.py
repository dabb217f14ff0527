"""Plans written as SparseML recipes, read back here as text, and by SparseML itself where it is installed."""

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from paredown.models.errors import InputError
from paredown.pipeline.cli import cli
from paredown.pipeline.recipe.recipe import PipelineStep, Recipe, load_recipe
from paredown.pipeline.sparseml.exporter import export_recipe
from paredown.pipeline.sparseml.importer import recipe_contents
from paredown.pipeline.sparseml.modifiers import SparsemlModifier, read_modifiers
from paredown.stages.products.plan import Plan, PlannedBlock, PlannedLayer, SiteCandidates
from paredown.stages.recover import Recover
from paredown.stages.runtimes.sidecars.registry import SIDECARS
from paredown.stages.training.schedule import Schedule

Layers = Sequence[PlannedLayer]
Export = Callable[..., tuple[str, tuple[str, ...]]]

SPARSEML = SIDECARS["sparseml"]
LACK = SPARSEML.missing()


def needs_sparseml(test: Any) -> Any:
    return pytest.mark.runtime(pytest.mark.skipif(LACK is not None, reason=str(LACK))(test))


def layer(
    name: str,
    sparsity: float = 0.0,
    pattern: str = "unstructured",
    op: str = "conv",
    bits: int = 32,
    kept_out: int = 16,
) -> PlannedLayer:
    whole = {"channels_in": 16, "channels_out": 16, "kept_in": 16}
    return PlannedLayer(
        name=name, op=op, depthwise=False, sparsity=sparsity, pattern=pattern, bits=bits, kept_out=kept_out, **whole
    )


PLAN: Layers = (
    layer("stem.0"),
    layer("block.0", 0.75, "block4", bits=8),
    layer("block.3", 0.9, bits=8),
    layer("add", op="add", bits=8),
    layer("depthwise", 0.9),
    layer("hidden", 0.5, "2:4", op="linear", bits=8),
    layer("head", 0.75, "block4", op="linear", bits=8),
)
"""Of the network in `sparseml_proof.py`."""
RECOVER = Recover(
    distil=Schedule(epochs=4, lr=0.02, weight_decay=0.01),
    quantize=Schedule(epochs=2, lr=1e-5),
    logits=0.6,
    labels=0.2,
    gradual=3,
)


@pytest.fixture
def export(tmp_path: Path, write_recipe: Callable[..., Path]) -> Export:
    """Exports a plan of `layers` for a recipe that ends in `recover`."""

    def run(
        layers: Layers, style: str = "epoch", recover: Recover = RECOVER, **plan: Any
    ) -> tuple[str, tuple[str, ...]]:
        file = write_recipe("- baseline\n- profile\n- sensitivity\n- search\n- compress\n- recover")
        (tmp_path / "runs" / "demo" / "plan").mkdir(parents=True, exist_ok=True)
        Plan(**{"layers": tuple(layers), "choice": {}, **plan}).save(tmp_path / "runs" / "demo" / "plan")
        return export_recipe(_ending(load_recipe(file), recover), file, tmp_path / "runs", style)

    return run


def _ending(recipe: Recipe, recover: Recover) -> Recipe:
    return recipe.model_copy(update={"pipeline": (*recipe.pipeline[:-1], PipelineStep(name="recover", stage=recover))})


def back(text: str, folder: Path) -> tuple[SparsemlModifier, ...]:
    (folder / "back.yaml").write_text(text)
    return read_modifiers(folder / "back.yaml")


def options(modifiers: Sequence[SparsemlModifier], name: str) -> list[dict[str, Any]]:
    return [dict(m.options) for m in modifiers if m.name == name]


def test_every_level_has_a_modifier_with_its_layers(export: Export, tmp_path: Path) -> None:
    text, notes = export(PLAN)
    modifiers = back(text, tmp_path)
    levels = {(m["final_sparsity"], m["mask_type"]): m for m in options(modifiers, "GMPruningModifier")}
    assert {key: m["params"] for key, m in levels.items()} == {
        (0.5, "2:4"): ["hidden.weight"],
        (0.75, "block4"): ["block.0.weight", "head.weight"],
        (0.9, "unstructured"): ["block.3.weight", "depthwise.weight"],
    }
    assert {(m["start_epoch"], m["end_epoch"]) for m in levels.values()} == {(0.0, 3.0)}
    assert [levels[key]["init_sparsity"] for key in sorted(levels)] == [0.5, 0.0, 0.0]
    assert any("recover.features: 0.5" in note for note in notes)


def test_training_is_told_in_two_phases(export: Export, tmp_path: Path) -> None:
    modifiers = back(export(PLAN)[0], tmp_path)
    assert options(modifiers, "EpochRangeModifier") == [{"start_epoch": 0.0, "end_epoch": 6.0}]
    rates = options(modifiers, "LearningRateFunctionModifier")
    assert [(m["start_epoch"], m["end_epoch"], m["init_lr"]) for m in rates] == [(0.0, 4.0, 0.02), (4.0, 6.0, 1e-5)]
    assert [m["weight_decay"] for m in options(modifiers, "SetWeightDecayModifier")] == [0.01, 0.02]
    assert options(modifiers, "DistillationModifier") == [{"start_epoch": 0.0, "hardness": 0.75, "temperature": 2.0}]
    (int8,) = options(modifiers, "QuantizationModifier")
    assert (int8["start_epoch"], int8["ignore"]) == (4.0, ["stem.0", "depthwise"])


@pytest.mark.parametrize("style", ["epoch", "stage"])
def test_what_is_exported_can_be_imported_again(export: Export, tmp_path: Path, style: str) -> None:
    layers = [layer("a", 0.8, bits=8), layer("b.0", 0.6, bits=8), layer("c", bits=32), layer("d", bits=8, op="linear")]
    contents, _ = recipe_contents(back(export(layers, style)[0], tmp_path))
    profile = yaml.safe_load("\n".join(contents.stages["profile"]))["transforms"]
    assert profile["sparsify"] == {
        "levels": [0.6, 0.8],
        "patterns": ["unstructured"],
        "method": "magnitude",
        "layers": {"b.0": 0.6, "a": 0.8, ".*": "dense"},
    }
    assert profile["quantize"]["layers"] == {"c.*": "fp32", ".*": "int8"}
    recover = yaml.safe_load("\n".join(contents.stages["recover"]))
    assert (recover["gradual"], recover["distil"]["epochs"], recover["quantize"]["epochs"]) == (3, 4, 2)
    if style == "epoch":
        assert (recover["distil"]["lr"], recover["quantize"]["lr"]) == (0.02, 1e-5)
        assert (recover["logits"], recover["labels"]) == (0.75, 0.25)


def test_one_shot_in_stage_style_is_sparse_gpt(export: Export, tmp_path: Path) -> None:
    recover = Recover(distil=Schedule(epochs=0), quantize=Schedule(epochs=0))
    text, _ = export([layer("a", 0.8), layer("b", 0.5, "2:4", op="linear")], "stage", recover)
    assert yaml.safe_load(text)["paredown_stage"] == {
        "run_type": "oneshot",
        "pruning_2of4_0.5_modifiers": {
            "SparseGPTModifier": {"sparsity": 0.5, "mask_structure": "2:4", "targets": ["b"]}
        },
        "pruning_unstructured_0.8_modifiers": {
            "SparseGPTModifier": {"sparsity": 0.8, "mask_structure": "0:0", "targets": ["a"]}
        },
    }


def test_without_sparsity_only_quantization_is_told(export: Export, tmp_path: Path) -> None:
    modifiers = back(export([layer("a", bits=8, pattern="")])[0], tmp_path)
    assert not options(modifiers, "GMPruningModifier")
    assert options(modifiers, "QuantizationModifier")[0]["ignore"] == []


def test_without_int8_there_is_no_second_phase(export: Export, tmp_path: Path) -> None:
    modifiers = back(export([layer("a", 0.8)])[0], tmp_path)
    assert options(modifiers, "EpochRangeModifier")[0]["end_epoch"] == 4.0
    assert not options(modifiers, "QuantizationModifier")


@pytest.mark.parametrize(
    ("layers", "style", "plan", "said"),
    [
        ([layer("a", 0.5, kept_out=8)], "epoch", {}, "fewer channels in the layers a, which no SparseML recipe"),
        ([layer("a", 0.5)], "epoch", {"blocks": (PlannedBlock("b", "thin", ()),)}, "replaces the blocks b, which"),
        ([layer("a", 0.5, "2:4")], "epoch", {}, "prunes 2:4 in linear layers only, the plan does in a"),
        ([layer("a", 0.5, "block4")], "stage", {}, "no block4 in stage style, the plan has in a: use --style epoch"),
        ([layer("a", 0.5, "2:4", op="linear")], "stage", {}, "no gradual 2:4 in stage style"),
        ([layer("conv1", 0.5), layer("conv10", bits=8)], "epoch", {}, "ignoring conv1 would leave conv10 in float"),
        ([layer("a")], "epoch", {}, "neither prunes nor quantizes"),
    ],
)
def test_what_sparseml_cannot_say_is_refused(export: Export, layers: Layers, style: str, plan: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        export(layers, style, **plan)
    assert "\n" not in str(caught.value)


def test_a_smaller_input_is_noted(export: Export) -> None:
    resized = {"sites": (SiteCandidates("resize:input", ("64", "48")),), "choice": {"resize:input": "48"}}
    assert "images of 48 px" in export([layer("a", bits=8)], **resized)[1][0]
    whole = resized | {"choice": {"resize:input": "64"}}
    assert not any("px" in note for note in export([layer("a", bits=8)], **whole)[1])


def test_the_verb_writes_a_file_and_says_what_to_run_first(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export(PLAN)
    monkeypatch.chdir(tmp_path)
    cli.main(["export-recipe", "demo.yaml", "-o", "there/sparse.yaml"], standalone_mode=False)
    got = capsys.readouterr()
    assert got.out == ""
    assert "no counterpart: recover.features" in got.err
    assert len(read_modifiers(Path("there/sparse.yaml"))) == 10
    cli.main(["export-recipe", "demo.yaml"], standalone_mode=False)
    assert capsys.readouterr().out == Path("there/sparse.yaml").read_text()
    with pytest.raises(InputError, match=r"demo\.yaml exists already"):
        cli.main(["export-recipe", "demo.yaml", "-o", "demo.yaml"], standalone_mode=False)
    with pytest.raises(InputError, match=r"away/demo holds no plan; make one with: paredown plan demo\.yaml"):
        cli.main(["export-recipe", "demo.yaml", "--out", "away"], standalone_mode=False)


def in_sparseml(style: str, text: str, folder: Path) -> dict[str, float]:
    """What `sparseml_proof.py` prints for an exported recipe."""
    (folder / "exported.yaml").write_text(text)
    command = [str(SPARSEML.python), str(Path(__file__).with_name("sparseml_proof.py")), style, "exported.yaml"]
    environment = os.environ | {"NM_DISABLE_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@needs_sparseml
@pytest.mark.parametrize("gradual", [0, 3])
def test_sparseml_prunes_every_layer_to_its_level(export: Export, tmp_path: Path, gradual: int) -> None:
    text, _ = export(PLAN, recover=RECOVER.model_copy(update={"gradual": gradual}))
    wanted = {entry.name: entry.sparsity for entry in PLAN if entry.op != "add"}
    assert in_sparseml("epoch", text, tmp_path) == pytest.approx(wanted, abs=0.002)


@needs_sparseml
@pytest.mark.parametrize(("gradual", "suffix"), [(0, ""), (3, ".weight")])
def test_sparseml_reads_the_levels_in_stage_style(export: Export, tmp_path: Path, gradual: int, suffix: str) -> None:
    layers = [layer("a", 0.8, bits=8), layer("b.0", 0.6), layer("c", 0.6, op="linear")]
    text, _ = export(layers, "stage", RECOVER.model_copy(update={"gradual": gradual}))
    found = in_sparseml("stage", text, tmp_path)
    levels = {name: level for name, level in found.items() if level is not None}
    assert levels == {f"{entry.name}{suffix}": entry.sparsity for entry in layers}
