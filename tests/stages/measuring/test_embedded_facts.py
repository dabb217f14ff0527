"""What the artifact says of itself: enough to use it, the same every time, and within the room that the search left."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paredown.models.onnx.edit import load_onnx, save_onnx
from paredown.models.onnx.metadata import embedded_metadata
from paredown.stages import plugins
from paredown.stages.base import State
from paredown.stages.limits import Limits
from paredown.stages.measuring.embedded_facts import metadata_room_mib, sites_by_transform
from paredown.stages.measuring.target_runtime import target_runtime
from paredown.stages.products.documents import plain_data
from paredown.stages.products.evidence import MIB
from paredown.stages.products.plan import Plan
from paredown.stages.verify import Verify

RECIPE = {"name": "demo", "sha256": "ab" * 32}


def verified(state: State, out: Path, **options: Any) -> Path:
    out.mkdir()
    Verify(**{"rounds": 1, "runs": 1, **options}).run(replace(state, out=out, recipe=RECIPE))
    return out / "model.onnx"


@pytest.fixture(scope="module")
def artifact(finished: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return verified(finished, tmp_path_factory.mktemp("verified") / "artifact")


def test_it_tells_how_to_use_it_and_where_it_comes_from(artifact: Path, finished: State) -> None:
    told = embedded_metadata(load_onnx(artifact))
    manifest = json.loads((artifact.parent / "manifest.json").read_text())
    assert told["model"] == {"source": "net.py:net", "weights": "net.pth"}
    assert told["input"]["shape"] == [1, 3, 24, 24]
    assert told["input"]["mean"] == list(finished.data.mean)
    assert told["input"]["framing"] == str(finished.data.framing)
    assert (told["input"]["crop_mode"], told["input"]["crop_pct"]) == ("center", 1.0)
    assert told["input"]["interpolation"] == "bilinear"
    assert told["input"] == manifest["input"]
    assert told["classes"] == manifest["data"]["classes"]
    assert told["recipe"] == manifest["recipe"] == RECIPE
    assert told["limits"] == {"latency_p50": "0.5x", "size": "0.6x"}
    assert told["plan"] == plain_data(sites_by_transform(Plan.load(finished.product("plan")).choice))
    assert told["accuracy"]["after"]["test"] == pytest.approx(manifest["artifact"]["accuracy"]["test"], abs=1e-4)
    assert told["accuracy"]["images"] == manifest["artifact"]["images"]
    assert told["target"] == {
        "runtime": "exact.py",
        "version": "exact 1",
        "threads": 1,
        "batch": 1,
        "container": "plain",
    }
    assert told["data"]["fingerprint"] == manifest["data"]["fingerprint"]


def test_the_same_run_gives_the_same_bytes_however_it_is_timed(artifact: Path, finished: State, tmp_path: Path) -> None:
    again = verified(finished, tmp_path / "again", rounds=2, runs=3)
    assert again.read_bytes() == artifact.read_bytes()
    assert (again.parent / "manifest.json").read_bytes() != (artifact.parent / "manifest.json").read_bytes()


def test_it_says_nothing_of_caches(artifact: Path, finished: State, tmp_path: Path) -> None:
    hot = replace(finished, target=finished.target.model_copy(update={"caches": "hot"}))
    assert verified(hot, tmp_path / "hot").read_bytes() == artifact.read_bytes()


def test_nothing_in_it_was_timed_or_names_a_folder(artifact: Path, finished: State) -> None:
    absolute = finished.model.model_copy(update={"source": f"{finished.root}/net.py:net"})
    out = artifact.parent.parent / "absolute"
    text = json.dumps(embedded_metadata(load_onnx(verified(replace(finished, model=absolute), out))))
    assert str(finished.root) not in text
    assert not any(word in text for word in ('p50": 0', "peak", "machine", " ms", "MiB"))


def test_what_was_measured_is_of_the_file_that_ships(artifact: Path) -> None:
    manifest = json.loads((artifact.parent / "manifest.json").read_text())
    assert manifest["artifact"]["size"] * MIB == artifact.stat().st_size


def test_a_portable_file_and_a_packed_one_say_the_same(artifact: Path, finished: State, tmp_path: Path) -> None:
    exported, target = (
        tmp_path / "exported",
        finished.target.model_copy(update={"runtime": "onnxruntime", "container": "gzip"}),
    )
    shutil.copytree(finished.product("exported"), exported)
    (exported / "model.onnx").rename(exported / "portable.onnx")
    save_onnx(load_onnx(exported / "portable.onnx"), exported / "model.onnx.gz")
    none = Limits(accuracy_drop=100)
    state = replace(finished.with_product("exported", exported), target=target, limits=none)
    folder = verified(state, tmp_path / "packed").parent
    packed, portable = (embedded_metadata(load_onnx(folder / name)) for name in ("model.onnx.gz", "portable.onnx"))
    assert packed == portable
    assert packed["target"]["container"] == "gzip"
    assert set(json.loads((folder / "manifest.json").read_text())["sha256"]) >= {"model.onnx.gz", "portable.onnx"}


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_runtimes_compute_the_same_from_it(name: str, artifact: Path, finished: State) -> None:
    if line := plugins.missing_requirement("runtimes", name):
        pytest.skip(line)
    runtime, images = (
        target_runtime(finished.target.model_copy(update={"runtime": name}), Path()),
        np.random.default_rng(0),
    )
    batch = images.standard_normal((2, 3, 24, 24), dtype=np.float32)
    answers = [runtime.run(file, [batch], 1) for file in (finished.product("exported") / "model.onnx", artifact)]
    assert np.array_equal(*answers)


def test_the_search_leaves_room_for_it(artifact: Path, finished: State) -> None:
    sites = json.loads((finished.product("plan") / "plan.json").read_text())["sites"]
    left = metadata_room_mib(("square", "cross", "frame"), [(site["name"], site["candidates"]) for site in sites])
    plain, whole = (file.stat().st_size for file in (finished.product("exported") / "model.onnx", artifact))
    assert 0 < whole - plain < left * MIB < 3 * (whole - plain)


def test_a_plan_is_grouped_by_what_is_done() -> None:
    choice = {"quantize:a": "int8", "narrow:a": "16", "quantize:b": "fp32", "quantize:c.d": "int8"}
    assert sites_by_transform(choice) == {"quantize": {"int8": ("a", "c.d"), "fp32": ("b",)}, "narrow": {"16": ("a",)}}
