"""SparseML recipes of both styles as paredown recipes: values, notes, refusals with their lines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paredown.models.errors import InputError
from paredown.pipeline.cli import cli
from paredown.pipeline.recipe.recipe import load_recipe
from paredown.pipeline.sparseml.importer import import_recipe, recipe_contents
from paredown.pipeline.sparseml.known_modifiers import EPOCH_STYLE, STAGE_STYLE
from paredown.pipeline.sparseml.modifiers import read_modifiers
from paredown.stages.transforms.sparsify import Sparsify

Import = Callable[..., tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]]

EPOCHS = """\
---
version: 1.1.0

num_epochs: 30
quantization_epochs: 5
init_sparsity: 0.05
start_of_int8: eval(num_epochs - quantization_epochs)
pruned: ["re:layer1.*weight", layer2.0.conv1.weight]

training_modifiers:
  - !EpochRangeModifier
      start_epoch: 0.0
      end_epoch: eval(num_epochs)
  - !LearningRateFunctionModifier
      start_epoch: 0.0
      end_epoch: eval(start_of_int8)
      lr_func: linear
      init_lr: 1.5e-3
      final_lr: 0.0
  - !SetLearningRateModifier
      start_epoch: eval(start_of_int8)
      learning_rate: 1e-4
  - !SetWeightDecayModifier
      start_epoch: 0.0
      weight_decay: 0.0001
  - !SetWeightDecayModifier
      start_epoch: eval(start_of_int8)
      weight_decay: 0.0

pruning_modifiers:
  - !GMPruningModifier
      init_sparsity: eval(init_sparsity)
      final_sparsity: 0.85
      start_epoch: 1.0
      end_epoch: eval(max(10, min(num_epochs, 20)))
      update_frequency: 0.5
      params: eval(pruned)
      mask_type: block4
  - !MagnitudePruningModifier
      init_sparsity: eval(init_sparsity)
      final_sparsity: {0.7: [layer3.0.conv1.weight], 0.8: [layer3.0.conv2.weight, layer3.0.conv2.bias]}
      start_epoch: 1.0
      end_epoch: 20.0
      update_frequency: 0.5
      params: []
      mask_type: [1, 4]
  - !ConstantPruningModifier
      start_epoch: 20.0
      params: __ALL_PRUNABLE__

quantization_modifiers:
  - !QuantizationModifier
      start_epoch: eval(start_of_int8)
      ignore: [fc, ReLU]
      scheme_overrides: {layer4.1: {input_activations: null, weights: null}, layer4.1.conv2: default}
  - !DistillationModifier
      hardness: 0.7
      temperature: 4.0
---
# The card of a model, in Markdown
"""

STAGES = """\
levels_end: 3
one_stage:
  run_type: oneshot
  obcq_modifiers:
    SparseGPTModifier:
      sparsity: 0.5
      block_size: 128
      mask_structure: "2:4"
      targets: [fc, "re:layer1.*"]
train_stage:
  epochs: eval(levels_end + 4)
  pruning_modifiers:
    ConstantPruningModifier:
      targets: ["re:layer1.*"]
      start: 0
      end: eval(epochs)
  distillation_modifiers:
    OutputDistillationModifier:
      targets: [fc]
      comparison: kl_divergence
      comparison_args: {temperature: 3}
      orig_scale: 0.4
      distill_scale: 0.6
  quantization_modifiers:
    LegacyQuantizationModifier:
      start: 5
      ignore: [layer2]
      scheme: {input_activations: {num_bits: 8, symmetric: false}, weights: {num_bits: 8, symmetric: true}}
"""


@pytest.fixture
def run(tmp_path: Path) -> Import:
    """Imports a text; gives the options of `profile` and `recover`, and the notes without the file's folder."""

    def imports(text: str, held: float | None = None, name: str = "theirs.yaml") -> Any:
        (tmp_path / name).write_text(text)
        contents, notes = recipe_contents(read_modifiers(tmp_path / name), held)
        profile, recover = (yaml.safe_load("\n".join(contents.stages[stage])) for stage in ("profile", "recover"))
        return profile["transforms"], recover, tuple(note.removeprefix(f"{tmp_path}/") for note in notes)

    return imports


def gm(**options: Any) -> str:
    """A recipe with one GMPruningModifier; its options start on line 3."""
    given = {"final_sparsity": 0.8, "params": ["re:.*weight"], "start_epoch": 0.0, "end_epoch": 4.0} | options
    return "modifiers:\n  - !GMPruningModifier\n" + "".join(f"    {key}: {value}\n" for key, value in given.items())


