"""What a plan's latency is on the target: every layer and every conversion between int8 and fp32, from times of both
that the runtime's profiler took in whole plans.

Layers are never timed alone: their sum is far off. In each measured plan the times are scaled so that they sum to its
latency, so that the sum of what is learnt from them needs no correction.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from paredown.models.network.layers import Layer
from paredown.models.network.weak_cache import remembered_per_object
from paredown.stages.analysis.dataflow import PassConditions
from paredown.stages.analysis.prepared_model import LayerForm
from paredown.stages.planning.footprint import LayerForms, layer_pixels
from paredown.stages.planning.work_law import Estimate, Work, WorkLaw
from paredown.stages.products.cost_profile import PlanTimes

MILLION = 1e6
PRIOR = 2
"""Plans without any effect that a scale of whole plans is weighed against."""
REGISTER = 16
"""Numbers of 32 bits in the widest registers there are."""
Borders = Sequence[tuple[Layer, Layer, PassConditions]]
"""As `dataflow.layer_borders` has them, of a plan's own network."""


def is_mixed(forms: LayerForms) -> bool:
    """Whether a plan has layers in int8 and in fp32."""
    return len({form.bits for _, form in forms}) > 1


class First:
    """Says of each name whether it is the first time."""

    def __init__(self) -> None:
        self._seen = set[str]()

    def __call__(self, name: str) -> bool:
        fresh = name not in self._seen
        self._seen.add(name)
        return fresh


@dataclass(frozen=True)
class TimedPlan:
    """A plan that was profiled: its layers with their forms, who reads whom, and the ms."""

    forms: LayerForms
    borders: Borders
    times: PlanTimes


def layer_work(layer: Layer, form: LayerForm, mixed: bool, first: bool = False) -> Work:
    """A layer's work: million multiplications, elements read and written, those of them whose width does not fit the
    registers, parameters, the layer itself, and whether it is the first of its kind."""
    groups, (read, made) = form.channels_in if layer.depthwise else layer.groups, layer_pixels(layer, form)
    weights = 0.0 if layer.op == "add" else layer.kernel * form.channels_in * form.channels_out / groups
    elements = read * form.channels_in / MILLION, made * form.channels_out / MILLION
    fits = alignment(form.channels_in), alignment(form.channels_out)
    misfits = (amount * (fit < REGISTER) for amount, fit in zip(elements, fits, strict=True))
    amounts = (made * weights / MILLION, *elements, *misfits, weights / MILLION, 1.0, float(first))
    return Work(layer.name, amounts, (form.channels_in, form.channels_out, made), (*fits, mixed))


def alignment(channels: int) -> int:
    """The largest power of two that divides a channel count, up to the numbers that a register holds: kernels take
    other paths where it is small, and 24 channels may take longer than 32."""
    return min(channels & -channels, REGISTER)


def layer_kind(layer: Layer, kernel: str) -> str:
    """The kind of work that a layer is: those of one kind share a law."""
    shape = "depthwise" if layer.depthwise else "pointwise" if layer.kernel == 1 else "spatial"
    return f"{shape if layer.op == 'conv' else layer.op} {kernel}"


def conversion_work(consumer: Layer, form: LayerForm, first: bool = False) -> Work:
    """The work of handing on a value to a layer that computes in another precision than the one that made it."""
    elements = crossing_elements(consumer, form)
    return Work(consumer.name, (elements, 1.0, float(first)), (elements,))


def crossing_elements(consumer: Layer, form: LayerForm) -> float:
    """Million elements that a layer reads: what is converted where they were made in another precision."""
    return layer_pixels(consumer, form)[0] * form.channels_in / MILLION


def conversion_kind(form: LayerForm) -> str:
    """The kind of work that a conversion is, for a reader in this form."""
    return f"conversion to {form.precision}"


