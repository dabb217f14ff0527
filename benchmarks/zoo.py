"""Forty networks of timm and torchvision through `paredown check`, and through every stage of a run.

Weights are random and images are made up, so nothing is said of accuracy: what is asked is whether a network that
`check` accepts comes through all stages, in a plan that changes everything that can be changed, and whether one that it
refuses is refused in a line. Each verb is a process of its own, with a time limit. What became of a network is written
as one JSON line at once: what was stopped goes on with the networks that are not in the file.

    python benchmarks/zoo.py --jobs 2
    python benchmarks/zoo.py --only torchvision/googlenet
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np

from paredown.stages.products.plan import Plan, PlannedLayer
from paredown.stages.solvers.problem import transform_and_place

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parent / "docs" / "zoo.md"
MIB = 1024
"""KiB, in which the system counts a process's memory."""

SIDES = {"inception_v3": 96, "inception_v4": 96, "inception_resnet_v2": 96, "xception41": 96}
"""Pixels, of networks that take no 64."""

TORCHVISION = (
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "googlenet",
    "inception_v3",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "squeezenet1_1",
    "vgg11",
    "vgg11_bn",
)
TIMM = (
    "convnext_atto",
    "dla34",
    "efficientnet_b0",
    "efficientnet_lite0",
    "ghostnet_100",
    "hardcorenas_a",
    "hrnet_w18_small",
    "lcnet_050",
    "mixnet_s",
    "mobilenetv2_050",
    "mobilenetv3_large_100",
    "mobilenetv4_conv_small",
    "mobileone_s0",
    "regnety_002",
    "repvgg_a0",
    "res2net50_26w_4s",
    "resnet26d",
    "resnetv2_50",
    "rexnet_100",
    "selecsls42b",
    "seresnet18",
    "tf_efficientnetv2_b0",
    "tinynet_e",
    "xception41",
)
NAMES = (*(f"timm/{name}" for name in TIMM), *(f"torchvision/{name}" for name in TORCHVISION))

NO_BLOCK = "no block that could be replaced"
"""What `check` says of a network that `library` finds nothing in: it is tried without that stage."""

RECIPE = """
model: {{source: {source}}}
data: {{source: images.npz, image_size: {side}, splits: {{train: 0.4, calibration: 0.2, validation: 0.2, test: 0.2}}}}
target: {{runtime: {here}/zoo_runtime.py}}
limits: {{size: 3x, accuracy_drop: 100}}
pipeline:
  - fit: {{epochs: 1, batch: 16, bf16: false}}
  - baseline: {{rounds: 1, runs: 1}}{library}
  - profile: {{plans: 1, images: 8, transforms: {{{transforms}}}}}
  - sensitivity: {{plans: 1, images: 8}}
  - search: {{solver: {here}/zoo_solver.py, rounds: 1, alternatives: 0, front: 0, known: false}}
  - compress: {{batches: 1}}
  - recover: {{distil: {{epochs: 1, batch: 16, bf16: false}}, quantize: {{epochs: 1, batch: 16, bf16: false}}}}
  - export: {{agreement: 0}}
  - verify: {{rounds: 1, runs: 1}}
"""
BLOCKS = "{inverted_residual: {expansions: [1], kernels: [3]}, identity: {}}"
LIBRARY = f"\n  - library: {{keep: 1, merge: 1, images: 16, steps: 1, blocks: {BLOCKS}}}"
TRANSFORMS = "narrow: {levels: [0.5]}, quantize: {}, resize: {levels: [0.75]}"


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (None: it was stopped at the time limit), seconds, the most MiB that it held
    at once, and what it printed on stdout and stderr."""

    code: int | None
    seconds: float
    memory: float
    output: str
    errors: str

    @property
    def last_line(self) -> str:
        """The last line on stderr, which says what went wrong."""
        return next((line.strip() for line in reversed(self.errors.splitlines()) if line.strip()), "")

    @property
    def stage(self) -> str:
        """The stage that spoke last, as in `4/10 profile: starts`."""
        spoken = re.findall(r"^\d+/\d+ (\w+): ", self.errors, re.MULTILINE)
        return spoken[-1] if spoken else ""


@dataclass(frozen=True)
class Outcome:
    """What became of one network: `runs`, `refused` by check in one line, `stopped` at the time limit, or `FAILED`
    after check."""

    name: str
    side: int
    outcome: str
    line: str = ""
    check_seconds: float = 0.0
    run_seconds: float = 0.0
    memory: float = 0.0
    sites: Mapping[str, int] = field(default_factory=dict)
    layers: int = 0
    narrowed: int = 0
    int8: int = 0


def side_of(name: str) -> int:
    return SIDES.get(name.partition("/")[2], 64)


def write_project(folder: Path, name: str, blocks: bool) -> Path:
    """A folder with 80 images of four classes that differ in colour, and the recipe; returns the recipe's file."""
    side, rng = side_of(name), np.random.default_rng(0)
    labels = np.arange(80) % 4
    tint = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [150, 150, 60]])[labels]
    images = rng.integers(-50, 50, (80, side, side, 3)) + tint[:, None, None, :]
    np.savez(folder / "images.npz", images=images.clip(0, 255).astype(np.uint8), labels=labels)
    transforms = f"{TRANSFORMS}, substitute: {{}}" if blocks else TRANSFORMS
    recipe = folder / "zoo.yaml"
    recipe.write_text(
        RECIPE.format(source=name, side=side, here=HERE, library=LIBRARY if blocks else "", transforms=transforms)
    )
    return recipe


