"""Prepares the original for a search: traces it, groups and ranks its channels, and calibrates ranges of its values."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from paredown.models.compression.channel_compensation import second_moments
from paredown.models.compression.channel_groups import agreeing_groups, find_channel_groups
from paredown.models.compression.channel_importance import rank_channels
from paredown.models.compression.narrow_onnx import narrows_alike
from paredown.models.compression.pruned_weights import load_pruned, prune_layers, save_pruned
from paredown.models.compression.qdq import quantizable_nodes, quantized_values
from paredown.models.compression.sparsity import Sparsity
from paredown.models.compression.supernet import attach_replacements, find_branches
from paredown.models.data.dataset import ImageData, Split
from paredown.models.network.layers import Layer
from paredown.models.network.trace import analyse_network
from paredown.models.onnx.edit import save_onnx
from paredown.models.onnx.export import export_onnx
from paredown.stages.analysis.changeable import classifier_of, layers_with_weights
from paredown.stages.analysis.plan_network import covering_picks, network_of_plan, site_of
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.analysis.replacements import load_replacements
from paredown.stages.analysis.teacher import load_teacher
from paredown.stages.base import State
from paredown.stages.engines.base import Engine, TunedQuantization
from paredown.stages.measuring.model_files import portable_model
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.products.calibration import Calibration


def prepare_model(
    state: State,
    images: int,
    blocks: bool,
    engine: Engine,
    sparsities: Callable[[Layer], Sequence[Sparsity]] = lambda _: (),
) -> PreparedModel:
    """Traces, calibrates on `images` calibration images, and writes down what later stages cannot trace again.

    The engine tunes on the original alone. With `blocks` the network is the supernet of the original and of all that
    the stage `library` has left. Layers are pruned, with reconstruction, to all `sparsities` that are named for them.
    """
    data = state.open_data()
    state.progress("profile: trace", 0, 1)
    traced = _traced_with_groups(state, data, blocks)
    state.progress("profile: calibrate", 0, 1)
    batches = list(_batches(data, data.calibration.take(images, state.seed)))
    seen = [batch for batch, _ in batches]
    tuned = engine.tune(
        network_of_plan(traced, {}).network, seen, lambda n: _batches(data, data.validation.take(n, state.seed))
    )
    offers = {layer.name: some for layer in traced.network.layers if (some := sparsities(layer))}
    prepared = replace(traced, tuned=tuned)
    for picks in covering_picks(traced.branches):
        one = network_of_plan(traced, {site_of(block): name for block, name in picks.items()})
        prepared = _calibrated(prepared, one, engine, batches)
        fresh = prune_layers(one.network, offers, seen, prepared.pruned, state.progress)
        prepared = replace(prepared, pruned={**prepared.pruned, **fresh})
    _save(prepared, state.out, blocks, images)
    return prepared


def _calibrated(
    prepared: PreparedModel, one: PreparedModel, engine: Engine, batches: Sequence[tuple[Tensor, Tensor]]
) -> PreparedModel:
    """`prepared` with what only `one`, one of the networks in its supernet, shows: ranges of values, importance of
    channels, moments of what layers read. What an earlier network already showed stays as it was there."""
    images = [batch for batch, _ in batches]
    values = sorted(_quantizable_values(one) - prepared.ranges.keys())
    groups = [group for group in one.groups if group.name not in prepared.channel_ranking]
    readers = {name for group in one.groups for name in group.inputs} - prepared.moments.keys()
    return replace(
        prepared,
        ranges={**engine.ranges(one.network, images, values, prepared.tuned.refused), **prepared.ranges},
        channel_ranking={**rank_channels(one.network, groups, batches), **prepared.channel_ranking},
        moments={**second_moments(one.network, readers, images), **prepared.moments},
    )


def _save(prepared: PreparedModel, folder: Path, blocks: bool, images: int) -> None:
    """Writes what `load_prepared_model` reads; the supernet only where there is one."""
    if blocks:
        save_onnx(prepared.model, folder / "supernet.onnx")
    calibration = Calibration(
        ranges=prepared.ranges,
        order=prepared.channel_ranking,
        groups=prepared.groups,
        blocks=blocks,
        refused=prepared.tuned.refused,
        engine=prepared.tuned.decisions,
        images=images,
    )
    calibration.save(folder)
    save_file(dict(prepared.moments), folder / "moments.safetensors")
    save_pruned(prepared.pruned, folder / "pruned.safetensors")


_last: dict[tuple[object, ...], PreparedModel] = {}
"""The prepared model that was loaded last: one stage after the other asks for the same one, and nothing changes it."""


def load_prepared_model(state: State) -> PreparedModel:
    """The prepared model as the stage `profile` calibrated it; the one that was loaded last is not traced again."""
    key = _made_of(state)
    if key not in _last:
        forget_prepared_model()
        _last[key] = _read_prepared_model(state)
    return _last[key]


def forget_prepared_model() -> None:
    """Lets go of the prepared model that was loaded last, which takes as much memory as some copies of the weights."""
    _last.clear()


def _made_of(state: State) -> tuple[object, ...]:
    """What decides a prepared model. A product's folder is named by a digest of all that decides it, the user's code
    and weights included; when it was written tells apart what was made in the same folder, one after the other."""
    folders = [state.products.get(name) for name in ("original", "baseline", "library", "profile")]
    written = (state.product("profile") / Calibration.FILE).stat()
    return (
        *(folder and folder.resolve() for folder in folders),
        (written.st_mtime_ns, written.st_ino, written.st_size),
        *(state.model.model_dump_json(), state.data.model_dump_json(), state.target.model_dump_json()),
        *(state.root, state.seed, state.few),
    )


def _read_prepared_model(state: State) -> PreparedModel:
    saved = Calibration.load(state.product("profile"))
    data = state.open_data()
    file = state.product("profile") / "supernet.onnx" if saved.blocks else _baseline(state)
    return replace(
        _traced(state, data, saved.blocks)[1],
        model=onnx.load(file),
        groups=saved.groups,
        channel_ranking=saved.order,
        ranges=saved.ranges,
        moments=load_file(state.product("profile") / "moments.safetensors"),
        pruned=load_pruned(state.product("profile") / "pruned.safetensors"),
        tuned=TunedQuantization(saved.refused, saved.engine),
    )


def _batches(data: ImageData, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    """(images (N, 3, H, W), labels (N,))"""
    return ((torch.from_numpy(x), torch.from_numpy(y)) for x, y in data.batches(split, 32))


def _baseline(state: State) -> Path:
    return portable_model(state.product("baseline"))


def _traced_with_groups(state: State, data: ImageData, blocks: bool) -> PreparedModel:
    """The network with its ONNX graph and its groups of channels, not yet calibrated. Finding the groups takes a while,
    and so does exporting the supernet; the original was exported by the baseline."""
    unfolded, prepared = _traced(state, data, blocks)
    network, batch = prepared.network, state.target.batch
    model = export_onnx(network.module, network.shape, batch, network.graph) if blocks else onnx.load(_baseline(state))
    return with_channel_groups(replace(prepared, model=model), unfolded)


def with_channel_groups(prepared: PreparedModel, unfolded: nn.Module) -> PreparedModel:
    """The exported model with its groups of channels; `unfolded` is the module with its batch norms, in which they must
    be narrowed too."""
    network, layers = prepared.network, layers_with_weights(prepared)
    found = find_channel_groups(network.module, network.shape, [classifier_of(network)], layers)
    agreed = agreeing_groups(found.groups, lambda some: narrows_alike(network, unfolded, prepared.model, some))
    unlike = {group.name: "sizes that are written into the network" for group in found.groups if group not in agreed}
    return replace(prepared, groups=agreed, refused_groups={**found.refused, **unlike})


def _traced(state: State, data: ImageData, blocks: bool) -> tuple[nn.Module, PreparedModel]:
    """The original with its replacements; and its network, with what the runtime is good at: all that is quick to find
    again."""
    runtime, original = runtime_of(state), load_teacher(state, data)
    replacements = load_replacements(state, original) if blocks else {}
    unfolded = attach_replacements(original, replacements)
    network = analyse_network(unfolded, state.image_shape)
    prepared = replace(
        PreparedModel.traced_only(network),
        weight_bits=runtime.weight_bits(),
        width_multiple=runtime.width_multiple(),
        branches=find_branches(network.graph, network.module),
        replacements=replacements,
    )
    return unfolded, prepared


def _quantizable_values(prepared: PreparedModel) -> set[str]:
    """The values that may be quantized in some plan: what layers compute, and what int8 layers would read."""
    made = {name for layer in prepared.network.layers for name in (layer.value, layer.output)}
    traced = {node.name for node in prepared.network.graph.graph.nodes}
    return made | traced & set(quantized_values(prepared.model, quantizable_nodes(prepared.model)).values())