@dataclass(frozen=True, eq=False)
class LatencyModel:
    """What was learnt from `plans`. Estimates are of CPU ms in context."""

    plans: Sequence[TimedPlan]

    @cached_property
    def laws(self) -> dict[str, WorkLaw]:
        seen: dict[str, list[tuple[Work, float]]] = defaultdict(list)
        for plan in self._explained:
            for kind, work, ms in observed(plan):
                seen[kind].append((work, ms))
        return {kind: WorkLaw(pairs) for kind, pairs in seen.items()}

    @cached_property
    def _ratios(self) -> list[float]:
        """Of each mixed plan the ms, over the sum of what all other plans say of its parts."""
        waiting = {kind: iter(law.left_out()) for kind, law in self.laws.items()}
        sums = [sum(next(waiting[kind]) for kind, _, _ in observed(plan)) for plan in self._explained]
        pairs = zip(self._explained, sums, strict=True)
        return [plan.times.total / (ms + plan.times.rest) for plan, ms in pairs if is_mixed(plan.forms)]

    @cached_property
    def scale(self) -> float:
        """How many times as long as the sum of their parts mixed plans take: parts take longer among others of another
        kind than among their like."""
        return float(np.median([*self._ratios, *[1.0] * PRIOR]))

    @cached_property
    def spread(self) -> float:
        """The standard deviation of that from plan to plan, as a share."""
        return float(np.std(self._ratios) / self.scale) if len(self._ratios) > PRIOR else 0.0

    @cached_property
    def fixed(self) -> float:
        """Ms of an inference that a solver takes every plan to have: those that belong to no layer, and what the first
        work of each kind takes on top."""
        return self.rest + sum(float(law.rates[-1]) for law in self.laws.values())

    @cached_property
    def rest(self) -> float:
        """Ms of an inference that belong to no layer, where nothing is converted."""
        rests = [plan.times.rest for plan in self.plans if not is_mixed(plan.forms)]
        return float(np.median(rests)) if rests else min(plan.times.rest for plan in self.plans)

    @cached_property
    def _explained(self) -> tuple[TimedPlan, ...]:
        return tuple(with_rest_explained(plan, self.rest) for plan in self.plans)

    @cached_property
    def _known(self) -> set[tuple[str, str]]:
        return {(layer.name, form.precision) for plan in self.plans for layer, form in plan.forms}

    def knows(self, layer: Layer, precision: str) -> bool:
        """Whether the layer itself was seen in that precision."""
        return (layer.name, precision) in self._known

    @cached_property
    def mixes(self) -> bool:
        """Whether there are mixed plans."""
        return any(is_mixed(plan.forms) for plan in self.plans)

    @remembered_per_object
    def layer(self, layer: Layer, form: LayerForm, mixed: bool | None = None, first: bool = False) -> Estimate:
        """What a layer takes in this form, in a mixed plan where there are such, unless it is said. Sparse layers take
        as long as dense ones where none was measured."""
        law = self.laws.get(layer_kind(layer, form.kernel)) or self.laws[layer_kind(layer, form.precision)]
        return law.estimate(layer_work(layer, form, self.mixes if mixed is None else mixed, first))

    @remembered_per_object
    def conversion(self, consumer: Layer, form: LayerForm, first: bool = False) -> Estimate:
        """What it costs a layer in this form to read a value that was made in the other precision."""
        law = self.laws.get(conversion_kind(form), UNSEEN)
        return law.estimate(conversion_work(consumer, form, first))

    def layers(self, forms: LayerForms) -> list[Estimate]:
        """What every layer of a whole plan takes, in their order, before the plan's scale."""
        mixed, first = is_mixed(forms), First()
        return [self.layer(layer, form, mixed, first(layer_kind(layer, form.kernel))) for layer, form in forms]

    def scale_of(self, forms: LayerForms) -> float:
        """How many times as long as the sum of its parts a plan takes."""
        return self.scale if is_mixed(forms) else 1.0

    def summed(self, forms: LayerForms, borders: Borders) -> float:
        """Ms of a plan as a solver sees them, before the `scale`: every kind of work is taken to be there, layers to
        be among others of another precision."""
        form_of = {layer.name: form for layer, form in forms}
        parts = [self.layer(layer, form) for layer, form in forms]
        parts += [self.conversion(*reading) for reading in conversions(form_of, borders)]
        return self.fixed + sum(part.ms for part in parts)

    def plan(self, forms: LayerForms, borders: Borders) -> Estimate:
        """What a whole plan takes; the deviations of its parts are taken to be independent."""
        form_of, first = {layer.name: form for layer, form in forms}, First()
        parts = self.layers(forms)
        parts += [self.conversion(*one, first(conversion_kind(one[1]))) for one in conversions(form_of, borders)]
        scale = self.scale_of(forms)
        ms = scale * (self.rest + sum(part.ms for part in parts))
        own = scale * float(np.sqrt(sum(part.deviation**2 for part in parts)))
        return Estimate(ms, float(np.hypot(own, self.spread * ms)))


