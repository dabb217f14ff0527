"""Small networks, images and a runtime with made-up but exact times, for tests of what is built on them."""

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from paredown.models.compression.channel_compensation import second_moments
from paredown.models.compression.channel_groups import channel_groups
from paredown.models.compression.fake_quant import observe_ranges
from paredown.models.compression.pruned_weights import PackedWeight, prune_layers
from paredown.models.compression.qdq import quantizable_nodes, quantized_values
from paredown.models.compression.scales import Range
from paredown.models.compression.supernet import Replacements, attach_replacements, find_branches
from paredown.models.data.dataset import ImageData, Split
from paredown.models.data.spec import DataSpec
from paredown.models.loading.spec import ModelSpec
from paredown.models.network.blocks import Place
from paredown.models.network.layers import Layer
from paredown.models.network.trace import analyse_network
from paredown.models.onnx.export import export_onnx
from paredown.stages.analysis.dataflow import layer_borders
from paredown.stages.analysis.plan_network import covering_picks, network_of_plan, site_of
from paredown.stages.analysis.prepared_model import LayerForm, PreparedModel
from paredown.stages.base import State
from paredown.stages.blocks.base import conv_unit
from paredown.stages.blocks.inverted_residual import InvertedResidual
from paredown.stages.limits import Bound, Limits, Target
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.problem_builder import build_problem
from paredown.stages.planning.teaching_plans import alternating_plans
from paredown.stages.plugins import load_plugin
from paredown.stages.products.cost_profile import CostProfile, PlanSample, PlanTimes
from paredown.stages.solvers.problem import Choice, Problem
from paredown.stages.training.schedule import Schedule
from paredown.stages.transforms.base import Transform
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.quantize import Quantize
from paredown.stages.transforms.sparsify import Sparsify
from paredown.stages.transforms.substitute import Substitute

torch.set_num_threads(1)

SHAPE = (3, 24, 24)
CLASSES = 3

