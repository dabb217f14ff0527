"""The student: the network that a plan makes of the original, as a module that is trained and as its artifact."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.fx import GraphModule

from paredown.models.compression.fake_quant import imitate_int8
from paredown.models.compression.qdq import file_ranges, insert_qdq, quantized_values
from paredown.models.compression.scales import Range
from paredown.models.compression.sparsity import Sparsity
from paredown.models.data.dataset import ImageData, Split
from paredown.models.network.batch_norm import fold_batch_norm
from paredown.models.network.logits import logits_behind
from paredown.models.network.trace import Network, analyse_network
from paredown.models.onnx.export import export_onnx
from paredown.stages.analysis.plan_network import network_of_plan
from paredown.stages.analysis.prepare import load_prepared_model
from paredown.stages.analysis.teacher import load_teacher, load_weights
from paredown.stages.base import State
from paredown.stages.engines.base import Engine
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.products.plan import Plan
from paredown.stages.training.distillation import softened_loss
from paredown.stages.training.statistics import reestimate_batch_norm
from paredown.stages.transforms.loading import engine_of_transforms, profiled_transforms, sparse_layers

NEARNESS = 512
"""Validation images on which statistics are compared."""


def apply_plan(state: State, data: ImageData, dense: bool = False) -> nn.Module:
    """The original with the plan applied, its weights those of the original that are left; `dense`: without the plan's
    zeros."""
    choice = Plan.load(state.product("plan")).choice
    prepared, module = network_of_plan(load_prepared_model(state), choice), load_teacher(state, data)
    for transform in profiled_transforms(state):
        if not (dense and transform.sparse_layers(choice)):
            module = transform.apply(prepared, choice, module)
    return module


def planned_zeros(state: State) -> dict[str, Sparsity]:
    """The layers whose weights the plan gives zeros."""
    return sparse_layers(profiled_transforms(state), Plan.load(state.product("plan")).choice)


def load_compressed(state: State, data: ImageData) -> nn.Module:
    """The student with the weights that `compress` left."""
    module = apply_plan(state, data)
    load_weights(module, state.product("compressed") / "weights.safetensors")
    return module


@dataclass(frozen=True)
class LoweredStudent:
    """A trained student: folded, traced and as fp32 ONNX, with the layers that become int8 with weights of `bits`."""

    network: Network
    model: ModelProto
    int8: tuple[str, ...]
    bits: int

    @classmethod
    def of(cls, module: nn.Module, state: State) -> "LoweredStudent":
        network = analyse_network(module, state.image_shape)
        model = export_onnx(network.module, network.shape, state.target.batch, network.graph)
        # Matched by their order: what the trace calls an addition depends on those before it, in blocks since replaced.
        pairs = zip(network.layers, Plan.load(state.product("plan")).layers, strict=True)
        int8 = tuple(layer.name for layer, planned in pairs if planned.bits == 8)
        return cls(network, model, int8, runtime_of(state).weight_bits())

    @staticmethod
    def fold(module: nn.Module, state: State) -> nn.Module:
        """A copy without batch norm: the form whose weights `recover` leaves."""
        return fold_batch_norm(module, state.image_shape)

    def values(self) -> set[str]:
        """The values whose ranges the artifact needs."""
        named = {node.name for node in self.network.graph.graph.nodes}
        return set(quantized_values(self.model, self.int8).values()) & named

    def ranges(self, engine: Engine, images: Sequence[Tensor]) -> dict[str, Range]:
        """As the engine calibrates the student, whose activations are no longer the original's."""
        fp32 = [layer.name for layer in self.network.layers if layer.name not in self.int8]
        return engine.ranges(self.network, images, self.values(), fp32)

    def imitation(self, ranges: dict[str, Range]) -> GraphModule:
        """What the artifact computes, in torch and with gradients."""
        rounded = file_ranges(self.model, self.int8, ranges) if self.int8 else ranges
        return imitate_int8(self.network.graph, rounded, self.int8, self.bits)

    def artifact(self, ranges: dict[str, Range]) -> ModelProto:
        return insert_qdq(self.model, self.int8, ranges, self.bits) if self.int8 else self.model


def planned_engine(state: State) -> Engine:
    """The engine that calibrated the original."""
    return engine_of_transforms(profiled_transforms(state), state.root)


def calibration_batches(data: ImageData) -> list[Tensor]:
    """The calibration images in batches of at most 32, (N, 3, H, W)."""
    return [torch.from_numpy(images) for images, _ in data.batches(data.calibration, 32)]


def settle_batch_norm(module: nn.Module, teacher: nn.Module, data: ImageData, batches: int, seed: int) -> None:
    """Estimates the batch norms' statistics anew where that brings the module's answers on validation images nearer to
    the teacher's; where nothing changed what they see, as by int8 alone, they stay the original's."""
    images = data.validation.take(NEARNESS, 0)
    wanted = _logits(teacher, data, images)
    before, held = _nearness(module, wanted, data, images), copy.deepcopy(module.state_dict())
    if before == (1.0, 0.0):
        return
    reestimate_batch_norm(module, data, batches, seed)
    if _nearness(module, wanted, data, images) < before:
        module.load_state_dict(held)


def _logits(module: nn.Module, data: ImageData, images: Split) -> list[Tensor]:
    """Batch by batch what a module makes of images, (N, classes) each."""
    module.eval()
    with torch.no_grad():
        return [logits_behind(module, torch.from_numpy(batch)) for batch, _ in data.batches(images, 64)]


def _nearness(module: nn.Module, wanted: list[Tensor], data: ImageData, images: Split) -> tuple[float, float]:
    """The share of images with the teacher's answer, and then minus the KL divergence from its `wanted` logits."""
    same, apart = 0, 0.0
    for own, theirs in zip(_logits(module, data, images), wanted, strict=True):
        same += int((own.argmax(1) == theirs.argmax(1)).sum())
        apart += abs(float(softened_loss(own, theirs, 1.0))) * len(theirs)
    return same / len(images), -round(apart / len(images), 6)