def crossings(form_of: Mapping[str, LayerForm], borders: Borders) -> Iterator[tuple[Layer, Layer]]:
    """(producer, consumer) of values that are made in one precision and read in the other."""
    for producer, consumer, _ in borders:
        if form_of[producer.name].bits != form_of[consumer.name].bits:
            yield producer, consumer


def conversions(form_of: Mapping[str, LayerForm], borders: Borders) -> Iterator[tuple[Layer, LayerForm]]:
    """The layers, with their forms, that read a value of the other precision, once per value."""
    return ((consumer, form_of[consumer.name]) for _, consumer in crossings(form_of, borders))


UNSEEN = WorkLaw([(Work("", (1.0, 0.0, 0.0), (1.0,)), 0.6), (Work("", (0.0, 1.0, 0.0), (1.0,)), 0.005)])
"""Of conversions that no measured plan had: ms per million elements, and each."""


def observed(plan: TimedPlan) -> Iterator[tuple[str, Work, float]]:
    """(kind, work, ms) of every layer and conversion of a plan. What a value's conversions took is shared by all of its
    readers in another precision."""
    form_of, crossing = {layer.name: form for layer, form in plan.forms}, crossing_readers(plan)
    converted = _with_unfused_additions(plan, crossing)
    first, mixed = First(), is_mixed(plan.forms)
    for layer, form in plan.forms:
        if layer.name not in converted.additions:
            kind, ms = layer_kind(layer, form.kernel), plan.times.layers.get(layer.name, 0.0)
            if layer.name not in crossing:  # as where a value is rounded that both of its readers read in fp32
                ms += plan.times.conversions.get(layer.name, 0.0)
            yield kind, layer_work(layer, form, mixed, first(kind)), ms
    for name, readers in crossing.items():
        for consumer in readers:
            kind = conversion_kind(form := form_of[consumer.name])
            yield kind, conversion_work(consumer, form, first(kind)), converted.ms[name] / len(readers)


def crossing_readers(plan: TimedPlan) -> dict[str, list[Layer]]:
    """Layer to the layers that read its value in the other precision."""
    form_of, readers = {layer.name: form for layer, form in plan.forms}, dict[str, list[Layer]]()
    for producer, consumer in crossings(form_of, plan.borders):
        readers.setdefault(producer.name, []).append(consumer)
    return readers


def with_rest_explained(plan: TimedPlan, usual: float) -> TimedPlan:
    """The plan with what goes beyond the `usual` ms that belong to no layer shared among its conversions, by the
    elements that cross: OpenVINO does not say which layer a change of layout is for."""
    form_of, excess = {layer.name: form for layer, form in plan.forms}, plan.times.rest - usual
    crossing = {
        name: sum(crossing_elements(reader, form_of[reader.name]) for reader in readers)
        for name, readers in crossing_readers(plan).items()
    }
    if excess <= 0 or not crossing:
        return plan
    share = excess / sum(crossing.values())
    ms = {name: plan.times.conversions.get(name, 0.0) + share * elements for name, elements in crossing.items()}
    return replace(plan, times=replace(plan.times, conversions={**plan.times.conversions, **ms}, rest=usual))


@dataclass(frozen=True)
class _Converted:
    """Ms by layer whose value is converted, and the additions whose time is among them."""

    ms: dict[str, float]
    additions: set[str]


def _with_unfused_additions(plan: TimedPlan, readers: dict[str, list[Layer]]) -> _Converted:
    """What conversions took, with additions in fp32 that read int8: elsewhere they are computed inside the convolution
    before them and take no time, so that theirs is the conversion's doing."""
    form_of = {layer.name: form for layer, form in plan.forms}
    ms = {name: plan.times.conversions.get(name, 0.0) for name in readers}
    additions: dict[str, list[str]] = defaultdict(list)
    for name, behind in readers.items():
        for layer in behind:
            if layer.op == "add" and form_of[layer.name].bits != 8:
                additions[layer.name].append(name)
    for addition, sources in additions.items():
        own = plan.times.conversions.get(addition, 0.0) if addition not in readers else 0.0
        for name in sources:
            ms[name] += (plan.times.layers.get(addition, 0.0) + own) / len(sources)
    return _Converted(ms, set(additions))