def quantized(**options: Any) -> str:
    """A recipe with one QuantizationModifier; its options start on line 3."""
    lines = "".join(f"    {key}: {value}\n" for key, value in ({"start_epoch": 0.0} | options).items())
    return "modifiers:\n  - !QuantizationModifier\n" + lines


def test_epoch_style_from_a_markdown_card(run: Import) -> None:
    transforms, recover, notes = run(EPOCHS, name="card.md")
    assert transforms["sparsify"] == {
        "levels": [0.7, 0.8, 0.85],
        "patterns": ["block4"],
        "method": "magnitude",
        "layers": {
            "layer2.0.conv1": 0.85,
            "layer3.0.conv1": 0.7,
            "layer3.0.conv2": 0.8,
            "layer1.*": 0.85,
            ".*": "dense",
        },
    }
    precisions = {r"fc.*": "fp32", r"layer4\.1\.conv2.*": "int8", r"layer4\.1.*": "fp32", ".*": "int8"}
    assert list(transforms["quantize"]["layers"].items()) == list(precisions.items())
    assert recover == {
        "gradual": 19,
        "distil": {"epochs": 25, "lr": 0.0015, "weight_decay": 0.0001},
        "quantize": {"epochs": 5, "lr": 0.0001, "weight_decay": 0.0},
        "logits": 0.7,
        "labels": 0.3,
        "features": 0.0,
        "temperature": 4.0,
    }
    assert "card.md:17: LearningRateFunctionModifier.lr_func: the rate falls as a cosine" in notes[0]
    assert "card.md:36: GMPruningModifier.update_frequency: recover sets its own steps" in notes
    assert "card.md:41: MagnitudePruningModifier: layer3.0.conv2.bias stays dense, only weights are pruned" in notes
    assert "card.md:47: ConstantPruningModifier: masks hold to the end anyway" in notes
    assert "card.md:54: QuantizationModifier: ReLU is no layer with weights" in notes


def test_stage_style(run: Import) -> None:
    transforms, recover, notes = run(STAGES)
    assert transforms["sparsify"] == {
        "levels": [0.5],
        "patterns": ["2:4"],
        "method": "obs",
        "layers": {r"fc(\..*)?": "2:4", "layer1.*": "2:4", ".*": "dense"},
    }
    Sparsify(**transforms["sparsify"])
    assert transforms["quantize"]["layers"] == {"layer2.*": "fp32", ".*": "int8"}
    assert recover == {
        "gradual": 0,
        "distil": {"epochs": 5},
        "quantize": {"epochs": 2},
        "logits": 0.6,
        "labels": 0.4,
        "features": 0.0,
        "temperature": 3.0,
    }
    assert "theirs.yaml:7: SparseGPTModifier.block_size: obs takes its own" in notes


def test_every_listed_modifier_is_known() -> None:
    assert {name.removesuffix("Modifier") for name in (*EPOCH_STYLE, *STAGE_STYLE)} >= {
        *("GMPruning", "MagnitudePruning", "ConstantPruning", "Quantization", "Distillation", "EpochRange"),
        *("SetLearningRate", "LearningRateFunction", "SetWeightDecay", "SparseGPT", "OutputDistillation"),
    }


def test_one_shot_without_training(run: Import) -> None:
    transforms, recover, _ = run("s:\n  p_modifiers:\n    SparseGPTModifier: {sparsity: 0.6, targets: __ALL__}\n")
    assert transforms == {
        "sparsify": {"levels": [0.6], "patterns": ["unstructured"], "method": "obs", "layers": {".*": 0.6}}
    }
    assert recover == {"gradual": 0, "distil": {"epochs": 0}, "quantize": {"epochs": 0}}


def test_without_a_teacher_the_labels_are_all(run: Import) -> None:
    _, recover, _ = run(gm())
    assert (recover["logits"], recover["labels"], recover["features"]) == (0.0, 1.0, 0.0)