NET = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(self.bn2(self.conv2(self.act(self.bn1(self.conv1(x))))) + x)


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.block = Block(16, 32)
        self.depthwise = nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=16, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.pointwise = nn.Sequential(nn.Conv2d(16, 48, 1, bias=False), nn.BatchNorm2d(48), nn.ReLU6())
        self.fc = nn.Linear(48, classes)

    def forward(self, x):
        x = self.block(self.stem(x))
        x = self.pointwise(torch.relu(self.bn(self.depthwise(x))))
        return self.fc(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def net(classes):
    return Net(classes)
"""

RUNTIME = '''
"""A runtime for tests: it runs for real, but a layer's time is its multiply-adds, int8 at 0.4 of them."""

import numpy as np
import onnx

from paredown.models.onnx.edit import constant_arrays, value_shapes
from paredown.stages.runtimes.onnxruntime import OnnxRuntime

BORDER = ("QuantizeLinear", "DequantizeLinear")


def times(path):
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    known, constants, found = value_shapes(model), constant_arrays(model), {}
    for node in model.graph.node:
        weight = node.input[1].removesuffix(".dq") if len(node.input) > 1 else ""
        int8 = f"{weight}.q" in constants
        value = constants.get(f"{weight}.q" if int8 else weight)
        if node.op_type in ("Conv", "Gemm"):
            pixels = np.prod(known[node.output[0]][2:])
            found[node.name] = (0.4 if int8 else 1.0) * float(value.size * pixels) / 1e6 + 0.002
        elif node.op_type == "Add":
            found[node.name] = 0.001
    return found


class Exact(OnnxRuntime):
    def version(self):
        return "exact 1"

    def weight_bits(self):
        return 7

    def width_multiple(self):
        return 8

    def node_times(self, model, load, runs):
        return times(model)

    def latency(self, models, load, rounds, runs, seed=0):
        return [[[0.01 + sum(times(model).values())] * runs] * rounds for model in models]

    def peak_memory(self, model, load):
        return 40.0 + 2 * model.stat().st_size / 2**20

    process_peak = peak_memory


PLUGIN = Exact
'''

SMALL_STAGES = {
    "fit": "epochs: 1, batch: 16",
    "baseline": "rounds: 1, runs: 3",
    "profile": "plans: 1, images: 16",
    "sensitivity": "images: 8, plans: 4",
    "search": "rounds: 2, front: 0, alternatives: 0",
    "compress": "batches: 2",
    "recover": "distil: {epochs: 1, lr: 0.001, batch: 16}, quantize: {epochs: 1, lr: 0.0001, batch: 16}",
    "export": "agreement: 0.5",
    "verify": "rounds: 1, runs: 3",
}
"""Every stage of a whole run, with options that make it as short as a test can wait for."""


def recipe_text(
    limits: str, runtime: str = "exact.py", image_size: int = 24, model: str = '"net.py:net"', **options: str
) -> str:
    """A recipe over `net.py` and `images.npz`; `options` are those of the stages that differ from `SMALL_STAGES`."""
    stages = SMALL_STAGES | options
    head = (
        f"model: {{source: {model}}}",
        f"data: {{source: images.npz, image_size: {image_size}, augment: none}}",
        f"target: {{runtime: {runtime}}}",
        f"limits: {{{limits}}}",
        "pipeline:",
    )
    return "\n".join([*head, *(f"  - {name}: {{{text}}}" for name, text in stages.items())]) + "\n"


def coloured_shapes(count: int, side: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(count, side, side, 3) noisy images of a square, a cross or a frame in any colour, and which one it is."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % CLASSES)
    images = rng.integers(0, 90, (count, side, side, 3), np.uint8)
    size = side // 2
    for image, label in zip(images, labels, strict=True):
        top, left = rng.integers(0, side - size, 2)
        mask = np.zeros((size, size), bool)
        third = slice(size // 3, 2 * size // 3)
        if label == 0:
            mask[:] = True
        elif label == 1:
            mask[third], mask[:, third] = True, True
        else:
            mask[:], mask[third, third] = True, False
            mask[2:-2, 2:-2] = False
        image[top : top + size, left : left + size][mask] = rng.integers(150, 256, 3)
    return images, labels


def warmed(module: nn.Module, shape: tuple[int, int, int] = SHAPE) -> nn.Module:
    """The module in evaluation mode, its batch norms with statistics of their own: else it computes almost nothing."""
    generator = torch.Generator().manual_seed(1)
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.weight.data.uniform_(0.5, 1.5, generator=generator)
        norm.bias.data.uniform_(-0.3, 0.3, generator=generator)
        norm.momentum = None
    with torch.no_grad():
        module.train()(torch.randn(16, *shape, generator=generator))
    return module.eval()


def subject_of(
    module: nn.Module, shape: tuple[int, int, int] = SHAPE, multiple: int = 8, replacements: Replacements | None = None
) -> PreparedModel:
    """A model that is calibrated on noise, with channels in an order of importance drawn at random."""
    network = analyse_network(attach_replacements(module, replacements or {}), shape)
    model = export_onnx(network.module, shape)
    head = [layer.name for layer in network.layers if layer.op != "add"][-1]
    groups = channel_groups(network.module, shape, keep=[head])
    images = torch.randn(16, *shape, generator=torch.Generator().manual_seed(2))
    rng = np.random.default_rng(0)
    order = {group.name: tuple(int(i) for i in rng.permutation(group.width)) for group in groups}
    found = find_branches(network.graph, network.module)
    bare = PreparedModel(network, model, groups, order, {}, 7, multiple, found, replacements or {})
    ranges: dict[str, Range] = {}
    moments: dict[str, torch.Tensor] = {}
    pruned: dict[str, dict[str, PackedWeight]] = {}
    for picks in covering_picks(found):
        one = network_of_plan(bare, {site_of(block): name for block, name in picks.items()})
        values = set(quantized_values(one.model, quantizable_nodes(one.model)).values())
        ranges = {**observe_ranges(one.network.graph, [images], values), **ranges}
        moments = {**second_moments(one.network, {n for g in one.groups for n in g.inputs}, [images]), **moments}
        wanted = {layer.name: Sparsify().offers(layer) for layer in one.network.layers}
        pruned |= prune_layers(one.network, {name: some for name, some in wanted.items() if some}, [images], pruned)
    return replace(bare, ranges=ranges, moments=moments, pruned=pruned)


def replacements_of() -> dict[str, dict[str, nn.Module]]:
    """For the one block of `NET`: two convolutions, an inverted residual, and nothing at all."""
    place = Place("block", (16, 12, 12), (16, 12, 12), "relu", True)
    torch.manual_seed(1)
    wide = nn.Sequential(conv_unit((16, 32), 3, act=nn.ReLU()), conv_unit((32, 16)), nn.ReLU())
    small = InvertedResidual(expansions=(2,), kernels=(3,)).build(place)["e2_k3"]
    made = {"wide": wide, "small": small, "nothing": nn.Identity()}
    return {"block": {name: warmed(module, place.shape_in) for name, module in made.items()}}


def profile_by(
    space: PlanSpace,
    plans: Sequence[Choice],
    layer_ms: Callable[[Layer, LayerForm], float],
    conversion_ms: Callable[[Layer, LayerForm], float] = lambda layer, form: 0.0,
) -> CostProfile:
    """A profile whose samples are these plans, their layers taking what the first function says and the conversions of
    what a layer made what the second one says."""
    samples = []
    for choice in plans:
        forms = dict(space.forms(choice))
        bits = {layer.name: form.bits for layer, form in forms.items()}
        read = [pair for pair in layer_borders(space.network_of(choice)) if bits[pair[0].name] != bits[pair[1].name]]
        layers = {layer.name: layer_ms(layer, form) for layer, form in forms.items()}
        converted = {made.name: conversion_ms(made, forms[made]) for made, _, _ in read}
        times = PlanTimes(layers, converted, 0.0)
        samples.append(PlanSample(choice, sum(layers.values()) + sum(converted.values()), 1.0, times=times))
    names = tuple(layer.name for layer in space.prepared.network.layers)
    return CostProfile(names, 1.0, 0.02, 45.0, 1.7, tuple(samples))


def random_profile(prepared: PreparedModel) -> CostProfile:
    """Layers of any width in fp32 and in int8, with times and conversions drawn at random."""
    rng = np.random.default_rng(1)
    blocks = (Substitute(),) if prepared.branches else ()
    space = PlanSpace(prepared, (*blocks, Narrow(), Quantize()))
    plans = [*space.variants(), *alternating_plans(space)]

    def drawn(layer: Layer, form: LayerForm) -> float:
        return float(rng.uniform(0.1, 1)) * (0.4 if form.bits == 8 else 1.0)

    return profile_by(space, plans, drawn, lambda layer, form: float(rng.uniform(0.01, 0.1)))


def random_problem(prepared: PreparedModel, transforms: Sequence[Transform], limits: dict[str, float]) -> Problem:
    """The search problem of that profile, with losses drawn at random."""
    rng = np.random.default_rng(2)
    losses = {
        site.name: {c.name: float(rng.uniform(0, 1)) for c in site.candidates}
        for site in PlanSpace(prepared, transforms).sites
    }
    return build_problem(PlanSpace(prepared, transforms), random_profile(prepared), losses, limits)


def run_stage(state: State, name: str, folder: Path | None = None, **options: object) -> State:
    """The state after a stage, which works in a folder named as its product (default: in the state's root)."""
    stage = load_plugin("stages", name)(**options)
    out = (folder or state.root) / stage.gives
    out.mkdir(exist_ok=True)
    stage.run(replace(state, out=out))
    return state.with_product(stage.gives, out)


@dataclass(frozen=True)
class Tools:
    """The builders above, for tests: files of tests cannot import each other."""

    shape: tuple[int, int, int]
    net_source: str
    runtime_source: str
    recipe_text: Callable[..., str]
    coloured_shapes: Callable[..., tuple[np.ndarray, np.ndarray]]
    warmed: Callable[..., nn.Module]
    subject_of: Callable[..., PreparedModel]
    profile_by: Callable[..., CostProfile]
    random_profile: Callable[[PreparedModel], CostProfile]
    random_problem: Callable[..., Problem]


@pytest.fixture(scope="session")
def tools() -> Tools:
    return Tools(
        SHAPE,
        NET,
        RUNTIME,
        recipe_text,
        coloured_shapes,
        warmed,
        subject_of,
        profile_by,
        random_profile,
        random_problem,
    )


@pytest.fixture(scope="session")
def _net() -> nn.Module:
    names: dict[str, Callable[[int], nn.Module]] = {}
    exec(NET, names)
    torch.manual_seed(0)
    return warmed(names["net"](CLASSES))


@pytest.fixture
def net(_net: nn.Module) -> nn.Module:
    """A residual block, a depthwise convolution and a classifier, with batch norms that matter."""
    return copy.deepcopy(_net)


@pytest.fixture(scope="session")
def prepared(_net: nn.Module) -> PreparedModel:
    return subject_of(copy.deepcopy(_net))


@pytest.fixture(scope="session")
def supernet(_net: nn.Module) -> PreparedModel:
    """The same with three replacements beside its residual block."""
    return subject_of(copy.deepcopy(_net), replacements=replacements_of())


@pytest.fixture(scope="session")
def data() -> ImageData:
    """96 images to train on and 32 in each other split, in memory."""
    images, labels = coloured_shapes(192, SHAPE[1])
    ends = (0, 96, 128, 160, 192)
    parts = [Split(images[a:b], labels[a:b]) for a, b in itertools.pairwise(ends)]
    return ImageData(*parts, ("square", "cross", "frame"), (0.45, 0.45, 0.45), (0.22, 0.22, 0.22), "made here", "0")


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory, _net: nn.Module) -> State:
    """A state with a model, images and the exact runtime, and the product `baseline`."""
    root = tmp_path_factory.mktemp("run")
    (root / "net.py").write_text(NET)
    (root / "exact.py").write_text(RUNTIME)
    torch.save(_net.state_dict(), root / "net.pth")
    images, labels = coloured_shapes(192, SHAPE[1])
    np.savez(root / "images.npz", images=images, labels=labels)
    state = State(
        model=ModelSpec(source="net.py:net", weights="net.pth"),
        data=DataSpec(source="images.npz", image_size=SHAPE[1]),
        target=Target(runtime="exact.py"),
        limits=Limits(latency_p50=Bound(value=0.5, unit="x"), size=Bound(value=0.6, unit="x")),
        seed=0,
        root=root,
        cache=root / "cache",
        out=root,
    )
    return run_stage(state, "baseline", rounds=1, runs=1)


@pytest.fixture(scope="session")
def run() -> Callable[..., State]:
    """`run_stage`, for tests that want other options."""
    return run_stage


@pytest.fixture(scope="session")
def planned(started: State) -> State:
    """The same after `profile`, `sensitivity` and `search`."""
    state = run_stage(started, "profile", plans=4, images=32)
    state = run_stage(state, "sensitivity", images=8, plans=8)
    return run_stage(state, "search", front=3, rounds=4)


@pytest.fixture(scope="session")
def finished(planned: State) -> State:
    """The same to the end, after one epoch of each phase."""
    state = run_stage(planned, "compress", batches=2)
    short = Schedule(epochs=1, lr=1e-3)
    state = run_stage(state, "recover", distil=short, quantize=short)
    state = run_stage(state, "export", agreement=0.8)
    return run_stage(state, "verify", rounds=1, runs=1)