def ended(verb: str, recipe: Path, limit: float) -> Ended:
    """Runs `paredown <verb>` in a process of its own, on one thread, which is stopped after `limit` seconds."""
    command = [sys.executable, "-m", "paredown", verb, str(recipe), "--out", str(recipe.parent / "runs")]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    output, errors = recipe.parent / f"{verb}.out", recipe.parent / f"{verb}.err"
    start = time.monotonic()
    with output.open("w") as out, errors.open("w") as err:
        child = subprocess.Popen(command, stdout=out, stderr=err, env=alone, start_new_session=True)
        stopped = False
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            if not stopped and time.monotonic() - start > limit:
                os.killpg(child.pid, signal.SIGKILL)
                stopped = True
            time.sleep(0.05)
    child.returncode = os.waitstatus_to_exitcode(status)
    code = None if stopped else child.returncode
    return Ended(
        code, time.monotonic() - start, usage.ru_maxrss / MIB, output.read_text(), errors.read_text(errors="replace")
    )


def tried(name: str, limit: float) -> Outcome:
    """A network through `check` and `run`: with replacements of blocks where it has blocks."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        check = ended("check", write_project(folder, name, blocks=True), limit)
        if NO_BLOCK in check.errors:
            check = ended("check", write_project(folder, name, blocks=False), limit)
        checked = Outcome(name, side_of(name), "refused", check.last_line, check.seconds, memory=check.memory)
        if check.code == 2 and "Traceback" not in check.errors:
            return checked
        if check.code is None:
            return replace(checked, outcome="stopped", line=f"in check, after {limit:g} s")
        if check.code != 0:
            return replace(checked, outcome="FAILED", line=f"check: {check.code}: {check.last_line}")
        run = ended("run", folder / "zoo.yaml", limit)
        done = replace(_covered(folder, checked), run_seconds=run.seconds, memory=max(check.memory, run.memory))
        if run.code == 0:
            return replace(done, outcome="runs", line="")
        if run.code is None:
            return replace(done, outcome="stopped", line=f"in {run.stage}, after {limit:g} s")
        return replace(done, outcome="FAILED", line=f"{run.stage}: {run.last_line}")


def _covered(folder: Path, outcome: Outcome) -> Outcome:
    """With what the plan changes: sites per transform, and how many layers get narrower and int8."""
    product = folder / "runs" / "zoo" / "plan"
    if not product.is_dir():
        return outcome
    plan = Plan.load(product)
    return replace(
        outcome,
        sites=dict(Counter(transform_and_place(site.name)[0] for site in plan.sites)),
        layers=len(plan.layers),
        narrowed=sum(_is_narrower(layer) for layer in plan.layers),
        int8=sum(layer.bits == 8 for layer in plan.layers),
    )


def _is_narrower(layer: PlannedLayer) -> bool:
    return (layer.kept_in, layer.kept_out) != (layer.channels_in, layer.channels_out)


def read_results(file: Path) -> dict[str, Outcome]:
    """The last outcome of every network that the file has a line of."""
    lines = file.read_text().splitlines() if file.exists() else []
    return {one["name"]: Outcome(**one) for one in map(json.loads, lines)}


def table(outcomes: Iterable[Outcome]) -> str:
    """The outcomes as a Markdown table."""
    columns = ("model", "px", "groups", "blocks", "layers", "narrower", "int8", "check, s", "run, s", "MiB", "outcome")
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    for one in outcomes:
        numbers = (
            (one.sites.get("narrow", 0), one.sites.get("substitute", 0), one.layers, one.narrowed, one.int8)
            if one.sites
            else ("",) * 5
        )
        run = f"{one.run_seconds:.0f}" if one.run_seconds else ""
        said = f"{one.outcome}: {one.line}" if one.line else one.outcome
        cells = (one.name, one.side, *numbers, f"{one.check_seconds:.0f}", run, f"{one.memory:.0f}", said)
        lines.append(f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)


def page(outcomes: Sequence[Outcome]) -> str:
    """The page of the documentation."""
    counts = {kind: sum(one.outcome == kind for one in outcomes) for kind in ("runs", "refused", "stopped", "FAILED")}
    said = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    untried = sorted({*NAMES} - {one.name for one in outcomes})
    missing = f"; not tried yet: {', '.join(untried)}" if untried else ""
    return f"""# The zoo: networks of timm and torchvision through every stage

