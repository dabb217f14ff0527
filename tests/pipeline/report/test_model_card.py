"""The model card: what was proved, what nobody filled in, and a picture that needs nothing beside it."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from click.testing import CliRunner

from paredown.pipeline.cli import cli
from paredown.pipeline.recipe.recipe import CardDetails
from paredown.pipeline.report.model_card import plain_markdown, write_card
from paredown.stages.products.embedded import InputSpec
from paredown.stages.products.evidence import Evidence, LatencyEvidence
from paredown.stages.products.loss_check import LossCheck
from paredown.stages.products.manifest import DataRecord, Manifest, MeasureRatios, ModelOrigin, TargetRecord
from paredown.stages.products.measure_check import MeasureCheck
from paredown.stages.products.parity import Parity
from paredown.stages.products.plan import Plan, PlannedLayer
from paredown.stages.products.training_curve import TrainingCurve, TrainingEpoch

Folder = Callable[..., Path]
MEASURED = Evidence(
    latency=LatencyEvidence(4.0, 6.0, spread=0.25, runs=180, rounds=9),
    size=8.0,
    peak_memory=90.0,
    accuracy={"test": 81.25},
    images={"test": 800},
    runtime="onnxruntime 1.31.0",
    machine={"cpu": "a CPU"},
)

CHECK = LossCheck(
    predicted=0.03,
    spread=0.1,
    most=2.0,
    measured=0.06,
    error=0.004,
    images=128,
    before=50.0,
    points=-4.7,
    points_error=1.5,
)


def layer(index: int) -> PlannedLayer:
    kept = 64 - index % 2 * 24
    widths = {"channels_in": 64, "channels_out": 64, "kept_in": 64, "kept_out": kept}
    return PlannedLayer(name=f"block.{index}", op="conv", depthwise=False, bits=8, ms=0.05, baseline_ms=0.125, **widths)


def manifest(**instead: Any) -> Manifest:
    made = Manifest(
        paredown="0.1.0",
        recipe={"name": "demo", "sha256": "cd" * 32},
        input=InputSpec(
            (1, 3, 8, 8),
            "RGB",
            (0, 1),
            (0.5,) * 3,
            (0.25,) * 3,
            framing="short side to 9 px, bicubic, centre crop 8 x 8 px",
        ),
        model=ModelOrigin("timm/a_b", "/home/me/secret/a.pth"),
        target=TargetRecord("onnxruntime"),
        checks=(
            MeasureCheck("size", "MiB", 8.0, 1.0, 2.0, True),
            MeasureCheck("test accuracy", "%", 81.25, 80.75, None, None),
        ),
        baseline=MEASURED,
        artifact=MEASURED,
        ratios=MeasureRatios(1.0, 0.125, 1.0),
        parity=Parity(agreement=0.995, mean_difference=0.01, limit=0.95),
        sha256={"model.onnx": "ab" * 32, "baseline/model.onnx": "ef" * 32},
        versions={"torch": "2.13.0"},
        data=DataRecord(("good", "<b>|`bad`"), {"test": 800}, "CC0"),
    )
    return replace(made, **instead)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A run's folder with a plan of so many layers, training curves and a manifest."""

    def write(layers: int = 40, proved: Manifest | None = None) -> Path:
        epochs = (
            TrainingEpoch("distil", 1, 0.5, 79.5, seconds=1.0),
            TrainingEpoch("distil", 2, 0.5, 80.5, seconds=1.0),
        )
        documents = {
            "plan": Plan(choice={}, layers=tuple(map(layer, range(layers))), loss_check=CHECK),
            "recovered": TrainingCurve(epochs),
            "artifact": proved or manifest(),
        }
        for product, document in documents.items():
            (tmp_path / "demo" / product).mkdir(parents=True, exist_ok=True)
            document.save(tmp_path / "demo" / product)
        return tmp_path / "demo"

    return write


def card_of(folder: Path, card: CardDetails | None = None) -> str:
    path = write_card(card or CardDetails(), folder)
    assert path == folder / "model-card.md"
    return path.read_text(encoding="utf-8")


def front(text: str) -> dict[str, Any]:
    _, head, _ = text.split("---\n", 2)
    fields: dict[str, Any] = yaml.safe_load(head)
    return fields


def test_it_holds_the_table_the_data_and_how_it_was_measured(folder: Folder) -> None:
    text = card_of(folder())
    for words in (
        "| size (MiB) | 8 | 1 | 0.125x | 2 | holds |",
        "| test accuracy (%) | 81.25 | 80.75 | -0.50 points | - | no limit |",
        "The one limit holds.",
        "from 180 timed runs in 9 rounds",
        "* licence: CC0",
        "| input | 1 x 3 x 8 x 8, from an image: short side to 9 px, bicubic, centre crop 8 x 8 px, RGB, /255, "
        "minus mean 0.5, 0.5, 0.5, divided by std 0.25, 0.25, 0.25 |",
        "2 epochs, best accuracy on validation 80.50 %",
        "sha256 of model.onnx: " + "ab" * 32,
        "Before any training: expected loss 0.03 nats (within a factor of 1.2), measured on 128 held-out images 0.06",
        f"demo, sha256 {'cd' * 32}",
    ):
        assert words in text, words
    assert "secret" not in text


