"""The CI examples of docs/ci do what they say: their steps are run, with stand-ins for what CI gives them."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

EXAMPLES = Path(__file__).parents[1] / "docs" / "ci"
STEADY = '''
"""A runtime for tests: it runs for real, but times and memory follow from the file's size."""

from paredown.stages.runtimes.onnxruntime import OnnxRuntime


class Steady(OnnxRuntime):
    def latency(self, models, load, rounds, runs, seed=0):
        return [[[model.stat().st_size / 1e4] * runs] * rounds for model in models]

    def peak_memory(self, model, load):
        return 40 + model.stat().st_size / 2**20


PLUGIN = Steady
'''


def write(path: Path, width: int) -> None:
    """A classifier of 3x16x16 images with a layer `body` of some width."""
    rng = np.random.default_rng(0)
    weights = {"stem.w": (8, 3, 3, 3), "body.w": (width, 8, 3, 3), "head.w": (4, width)}
    tensors = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in weights.items()]
    nodes = [
        helper.make_node("Conv", ["x", "stem.w"], ["a"], "stem"),
        helper.make_node("Conv", ["a", "body.w"], ["b"], "body"),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], "pool"),
        helper.make_node("Flatten", ["c"], ["d"], "flat"),
        helper.make_node("Gemm", ["d", "head.w"], ["y"], "head", transB=1),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3, 16, 16]), ("y", [1, 4]))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


Run = Callable[[str], subprocess.CompletedProcess[str]]


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a script as a CI system would."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    command = ["bash", "-eo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a model that is its own baseline, pinned by the command that the page names."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "steady.py").write_text(STEADY)
    (folder / "gates.yaml").write_text((EXAMPLES / "gates.yaml").read_text() + "target: {runtime: steady.py}\n")
    (folder / "summary.md").touch()
    write(folder / "model.onnx", 16)
    (first,) = re.findall(r"```sh\n(paredown gate .*--update-baseline)\n", (EXAMPLES.parent / "ci.md").read_text())
    done = shell(first, folder)
    assert done.returncode == 0, done.stderr
    assert {"baseline.onnx", "gates.lock"} <= {one.name for one in folder.iterdir()}
    return folder


@pytest.fixture
def run(repository: Path, tmp_path: Path) -> Run:
    """Runs a script in a copy of that repository."""
    shutil.copytree(repository, tmp_path, dirs_exist_ok=True)
    return lambda script: shell(script, tmp_path)


def read(name: str) -> Any:
    return yaml.safe_load((EXAMPLES / name).read_text())


def steps() -> list[Mapping[str, Any]]:
    return list(read("github-workflow.yml")["jobs"]["gate"]["steps"])


def gate_of(scripts: list[str]) -> str:
    """The one script that runs the gate; what is installed before is paredown and nothing else."""
    install, gate = scripts
    assert install == "python -m pip install paredown"
    return gate


def test_the_workflow_can_do_little_and_pins_what_it_uses() -> None:
    workflow = read("github-workflow.yml")
    assert workflow["permissions"] == {"contents": "read"}
    assert "permissions" not in workflow["jobs"]["gate"]
    lines = re.findall(r"uses: (.*)", (EXAMPLES / "github-workflow.yml").read_text())
    assert len(lines) == len([step for step in steps() if "uses" in step]) == 3
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line) for line in lines)
    assert "${{" not in "".join(step.get("run", "") for step in steps())


def test_the_workflow_passes_a_model_that_did_not_change(run: Run, tmp_path: Path) -> None:
    done = run(gate_of([step["run"] for step in steps() if "run" in step]))
    assert done.returncode == 0, done.stderr
    assert "::notice title=gate%3A pass::pass: model.onnx holds all 5 checks" in done.stdout
    assert (tmp_path / "summary.md").read_text().startswith("### Gate: pass")
    (upload,) = (step for step in steps() if "upload-artifact" in step.get("uses", ""))
    assert sorted(upload["with"]["path"].split()) == sorted(one.name for one in tmp_path.glob("gate.*"))


def test_the_workflow_fails_a_fatter_model_and_names_the_layer(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "model.onnx", 32)
    done = run(gate_of([step["run"] for step in steps() if "run" in step]))
    assert done.returncode == 1, done.stderr
    errors = [line for line in done.stdout.splitlines() if line.startswith("::error")]
    assert any("bytes" in line and "body (Conv, fp32)" in line for line in errors)
    assert any("latency p50" in line for line in errors)
    assert "### Gate: fail" in (tmp_path / "summary.md").read_text()
    assert list(ET.parse(tmp_path / "gate.xml").getroot().iter("failure"))
    (upload,) = (step for step in steps() if "upload-artifact" in step.get("uses", ""))
    assert upload["if"] == "${{ !cancelled() }}"


def test_the_workflow_refuses_a_baseline_that_is_not_the_pinned_one(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "baseline.onnx", 32)
    done = run(gate_of([step["run"] for step in steps() if "run" in step]))
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not the baseline that" in done.stderr


def test_the_workflow_refuses_a_file_that_lfs_did_not_fetch(run: Run, tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (tmp_path / "model.onnx").write_text(pointer)
    done = run(gate_of([step["run"] for step in steps() if "run" in step]))
    assert done.returncode == 2
    assert "model.onnx" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("width", "code"), [(16, 0), (32, 1)])
def test_the_job_for_gitlab(width: int, code: int, run: Run, tmp_path: Path) -> None:
    job = read("gitlab-ci.yml")["model-gate"]
    write(tmp_path / "model.onnx", width)
    done = run(gate_of(job["script"]))
    assert done.returncode == code, done.stderr
    root = ET.parse(tmp_path / job["artifacts"]["reports"]["junit"]).getroot()
    assert root.get("tests") == "5"
    assert (root.get("failures") == "0") == (code == 0)
    assert all((tmp_path / name).is_file() for name in job["artifacts"]["paths"])
    assert job["allow_failure"] == {"exit_codes": [3]}


@pytest.mark.parametrize(("width", "code"), [(16, 0), (32, 1)])
def test_the_hook(width: int, code: int, run: Run, tmp_path: Path) -> None:
    """With pre-commit itself where that is installed, else as it would call the hook."""
    (hook,) = read("pre-commit-config.yaml")["repos"][0]["hooks"]
    assert all(re.search(hook["files"], name) for name in ("model.onnx", "gates.yaml", "gates.lock", "baseline.onnx"))
    assert not re.search(hook["files"], "old/model.onnx")
    write(tmp_path / "model.onnx", width)
    (tmp_path / "steady.py").write_text(STEADY.replace("return ", "raise AssertionError #"))
    if shutil.which("pre-commit"):
        shutil.copy(EXAMPLES / "pre-commit-config.yaml", tmp_path / ".pre-commit-config.yaml")
        done = run("git init -q . && git add model.onnx gates.yaml gates.lock baseline.onnx && pre-commit run")
        assert "model.onnx holds its budgets" in done.stdout
    else:
        done = run(f"{hook['entry']}{'' if hook['pass_filenames'] is False else ' model.onnx'}")
    assert done.returncode == code, done.stdout + done.stderr
    assert ("body (Conv, fp32)" in done.stdout) == (code == 1)