Written by `python benchmarks/zoo.py --write`. Each network, with random weights and four classes, goes through
`paredown check` and then through every stage of a run (`library` where it has blocks), with one training step per
phase and a plan that takes the harshest candidate everywhere. That says what paredown can change, not how well it goes.

* groups and blocks: where channels can go, and what can be replaced;
* layers: convolutions, linear layers and additions that are left under the plan; narrower and int8: how many of these;
* seconds on one thread, and the most MiB that `check` or `run` held at once. Two networks at a time shared two cores
  with other work, so the seconds are an upper bound. Most of the MiB are for training.

A network that is refused is refused by `check`, in the line that is shown; one that is stopped took longer than a limit
in seconds. `FAILED` is one that `check` accepts and that fails later.

{said} of {len(outcomes)}{missing}.

{table(outcomes)}
"""


@click.command()
@click.option("--only", multiple=True, help="Only these, such as timm/repvgg_a0; tried again where there is a line.")
@click.option("--jobs", default=1, show_default=True, help="Networks at a time.")
@click.option("--limit", default=300.0, show_default=True, help="Seconds of one verb.")
@click.option("--results", default="runs/zoo.jsonl", show_default=True, type=click.Path(path_type=Path))
@click.option("--write", is_flag=True, help="Also write docs/zoo.md.")
def main(only: tuple[str, ...], jobs: int, limit: float, results: Path, write: bool) -> None:
    """Take networks of timm and torchvision through check and run."""
    results.parent.mkdir(parents=True, exist_ok=True)
    known = read_results(results)
    wanted = only or tuple(name for name in NAMES if name not in known)

    def take(name: str) -> None:
        outcome = tried(name, limit)
        with results.open("a") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")
        click.echo(f"{name}: {outcome.outcome} {outcome.line}", err=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(take, wanted))
    outcomes = [one for name, one in sorted(read_results(results).items()) if name in {*NAMES, *only}]
    click.echo(table(outcomes))
    if write:
        DOCUMENT.write_text(page(outcomes))


if __name__ == "__main__":
    main()