def test_the_headings_are_those_that_readers_know(folder: Folder) -> None:
    headings = re.findall(r"^## (.*)$", card_of(folder()), re.MULTILINE)
    wanted = ("Model details", "Intended use", "Results", "Data", "Training", "Ethical considerations", "Caveats")
    assert [heading for heading in headings if heading in wanted] == list(wanted)


def test_what_nobody_filled_in_is_marked(folder: Folder) -> None:
    text = card_of(folder())
    for field in CardDetails.model_fields:
        assert f"**Not filled in** (`card: {{{field}: …}}` in the recipe)" in text
    text = card_of(folder(), CardDetails(**dict.fromkeys(CardDetails.model_fields, "said")))
    assert "Not filled in" not in text and text.count("said") == len(CardDetails.model_fields) + 1


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        (None, {}),
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("ours: ask", {"license": "other", "license_name": "ours: ask"}),
    ],
)
def test_hubs_are_told_only_what_is_known(folder: Folder, licence: str | None, expected: dict[str, str]) -> None:
    fields = front(card_of(folder(), CardDetails(licence=licence)))
    assert {key: value for key, value in fields.items() if key.startswith("license")} == expected
    assert fields["pipeline_tag"] == "image-classification"
    assert fields["tags"] == ["onnx", "paredown", "int8"]


def test_words_of_others_stay_words(folder: Folder) -> None:
    assert r"\<b\>\|\`bad\`" in card_of(folder())
    assert plain_markdown("a\n# b_c*d*") == r"a \# b\_c\*d\*"
    contact = "x | y\n## Forged"
    text = card_of(folder(), CardDetails(contact=contact))
    assert r"| contact | x \| y \#\# Forged |" in text and "\n## Forged" not in text


def test_a_missed_limit_is_told_first(folder: Folder) -> None:
    missed = MeasureCheck("size", "MiB", 8.0, 3.0, 2.0, False)
    text = card_of(folder(proved=manifest(checks=(missed,))))
    assert "1 of 1 limits missed: size." in text and "| **missed** |" in text


def test_a_manifest_of_an_earlier_version_has_a_card_too(folder: Folder) -> None:
    made = folder()
    file = made / "artifact" / "manifest.json"
    later = ("recipe", "input", "compare", "zeros", "quantization")
    file.write_text(json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key not in later}))
    assert "| input |" not in card_of(made)


def test_without_an_artifact_there_is_no_card(folder: Folder) -> None:
    made = folder()
    card_of(made)
    (made / "artifact" / "manifest.json").unlink()
    assert write_card(CardDetails(), made) is None
    assert not (made / "model-card.md").exists() and not (made / "plan.svg").exists()


def test_the_same_run_gives_the_same_card(folder: Folder) -> None:
    made = folder()
    first, picture = card_of(made), (made / "plan.svg").read_bytes()
    assert (card_of(made), (made / "plan.svg").read_bytes()) == (first, picture)
    assert not list(made.glob(".*"))


@pytest.mark.parametrize("layers", [1, 16, 40, 200])
def test_the_picture_stands_alone_and_has_every_layer(folder: Folder, layers: int) -> None:
    made = folder(layers)
    assert "(plan.svg)" in card_of(made)
    text = (made / "plan.svg").read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|href|<script|var\(", text)
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    drawn = [e for e in root.iter() if e.get("class", "").startswith("layer conv")]
    assert len(drawn) == layers
    for column in (e for e in root if e.tag.endswith("svg")):  # drawn as large as they were made, and inside the paper
        (drawing,) = column
        width, height = (float(column.get(side, "")) for side in ("width", "height"))
        assert drawing.get("viewBox") == f"0 0 {width:g} {height:g}"
        assert float(column.get("x", "")) + width <= float(root.get("width", ""))
        assert float(column.get("y", "")) + height <= float(root.get("height", ""))


def test_a_plan_that_changed_nothing_has_no_picture(folder: Folder) -> None:
    made = folder(0)
    assert "plan.svg" not in card_of(made)
    assert not (made / "plan.svg").exists()


def test_report_writes_it_with_what_the_recipe_fills_in(
    folder: Folder, write_stage: Folder, write_recipe: Folder, tmp_path: Path
) -> None:
    write_stage("first")
    recipe = write_recipe("- first.py", rest="card: {contact: me@here}")
    folder()
    done = CliRunner().invoke(cli, ["report", str(recipe), "--out", str(tmp_path)], catch_exceptions=False)
    assert done.stdout.split() == [str(tmp_path / "demo" / "report.html")]
    assert f"model card: {tmp_path / 'demo' / 'model-card.md'}" in done.stderr
    assert "| contact | me@here |" in (tmp_path / "demo" / "model-card.md").read_text(encoding="utf-8")
