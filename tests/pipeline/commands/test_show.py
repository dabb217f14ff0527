"""What `paredown show` says of artifacts, of files of others, and of files that only pretend to be one."""

import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import ModelProto, TensorProto, helper, numpy_helper
from scipy.stats import binomtest

from paredown.models.errors import InputError
from paredown.models.onnx.metadata import PREFIX, embed_metadata
from paredown.pipeline.artifact.artifact import find_model_file, read_artifact
from paredown.pipeline.commands.show import show_verb
from paredown.stages.base import State
from paredown.stages.verify import Verify

Make = Callable[..., Path]
RECIPE = {"name": "demo", "sha256": "ab" * 32}


def network() -> ModelProto:
    """One matrix product, with an open batch."""
    weight = numpy_helper.from_array(np.ones((4, 2), np.float32), "w")
    node = helper.make_node("Gemm", ["image", "w"], ["answer"], name="head")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", s]) for n, s in (("image", 4), ("answer", 2))]
    graph = helper.make_graph([node], "graph", ends[:1], ends[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


@pytest.fixture
def other(tmp_path: Path) -> Make:
    """Writes that network with the metadata that is given."""

    def write(facts: Any = None, name: str = "model.onnx") -> Path:
        model, path = network(), tmp_path / name
        if facts:
            embed_metadata(model, facts)
        content = model.SerializeToString()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


@pytest.fixture(scope="module")
def artifact(finished: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real artifact with its manifest, in a run's folder."""
    folder = tmp_path_factory.mktemp("show") / "demo" / "artifact"
    folder.mkdir(parents=True)
    Verify(rounds=2, runs=3).run(replace(finished, out=folder, recipe=RECIPE))
    return folder / "model.onnx"


def shown(*arguments: object) -> Result:
    return CliRunner().invoke(show_verb, [str(one) for one in arguments])


def text_of(path: Path, *options: str) -> str:
    """On one line, with single spaces, where it does not matter how wide the terminal is."""
    result = shown(path, *options)
    assert result.exception is None, result.exception
    return " ".join(result.stdout.split())


def test_an_artifact_says_what_it_is_and_its_manifest_how_good(artifact: Path) -> None:
    text = text_of(artifact)
    for words in (
        "made by paredown 0.1.0, from net.py:net, weights net.pth",
        "recipe demo, sha256 abababababababab",
        "input 1 x 3 x 24 x 24, from an image: largest centre square, scaled to 24 x 24 px, bilinear with antialiasing",
        "RGB, /255, minus mean 0.485, 0.456, 0.406, divided by std 0.229",
        "classes 3: ",
        "made for exact 1, threads 1, batch 1",
        "limits latency_p50 0.5x, size 0.6x",
        "6 runs in 2 rounds, in turns with the original",
        "verdict all 2 limits hold",
        "on exact 1",
    ):
        assert words in text, words


def test_runs_and_artifacts_can_be_named_by_their_folder(artifact: Path, tmp_path: Path) -> None:
    assert find_model_file(artifact.parent) == find_model_file(artifact.parent.parent) == artifact
    with pytest.raises(InputError, match=r"no artifact in it; looked for model\.onnx and model\.onnx\.gz, also in art"):
        find_model_file(tmp_path)


def test_as_json_everything_is_there(artifact: Path) -> None:
    content = json.loads(shown(artifact, "--json").stdout)
    assert content["made_by_paredown"] is True
    assert content["essentials"]["recipe"] == RECIPE
    assert {check["name"]: check["holds"] for check in content["evidence"]["checks"]}["size"] is True
    assert content["bytes"] == artifact.stat().st_size
    assert content["sha256"] == hashlib.sha256(artifact.read_bytes()).hexdigest()


def test_a_manifest_of_another_file_is_no_evidence(artifact: Path, tmp_path: Path) -> None:
    model = onnx.load(artifact)
    model.doc_string = "changed"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "manifest.json").write_bytes((artifact.parent / "manifest.json").read_bytes())
    result = shown(tmp_path)
    assert "warning:" in result.stderr and "manifest.json describes another file" in result.stderr
    assert "holds" not in result.stdout
    assert "recipe" in result.stdout


@pytest.mark.parametrize("content", ["", "[]", "{", '{"checks": 3}', "[" * 100_000], ids=str.__len__)
def test_a_damaged_manifest_is_a_warning(other: Make, content: str) -> None:
    path = other()
    path.with_name("manifest.json").write_text(content)
    result = shown(path)
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: ") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.gz"])
def test_a_model_of_others_is_told_as_far_as_it_goes(other: Make, name: str) -> None:
    text = text_of(other(name=name))
    for words in ("not made by paredown", "image: batch x 4", "answer: batch x 2", "opset 17, 8 parameters", "Gemm 1"):
        assert words in text, words


