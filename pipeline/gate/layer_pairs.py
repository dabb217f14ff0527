"""Which layer of a model is which of its baseline, and which of them grew."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher

from paredown.models.onnx.facts import LayerFacts, ModelFacts

Pair = tuple[LayerFacts | None, LayerFacts | None]

COMPARED = 2000
"""Layers of one kind up to which those that did not change are looked for; beyond it the order alone counts."""

MATTERS = 0.02
"""Share of all that became slower under which a layer is not named: profiles are noisy."""

_PLAIN = {
    "QLinearConv": "Conv",
    "ConvInteger": "Conv",
    "FusedConv": "Conv",
    "FusedGemm": "Gemm",
    "FusedMatMul": "MatMul",
    "QLinearMatMul": "MatMul",
    "MatMulInteger": "MatMul",
    "QGemm": "Gemm",
}


def paired_layers(model: ModelFacts, baseline: ModelFacts) -> list[Pair]:
    """(model's layer, baseline's layer) in the model's order, then the baseline's layers that are gone.

    Every layer is in one pair; new ones have no baseline. They are matched by name; where less than half of the names
    agree, as in files of two exporters, by their order among layers of the same operator, in float or in int8.
    """
    after, before = _numbered(model.layers), _numbered(baseline.layers)
    same = [key for key in after if key in before]
    if 2 * len(same) < min(len(after), len(before)):
        matched = dict(_in_order(model.layers, baseline.layers))
    else:
        matched = {after[key]: before[key] for key in same}
    pairs = [(layer, _at(baseline, matched.get(place))) for place, layer in enumerate(model.layers)]
    taken = set(matched.values())
    return [*pairs, *((None, layer) for place, layer in enumerate(baseline.layers) if place not in taken)]


def layers_that_grew(
    model: ModelFacts, baseline: ModelFacts, measure: Callable[[LayerFacts], float]
) -> list[tuple[str, float]]:
    """(layer, how much more it has of `measure` than in the baseline) of those that grew, largest first."""
    grown = []
    for layer, before in paired_layers(model, baseline):
        more = (measure(layer) if layer else 0) - (measure(before) if before else 0)
        if layer and more > 0:
            grown.append((str(layer) if before else f"new {layer}", float(more)))
    return sorted(grown, key=lambda one: -one[1])


def layers_that_slowed(
    model: ModelFacts, baseline: ModelFacts | None, times: Mapping[str, Mapping[str, float]]
) -> list[tuple[str, float]]:
    """(layer, ms that it takes more than in the baseline) of those that matter, largest first; without a baseline the
    ms of all. `times` has the runtime's profile, node to ms, under `model` and `baseline`."""
    pairs = paired_layers(model, baseline) if baseline else [(layer, None) for layer in model.layers]
    slowed = []
    for layer, before in pairs:
        more = times["model"].get(layer.name, 0.0) if layer else 0.0
        more -= times["baseline"].get(before.name, 0.0) if before else 0.0
        if layer and more > 0:
            slowed.append((str(layer) if before or not baseline else f"new {layer}", more))
    least = MATTERS * sum(ms for _, ms in slowed)
    return sorted((one for one in slowed if one[1] >= least), key=lambda one: -one[1])


def _at(facts: ModelFacts, place: int | None) -> LayerFacts | None:
    return None if place is None else facts.layers[place]


def _numbered(layers: Sequence[LayerFacts]) -> dict[tuple[str, int], int]:
    """(name, how many had it before) to place: a file may give one name to several nodes."""
    seen, places = Counter[str](), dict[tuple[str, int], int]()
    for place, layer in enumerate(layers):
        places[layer.name, seen[layer.name]] = place
        seen[layer.name] += 1
    return places


def _in_order(after: Sequence[LayerFacts], before: Sequence[LayerFacts]) -> Iterator[tuple[int, int]]:
    """(place, place) of what is the same layer by its operator and order."""
    for kind in dict.fromkeys(_kind(layer.op) for layer in after):
        first, second = ([i for i, layer in enumerate(some) if _kind(layer.op) == kind] for some in (after, before))
        matches = _alike([_shape(after[i]) for i in first], [_shape(before[i]) for i in second])
        yield from ((first[i], second[j]) for i, j in matches)


def _kind(op: str) -> str:
    """The operator that it computes, in whatever precision."""
    bare = op.split("::")[-1]
    return _PLAIN.get(bare, op)


def _shape(layer: LayerFacts) -> Hashable:
    return layer.parameters, layer.macs


def _alike(after: Sequence[Hashable], before: Sequence[Hashable]) -> Iterator[tuple[int, int]]:
    """(place, place) in order: equal ones are paired first, so that one put in between does not shift the rest."""
    if max(len(after), len(before)) > COMPARED:
        yield from ((i, i) for i in range(min(len(after), len(before))))
        return
    for _, a, a_end, b, b_end in SequenceMatcher(None, after, before).get_opcodes():
        yield from zip(range(a, a_end), range(b, b_end), strict=False)
