"""The gate's verdict on what a model answers: sound files of all forms pass, and nothing else does."""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

from paredown.models.errors import InputError
from paredown.models.progress import silent_progress
from paredown.pipeline.gate.budgets import read_gates
from paredown.pipeline.gate.gate import GateRequest, run_gate
from paredown.pipeline.gate.outcome import GateOutcome

SIDE, CLASSES = 8, ("blue", "green", "red")
IMAGES = 240

Node = onnx.NodeProto


def shaped(name: str, sizes: list[Any], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, sizes)


def classifier(
    *nodes: Node,
    outputs: list[onnx.ValueInfoProto] | None = None,
    batch: int | str = "n",
    channel: int = 1,
    **held: Any,
) -> onnx.ModelProto:
    """A network that is right on all images: `scores` (n, 3) are the means of the channels, which come last first.
    Further `nodes` make something else of them."""
    flip = np.eye(3, dtype=np.float32)[::-1, :, None, None]
    arrays = {"w": flip, "fc": 4 * np.eye(3, dtype=np.float32), **held}
    constants = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in arrays.items()]
    body = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("GlobalAveragePool", ["c"], ["means"], "pool"),
        helper.make_node("Flatten", ["means"], ["flat"], "flatten"),
        helper.make_node("MatMul", ["flat", "fc"], ["scores"], "fc"),
    ]
    sizes: list[Any] = [batch, SIDE, SIDE]
    sizes.insert(channel, 3)
    graph = helper.make_graph(
        [*body, *nodes], "g", [shaped("x", sizes)], outputs or [shaped("scores", [batch, 3])], constants
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def node(op: str, given: list[str], made: list[str], **attributes: Any) -> Node:
    return helper.make_node(op, given, made, **attributes)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with images of three colours and `good.onnx`, which is always right."""
    rng = np.random.default_rng(0)
    labels = np.arange(IMAGES) % 3
    images = rng.integers(0, 80, (IMAGES, SIDE, SIDE, 3), np.uint8)
    images[np.arange(IMAGES), ..., 2 - labels] += 120
    np.savez(tmp_path / "images.npz", images=images, labels=labels, classes=np.array(CLASSES))
    onnx.save(classifier(), tmp_path / "good.onnx")
    return tmp_path


Gate = Callable[..., GateOutcome]


@pytest.fixture
def gate(place: Path) -> Gate:
    """Holds a file to accuracy and parity against `good.onnx`."""

    def run(file: Path, baseline: str = "good.onnx", budgets: str = "", output: str | None = None) -> GateOutcome:
        text = budgets or "{accuracy: 90, accuracy_drop: 1, parity: 0.99}"
        key = f"output: {output}\n" if output else ""
        budgets_file = place / "gates.yaml"
        budgets_file.write_text(f"{key}budgets: {text}\ndata: {{source: images.npz, image_size: {SIDE}}}\n")
        return run_gate(GateRequest(file, place / baseline, read_gates(budgets_file)), silent_progress)

    return run


def saved(model: onnx.ModelProto, place: Path, name: str = "model.onnx") -> Path:
    onnx.save(model, place / name)
    return place / name


class Calibration(quantization.CalibrationDataReader):
    def __init__(self) -> None:
        self.batches: Iterator[Any] = iter(np.random.default_rng(0).standard_normal((20, 1, 3, SIDE, SIDE), np.float32))

    def get_next(self) -> Any:
        batch = next(self.batches, None)
        return None if batch is None else {"x": batch}


def static(form: quantization.QuantFormat) -> Callable[[Path], Path]:
    def made(place: Path) -> Path:
        quantization.quantize_static(place / "good.onnx", place / "q.onnx", Calibration(), quant_format=form)
        return place / "q.onnx"

    return made


def dynamic(place: Path) -> Path:
    quantization.quantize_dynamic(place / "good.onnx", place / "q.onnx")
    return place / "q.onnx"


def packed(place: Path) -> Path:
    (place / "good.onnx.gz").write_bytes(gzip.compress((place / "good.onnx").read_bytes()))
    return place / "good.onnx.gz"


def built(*nodes: Node, sizes: list[Any] | None = None, kind: int = TensorProto.FLOAT, **options: Any) -> Any:
    """A file whose one output `out` the nodes make."""
    outputs = [shaped("out", sizes if sizes is not None else ["n", 3], kind)]
    return lambda place: saved(classifier(*nodes, outputs=outputs, **options), place)


SOUND: dict[str, Callable[[Path], Path]] = {
    "plain": lambda place: place / "good.onnx",
    "QDQ": static(quantization.QuantFormat.QDQ),
    "QOperator": static(quantization.QuantFormat.QOperator),
    "dynamic": dynamic,
    "gzip": packed,
    "batch 1": lambda place: saved(classifier(batch=1), place),
    "batch 7": lambda place: saved(classifier(batch=7), place),
    "softmax": built(node("Softmax", ["scores"], ["out"])),
    "log softmax": built(node("LogSoftmax", ["scores"], ["out"])),
    "float16": built(node("Cast", ["scores"], ["out"], to=TensorProto.FLOAT16), kind=TensorProto.FLOAT16),
    "double": built(node("Cast", ["scores"], ["out"], to=TensorProto.DOUBLE), kind=TensorProto.DOUBLE),
    "map of 1 x 1": built(node("Identity", ["means"], ["out"]), sizes=["n", 3, 1, 1]),
    "no shape told": built(node("Identity", ["scores"], ["out"]), sizes=[None, None]),
    "scores, then features": lambda place: saved(
        classifier(outputs=[shaped("scores", ["n", 3]), shaped("c", ["n", 3, SIDE, SIDE])]), place
    ),
    "scores, then their class": lambda place: saved(
        classifier(
            node("ArgMax", ["scores"], ["id"], axis=1, keepdims=0),
            outputs=[shaped("scores", ["n", 3]), shaped("id", ["n"], TensorProto.INT64)],
        ),
        place,
    ),
}


@pytest.mark.parametrize("form", SOUND)
def test_sound_files_of_all_forms_pass(place: Path, gate: Gate, form: str) -> None:
    found = gate(SOUND[form](place))
    assert found.verdict == "pass", [check.because for check in found.checks]
    assert [check.after for check in found.checks] == [100, 100, 100]


UNFIT: dict[str, tuple[Callable[[Path], Path], str]] = {
    "one column": (
        built(node("Split", ["scores"], ["out", "b", "c3"], axis=1, num_outputs=3), sizes=["n", 1]),
        r"'out' \(float, n x 1\) cannot be judged: it has 1 number per image; allowed is float, batch x 3",
    ),
    "class id": (
        built(node("ArgMax", ["scores"], ["out"], axis=1), sizes=["n", 1], kind=TensorProto.INT64),
        "it is int64, not float",
    ),
    "class ids of all ranks": (
        built(node("TopK", ["scores", "k"], ["v", "out"]), sizes=["n", 3], kind=TensorProto.INT64, k=np.array([3])),
        "it is int64, not float",
    ),
    "sorted scores": (
        built(node("TopK", ["scores", "k"], ["out", "ids"]), sizes=["n", 3], k=np.array([3])),
        "sorted by TopK",
    ),
    "more classes": (
        built(node("Concat", ["scores", "scores"], ["out"], axis=1), sizes=["n", 6]),
        "it has 6 numbers per image; allowed is float, batch x 3: one score for each of the data's 3 classes",
    ),
    "more classes, not declared": (
        built(node("Reshape", ["c", "s"], ["out"]), sizes=[None, None], s=np.array([1, -1])),
        "it has 192 numbers per image",
    ),
    "fewer classes, which only running it tells": (
        built(
            node("Compress", ["scores", "two"], ["out"], axis=1), sizes=["n", "k"], two=np.array([True, True, False])
        ),
        r"answered \(60, 2\); allowed is one score for each of the data's 3 classes",
    ),
    "images along the wrong axis": (
        built(node("Transpose", ["scores"], ["out"], perm=[1, 0]), sizes=["k", "n"]),
        "it has 1 number per image",
    ),
    "map": (built(node("Identity", ["c"], ["out"]), sizes=["n", 3, SIDE, SIDE]), "it is a map of scores"),
    "sequence": (
        lambda place: saved(
            classifier(
                node("SequenceConstruct", ["scores"], ["out"]),
                outputs=[
                    helper.make_value_info(
                        "out",
                        helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["n", 3])),
                    )
                ],
            ),
            place,
        ),
        "'out' .*sequence of float",
    ),
    "features first": (
        lambda place: saved(classifier(outputs=[shaped("c", ["n", 3, SIDE, SIDE]), shaped("scores", ["n", 3])]), place),
        "it has 2 outputs: .*`output: scores`$",
    ),
    "images in another order": (lambda place: saved(nhwc(), place), r"takes images of \(8, 8, 3\)"),
}


def nhwc() -> onnx.ModelProto:
    """Reads (n, 8, 8, 3)."""
    model = classifier(channel=3)
    model.graph.node.insert(0, node("Transpose", ["x"], ["nchw"], perm=[0, 3, 1, 2]))
    model.graph.node[1].input[0] = "nchw"
    return model


@pytest.mark.parametrize("case", UNFIT)
def test_what_is_no_score_per_class_is_one_line(place: Path, gate: Gate, case: str) -> None:
    made, why = UNFIT[case]
    file = made(place)
    with pytest.raises(InputError, match=why) as caught:
        gate(file)
    text = str(caught.value)
    assert str(file) in text
    assert "\n" not in text
    with pytest.raises(InputError, match=why):  # nor is it a baseline
        gate(place / "good.onnx", baseline=file.name)


def test_a_key_picks_one_of_several_outputs(place: Path, gate: Gate) -> None:
    minus = node("Neg", ["scores"], ["minus"])
    outputs = [shaped("minus", ["n", 3]), shaped("scores", ["n", 3])]
    file = saved(classifier(minus, outputs=outputs), place)
    with pytest.raises(InputError, match="`output: minus` or `output: scores`"):
        gate(file)
    assert gate(file, output="scores").verdict == "pass"  # the baseline has this one output
    assert gate(file, output="minus").checks[0].after == 0
    with pytest.raises(InputError, match=r"output: .* has no output 'score'; it has 'minus' \(float, n x 3\)"):
        gate(file, output="score")


def test_a_baseline_may_call_its_only_output_otherwise(place: Path, gate: Gate) -> None:
    renamed = built(node("Identity", ["scores"], ["out"]))(place)
    assert gate(renamed, output="scores").verdict == "pass"


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "opposite": (built(node("Neg", ["scores"], ["out"])), "accuracy"),
    "classes in another order": (
        built(node("Gather", ["scores", "order"], ["out"], axis=1), order=np.array([1, 2, 0])),
        "accuracy",
    ),
    "constant": (
        built(node("Mul", ["scores", "zero"], ["out"]), zero=np.zeros(1, np.float32)),
        "different answers: it answers 'blue' for all 60 test images, 40 of them of others",
    ),
    "not finite": (
        built(node("Div", ["scores", "zero"], ["a"]), node("Sub", ["a", "a"], ["out"]), zero=np.zeros(1, np.float32)),
        "finite answers: 60 of 60 test images: logits are not finite",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_answers_wrongly_fails(place: Path, gate: Gate, case: str) -> None:
    made, said = BAD[case]
    found = gate(made(place))
    assert found.verdict == "fail"
    assert {check.name for check in found.checks if check.verdict == "fail"} >= {"accuracy", "parity"}
    assert said in f"{found.checks[0].name}: {found.checks[0].because}"


@pytest.mark.parametrize("case", ["constant", "not finite"])
def test_budgets_that_anything_holds_are_not_enough(place: Path, gate: Gate, case: str) -> None:
    made, said = BAD[case]
    found = gate(made(place), budgets="{accuracy: 0}")
    assert [check.verdict for check in found.checks] == ["fail", "pass"]
    assert said in f"{found.checks[0].name}: {found.checks[0].because}"


def test_some_logits_that_are_not_finite_fail_with_their_count(place: Path, gate: Gate) -> None:
    # The logarithm of what is below zero is NaN: of the first channel's mean, where the image is dark there.
    file = built(node("Log", ["scores"], ["out"]))(place)
    found = gate(file, budgets="{accuracy: 0}")
    first = found.checks[0]
    assert (first.name, first.verdict) == ("finite answers", "fail")
    count = int(first.because.split(" of ")[0])
    assert 0 < count <= 60
    assert found.checks[1].after <= 100 * (60 - count) / 60


def test_a_baseline_that_is_not_finite_is_bad_input(place: Path, gate: Gate) -> None:
    file = BAD["not finite"][0](place)
    with pytest.raises(InputError, match=r"model\.onnx: 60 of 60 test images: logits are not finite"):
        gate(place / "good.onnx", baseline=file.name)


def test_a_baseline_whose_answers_are_odd_is_told(place: Path, gate: Gate) -> None:
    """Its classes have another order: the model is no worse, so that the budgets alone would say nothing."""
    turned = saved(classifier(fc=4 * np.roll(np.eye(3, dtype=np.float32), 1, axis=1)), place, "turned.onnx")
    outcome = gate(turned, "turned.onnx", "{accuracy_drop: 1, parity: 0.99}")
    assert outcome.verdict == "pass"
    *warnings, few = [fact for fact in outcome.facts if fact.startswith("warning: ")]
    assert len(warnings) == 4 and few.startswith("warning: accuracy: 60 images cannot tell 1 point")
    assert warnings[0].startswith("warning: baseline: near chance: 0.00 % of 60 test images are right")
    assert "'blue' are answered 'green'" in warnings[1] and "100.00 % would be right" in warnings[1]
    assert [fact.replace("baseline", "model") for fact in warnings[:2]] == warnings[2:]
    sound = gate(place / "good.onnx", budgets="{accuracy: 90, parity: 0.99}")
    assert not [fact for fact in sound.facts if fact.startswith("warning: ")]
