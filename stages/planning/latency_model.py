"""What a plan costs on the target: predicted from a profile, corrected by whole plans that were measured.

A layer's time is fitted, per kernel (precision and sparsity), to the runtime's own profile of a few whole variants:
time = a macs + b inputs + c outputs + d. Where int8 meets fp32, conversion costs time per element and per border.
Isolated layers are never timed: their sum is far off. The terms are then scaled to whole plans that were really
measured.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear, nnls

from paredown.models.network.layers import Layer
from paredown.stages.analysis.dataflow import PassConditions
from paredown.stages.analysis.prepared_model import LayerForm
from paredown.stages.planning.footprint import LayerForms, layer_pixels
from paredown.stages.products.cost_profile import CostProfile

MILLION = 1e6
TERMS = (
    "dense fp32",
    "depthwise fp32",
    "dense int8",
    "depthwise int8",
    "sparse fp32",
    "sparse int8",
    "join",
    "border elements",
    "borders",
    "constant",
)
"""What a plan's latency is the weighted sum of; the weights are 1 until plans have been measured."""


def layer_features(layer: Layer, form: LayerForm) -> NDArray[np.float64]:
    """(macs, input elements, output elements, 1), the first three in millions."""
    groups, (read, made) = form.channels_in if layer.depthwise else layer.groups, layer_pixels(layer, form)
    macs = made * layer.kernel * form.channels_in * form.channels_out / groups
    elements = read * form.channels_in, made * form.channels_out
    return np.array([macs / MILLION, elements[0] / MILLION, elements[1] / MILLION, 1.0])


def fit_kernels(layer: Layer, times: Sequence[tuple[LayerForm, float]]) -> dict[str, tuple[float, ...]]:
    """Coefficients per kernel from (form, ms) pairs.

    Sparse kernels are measured at one width only: they are taken to be so many times as fast as the dense kernel at
    every width.
    """
    coefficients: dict[str, tuple[float, ...]] = {}
    for kernel, pairs in _by_kernel(times).items():
        precision = pairs[0][0].precision
        dense = coefficients.get(precision)
        if kernel == precision or dense is None:
            coefficients[kernel] = fit_layer_kernel(layer, pairs)
        else:
            share = float(
                np.mean([ms / max(layer_features(layer, form) @ np.array(dense), 1e-4) for form, ms in pairs])
            )
            coefficients[kernel] = tuple(value * share for value in dense)
    return coefficients


def _by_kernel(times: Sequence[tuple[LayerForm, float]]) -> dict[str, list[tuple[LayerForm, float]]]:
    """Kernel to its (form, ms) pairs, dense kernels first."""
    by_kernel: dict[str, list[tuple[LayerForm, float]]] = {}
    for form, ms in sorted(times, key=lambda pair: pair[0].sparsity is not None):
        by_kernel.setdefault(form.kernel, []).append((form, ms))
    return by_kernel


def fit_layer_kernel(layer: Layer, times: Sequence[tuple[LayerForm, float]]) -> tuple[float, ...]:
    """Non-negative coefficients of `layer_features` from (form, ms) pairs, in relative error."""
    rows = np.array([layer_features(layer, form) / max(ms, 1e-4) for form, ms in times])
    scale = np.maximum(rows.max(axis=0), 1e-12)
    solution, _ = nnls(rows / scale, np.ones(len(rows)))
    return tuple(float(value) for value in solution / scale)


def layer_ms(profile: CostProfile, layer: Layer, form: LayerForm) -> float:
    """Ms of one layer in context as the runtime's profile has it, before any weight."""
    return float(layer_features(layer, form) @ np.array(profile.layers[layer.name][_kernel(profile, layer, form)]))


def _kernel(profile: CostProfile, layer: Layer, form: LayerForm) -> str:
    return form.kernel if form.kernel in profile.layers[layer.name] else form.precision


def corrected_ms(profile: CostProfile, layer: Layer, form: LayerForm) -> float:
    """Ms of one layer in context, times the weight of its term, which was fitted to whole plans."""
    return profile.weights[latency_term_of(profile, layer, form)] * layer_ms(profile, layer, form)


def latency_term_of(profile: CostProfile, layer: Layer, form: LayerForm) -> int:
    """The number in `TERMS` of the term that a layer's time belongs to."""
    if layer.op == "add":
        return TERMS.index("join")
    sparse = _kernel(profile, layer, form) != form.precision
    kind = "sparse" if sparse else "depthwise" if layer.depthwise else "dense"
    return TERMS.index(f"{kind} {form.precision}")


def border_terms(consumer: Layer, producer: LayerForm, form: LayerForm) -> tuple[float, float]:
    """(million elements converted, borders) between two layers."""
    return (0.0, 0.0) if producer.bits == form.bits else (crossing_elements(consumer, form), 1.0)


def crossing_elements(consumer: Layer, form: LayerForm) -> float:
    """Million elements that a layer reads: what is converted where they were made in another precision."""
    return layer_pixels(consumer, form)[0] * form.channels_in / MILLION


def latency_terms(
    profile: CostProfile, forms: LayerForms, borders: Iterable[tuple[Layer, Layer, PassConditions]]
) -> NDArray[np.float64]:
    """(terms,) The latency terms of a whole plan in ms, in the order of TERMS; `borders` are those of
    `dataflow.layer_borders`, of the plan's own network."""
    total, form_of = np.zeros(len(TERMS)), {layer.name: form for layer, form in forms}
    for layer, form in forms:
        total[latency_term_of(profile, layer, form)] += layer_ms(profile, layer, form)
    for producer, consumer, _ in borders:
        elements, count = border_terms(consumer, form_of[producer.name], form_of[consumer.name])
        total[-3] += elements * ELEMENT_MS
        total[-2] += count * BORDER_MS
    total[-1] = CONSTANT_MS
    return total


ELEMENT_MS, BORDER_MS, CONSTANT_MS = 0.6, 0.01, 0.05
"""A first guess per million elements, per border and per inference: the weights correct it at once."""

STIFFNESS = np.array([3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 1.0, 0.5, 0.3, 0.3])
"""How strongly each weight is held near 1, in units of a 5 % error of one plan."""


def fit_weights(
    rows: NDArray[np.float64], measured: NDArray[np.float64], importance: NDArray[np.float64]
) -> tuple[float, ...]:
    """Weights of the terms (plans, terms) that explain the measured ms (plans,): ridge towards 1, in relative error."""
    scaled = rows / measured[:, None] / 0.05 * importance[:, None]
    matrix = np.vstack([scaled, np.diag(STIFFNESS)])
    target = np.concatenate([importance / 0.05, STIFFNESS])
    solution = lsq_linear(matrix, target, bounds=(0.0, 10.0)).x
    return tuple(float(value) for value in solution)