def test_it_is_the_portable_form_too_that_a_manifest_describes(artifact: Path, tmp_path: Path) -> None:
    manifest = json.loads((artifact.parent / "manifest.json").read_text())
    manifest["sha256"] = {"model.onnx": "0" * 64, "portable.onnx": manifest["sha256"]["model.onnx"]}
    (tmp_path / "portable.onnx").write_bytes(artifact.read_bytes())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert read_artifact(tmp_path / "portable.onnx").manifest
    manifest["sha256"] = {"baseline/model.onnx": manifest["sha256"]["portable.onnx"]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert read_artifact(tmp_path / "portable.onnx").manifest is None


@pytest.mark.parametrize(
    "facts",
    [
        {"seed": 1},
        {"model": "text"},
        {"model": {}, "plan": {"quantize": 3}},
        {"model": {}, "classes": [["a"]]},
        {"model": {}, "input": {"shape": "wide"}},
        {"model": {}, "accuracy": {"before": {"test": "much"}, "after": {}, "images": {}}},
    ],
    ids=str,
)
def test_what_only_pretends_is_refused_in_one_line(other: Make, facts: dict[str, Any]) -> None:
    error = shown(other(facts)).exception
    assert isinstance(error, InputError)
    assert "what it says of itself was not written by paredown" in str(error) and "\n" not in str(error)


def test_an_artifact_of_an_earlier_version_does_not_tell_how_images_are_framed(other: Make) -> None:
    told = {"shape": [1, 3, 8, 8], "channels": "RGB", "range": [0, 1], "mean": [0, 0, 0], "std": [1, 1, 1]}
    text = text_of(other({"model": {}, "input": told}))
    assert "1 x 3 x 8 x 8, from an image: how it is scaled and cropped is not told" in text


@pytest.mark.parametrize(("written", "confidence"), [(0.95, 0.95), (None, 0.99), (7, 0.99)])
def test_intervals_are_of_the_confidence_that_the_file_names(
    other: Make, written: float | None, confidence: float
) -> None:
    accuracy = {name: {"test": 91.0} for name in ("before", "after")} | {"images": {"test": 100}}
    limits = {"confidence": written} if written else {}
    text = text_of(other({"model": {}, "accuracy": accuracy, "limits": limits}))
    ends = binomtest(91, 100).proportion_ci(confidence, method="wilson")
    assert f"91.00 ({100 * ends.low:.2f} to {100 * ends.high:.2f}) -> 91.00" in text
    assert f"{100 * confidence:g} % intervals" in text


@pytest.mark.parametrize("images", ["Infinity", "1e300", "NaN", "-1"])
def test_images_that_nobody_has_have_no_interval(other: Make, images: str) -> None:
    model = onnx.load(other({"model": {}}))
    model.metadata_props.add(key=f"{PREFIX}parity", value=f'{{"agreement": 0.5, "images": {images}}}')
    (path := other()).write_bytes(model.SerializeToString())
    assert "on 50.00 % of validation images" in text_of(path)


def test_little_said_is_little_shown(other: Make) -> None:
    text = text_of(other({"model": {}}))
    assert "made by paredown, from a model not told" in text and "limits none told" in text


def test_nothing_in_a_file_commands_the_terminal(other: Make) -> None:
    path = other({"model": {"source": "\x1b]0;owned\x07[red]bold\n"}, "classes": ["\x1b[2J"]})
    text = shown(path).stdout
    assert "\x1b" not in text and "\x07" not in text
    assert "\\x1b]0;owned\\x07[red]bold" in text


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.gz"])
@pytest.mark.parametrize("kept", [0, 3, 20, -1])
def test_a_damaged_file_is_one_line(other: Make, name: str, kept: int) -> None:
    path = other(name=name)
    path.write_bytes(path.read_bytes()[:kept])
    error = shown(path).exception
    assert isinstance(error, InputError), error
    assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    error = shown(tmp_path / "gone.onnx").exception
    assert isinstance(error, InputError) and "gone.onnx: it cannot be read (No such file" in str(error)


def test_metadata_of_others_is_not_ours(other: Make) -> None:
    path = other()
    model = onnx.load(path)
    model.metadata_props.add(key="author", value=PREFIX)
    path.write_bytes(model.SerializeToString())
    assert read_artifact(path).facts is None


def test_the_original_is_ours_but_no_artifact(finished: State) -> None:
    text = text_of(finished.product("baseline") / "model.onnx")
    assert "made by paredown, but it is no artifact: it says nothing of itself inputs x: 1 x 3 x 24 x 24" in text


def test_long_lists_are_cut(other: Make) -> None:
    text = text_of(other({"model": {}, "classes": [f"c{i}" for i in range(1000)]}))
    assert "classes 1000: c0, c1, c2, c3, c4, c5, c6, c7, and 992 more" in text


def test_int8_that_runs_in_float_is_told(other: Make, tmp_path: Path) -> None:
    """A product whose activations are rounded to 16 bits."""
    path = other()
    model = onnx.load(path)
    scale, zero = (numpy_helper.from_array(one, name) for one, name in ((np.float32(0.1), "s"), (np.uint16(0), "z")))
    model.graph.initializer.extend([scale, zero])
    nodes = [helper.make_node("QuantizeLinear", ["image", "s", "z"], ["q"], name="q")]
    nodes += [helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="d"), *model.graph.node]
    nodes[-1].input[0] = "d"
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.opset_import[0].version = 21
    onnx.save(model, path)
    assert "int8 0 of 1 layers as onnxruntime computes them on this CPU; in float: head (Gemm, fp32: 16-bit" in text_of(
        path
    )