def test_a_constant_modifier_needs_to_be_told_its_level(run: Import) -> None:
    text = "modifiers:\n  - !ConstantPruningModifier\n    params: [a.weight, 're:b.*']\n    end_epoch: 3\n"
    transforms, recover, _ = run(text, 0.85)
    assert transforms["sparsify"]["layers"] == {"a": 0.85, "b.*": 0.85, ".*": "dense"}
    assert (recover["gradual"], recover["distil"]["epochs"]) == (0, 3)
    with pytest.raises(InputError, match=r"theirs\.yaml:2: ConstantPruningModifier keeps .* such as --sparsity 0\.85"):
        run(text)
    with pytest.raises(InputError, match=r"theirs\.yaml:2: GMPruningModifier names the level itself"):
        run(gm(), 0.85)


@pytest.mark.parametrize(
    ("written", "pinned"),
    [
        ("__ALL_PRUNABLE__", ".*"),
        ("a.0.weight", "a.0"),
        ("re:.*weight", ".*"),
        (r"re:.*\.weight$", ".*"),
        ("re:layer1.*conv1.weight", "layer1.*conv1"),
        ("re:layer1.+weight", "layer1.*"),
        ("re:layer[12]", "layer[12].*"),
        ("re:(conv|fc)[.]weight", "(conv|fc)"),
    ],
)
def test_params_become_layers(run: Import, written: str, pinned: str) -> None:
    assert next(iter(run(gm(params=f"['{written}']"))[0]["sparsify"]["layers"])) == pinned