def told_answers(path: Path, classes: int | None = None, *outputs: tuple[str, list[Any], int]) -> str:
    """What is said of the answers of a file with these outputs beside `answer` (batch, 2)."""
    model = network()
    for name, sizes, kind in outputs:
        model.graph.node.append(helper.make_node("Head", ["image"], [name], domain="own"))
        model.graph.output.append(helper.make_tensor_value_info(name, kind, sizes))
    model.opset_import.append(helper.make_opsetid("own", 1))
    if classes:
        embed_metadata(model, {"model": {"source": "net.py:net"}, "classes": [str(one) for one in range(classes)]})
    onnx.save(model, path)
    found = CliRunner().invoke(show_verb, [str(path), "--json"])
    assert found.exit_code == 0, found.output
    answers: str = json.loads(found.stdout)["answers"]
    lines = " ".join(CliRunner().invoke(show_verb, [str(path)], env={"COLUMNS": "500"}).stdout.split())
    assert f"answers {answers}" in lines
    return answers


def test_which_output_would_be_judged_is_told(tmp_path: Path) -> None:
    path, ids = tmp_path / "model.onnx", ("id", ["batch", 1], TensorProto.INT64)
    assert told_answers(path) == "'answer' (float, batch x 2): one score per class"
    assert told_answers(path, None, ids) == "'answer' (float, batch x 2): one score per class"
    assert told_answers(path, 2) == "'answer' (float, batch x 2): one score per class"
    several = told_answers(path, None, ("features", ["batch", 9], TensorProto.FLOAT))
    assert several.startswith("one of 'answer' (float, batch x 2), 'features' (float, batch x 9); ")
    none = told_answers(path, 4, ids)
    assert none == (
        "no output holds one score per class: 'answer': it has 2 numbers per image; 'id': it is int64, not float"
    )