def test_rates_of_a_phase_are_their_peaks(run: Import) -> None:
    """Half way through its epochs a cosine from 0.01 to 0.002 has come to 0.006."""
    rate = "{start_epoch: 0, end_epoch: 10, lr_func: cosine, init_lr: 0.01, final_lr: 0.002}"
    text = f"{gm()}  - !LearningRateFunctionModifier {rate}\n  - !QuantizationModifier {{start_epoch: 5}}\n"
    _, recover, _ = run(text)
    assert recover["distil"] == {"epochs": 5, "lr": 0.01}
    assert recover["quantize"] == {"epochs": 5, "lr": pytest.approx(0.006)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "modifiers:\n  - !GMPruningModifer\n    a: 1\n",
            r":2: the modifier GMPruningModifer .* mean 'GMPruningModifier'\?",
        ),
        (
            "modifiers:\n  - !MFACPruningModifier\n    a: 1\n",
            ":2: the modifier MFACPruningModifier cannot be imported; ",
        ),
        ("s:\n  x_modifiers:\n    WandaPruningModifier:\n      a: 1\n", ":3: the modifier WandaPruningModifier cannot"),
        (gm(parms="[a.weight]"), r":7: GMPruningModifier\.parms is not known; did you mean 'params'\?"),
        (
            gm(final_sparsity=1.5),
            r":3: GMPruningModifier\.final_sparsity should be a number from 0 to 0\.999, got 1\.5",
        ),
        (gm(final_sparsity=".nan"), r":3: .* should be a number"),
        (
            gm(mask_type="channel"),
            r":7: GMPruningModifier\.mask_type is 'channel', which .* allowed: unstructured, block4",
        ),
        (gm(mask_type="'2:4'"), r":3: GMPruningModifier\.final_sparsity is 0\.8, but two of four are 0\.5"),
        (gm(global_sparsity="true"), r":7: .*global_sparsity asks for one level over all layers"),
        (gm(params="['re:(a+)+.weight']"), ":4: .* can take for ever to match"),
        (gm(params="['re:(a.weight']"), ":4: .* is no regular expression"),
        (gm(params="['re:a.weight|b.weight']"), ":4: .* as entries of their own"),
        (gm(params="['re:fc$']"), ":4: .*names no layers"),
        (gm(params="7"), r":4: GMPruningModifier\.params should be a list of names, got 7"),
        (gm(end_epoch="eval(epochs)"), r":6: eval\(epochs\) uses epochs, which is no number; known: none"),
        (gm(end_epoch="eval(__import__('os'))"), r":6: eval\(.*\) holds .*; allowed: numbers"),
        (gm(end_epoch="eval(9**9**9)"), ":6: .* raises to the power"),
        (gm(end_epoch="x eval(1)"), ":6: .* inside of text"),
        ("a: eval(b)\nb: eval(a)\n" + gm(), r":1: a: eval\(b\) uses b"),
        (
            gm() + gm(final_sparsity=0.7).partition("\n")[2],
            r":9: \.\* is to have 0\.7, but \.\* on line 4 is to have 0\.8",
        ),
        (quantized(scheme="{weights: {num_bits: 4}}"), r":4: QuantizationModifier\.scheme wants 4 bits for weights"),
        (quantized(weight_bits=4), r":4: QuantizationModifier\.weight_bits wants 4 bits; allowed: 8"),
        (quantized(scheme="{input_activations: null}"), r":4: .*leaves the input_activations in float"),
        (quantized(ignore="[Conv2d]"), r":4: .*leaves every Conv2d in float; allowed: names of modules"),
        (
            quantized() + quantized().partition("\n")[2],
            r":4: QuantizationModifier follows another on line 2; allowed: one",
        ),
        ("modifiers:\n  - !EpochRangeModifier\n    end_epoch: 3\n", ":1: the recipe neither prunes nor quantizes"),
        ("a: &x 1\nb: *x\n", r":2: aliases \(\*x\) are not allowed"),
        ("modifiers: [[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]\n", ":1: nested more than 20 levels deep"),
        ("modifiers:\n  - !!python/object:os.system {}\n", ":2: the tag tag:yaml.org,2002:python"),
        ("num_epochs: 3\n", ":1: no modifiers found"),
    ],
)
def test_refusals_say_where_and_what_is_allowed(run: Import, text: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        run(text)
    assert "\n" not in str(caught.value)
    assert "theirs.yaml:" in str(caught.value)


def test_contradictions_between_a_name_and_an_expression(run: Import) -> None:
    levels = "{0.7: [layer1.0.conv.weight], 0.8: ['re:layer1.*weight']}"
    with pytest.raises(InputError, match=r":3: layer1\.\* is to have 0\.8, but layer1\.0\.conv .* 0\.7: they share"):
        run(gm(final_sparsity=levels, params="[]"))


def test_a_card_without_front_matter_is_refused(run: Import) -> None:
    with pytest.raises(InputError, match=r"card\.md:1: no YAML front matter"):
        run("# words\n---\na: 1\n---\n", name="card.md")


def test_the_verb_lists_what_has_no_counterpart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("theirs.yaml").write_text(gm(update_frequency=0.5))
    cli.main(["import-recipe", "theirs.yaml", "net.py:make", "images", "-o", "ours.yaml"], standalone_mode=False)
    got = capsys.readouterr()
    assert got.out == ""
    assert got.err.splitlines() == [
        "no counterpart: theirs.yaml:7: GMPruningModifier.update_frequency: recover sets its own steps",
        "wrote ours.yaml; next: paredown check ours.yaml",
    ]
    page = Path("ours.yaml").read_text()
    assert "#   line 7: GMPruningModifier.update_frequency: recover sets its own steps\n" in page
    assert '".*": 0.8  # line 4: GMPruningModifier.params\n' in page
    assert yaml.safe_load(page)["limits"] == {"size": "1.0x", "accuracy_drop": 1.0}


@pytest.mark.parametrize("text", [EPOCHS, STAGES, gm(), quantized()])
def test_what_is_written_can_be_loaded(tmp_path: Path, text: str) -> None:
    source = tmp_path / ("card.md" if text == EPOCHS else "theirs.yaml")
    source.write_text(text)
    import_recipe(source, "timm/resnet18", "images", tmp_path / "ours.yaml")
    assert [step.name for step in load_recipe(tmp_path / "ours.yaml").pipeline][:2] == ["fit", "baseline"]


WORDS = st.sampled_from(
    [
        *("modifiers:\n", "  - !GMPruningModifier\n", "  - !QuantizationModifier\n", "s:\n", "  p_modifiers:\n"),
        *("    SparseGPTModifier:\n", "      sparsity: 0.5\n", "    final_sparsity: 0.5\n", "    params: [a.weight]\n"),
        *(
            "    params: ['re:.*']\n",
            "    start_epoch: 0\n",
            "    end_epoch: ",
            "eval(",
            "x",
            ")",
            "1",
            "**",
            "9",
            "\n",
        ),
        *("{", "}", "[", "]", ": ", "- ", "'", '"', "null", "!", "&a", "*a", "---\n", "re:", "__ALL__", "-1", ".inf"),
    ]
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WORDS | st.text(max_size=4), max_size=14).map("".join), st.sampled_from([None, 0.5]))
def test_odd_texts_are_refused_in_one_line(tmp_path: Path, text: str, held: float | None) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(text, encoding="utf-8")
    try:
        recipe_contents(read_modifiers(file), held)
    except InputError as error:
        assert str(error).startswith(str(file))
        assert "Traceback" not in str(error)
