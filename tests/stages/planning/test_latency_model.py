"""What a plan is predicted to take, learnt from times of layers and conversions in whole plans."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paredown.models.network.layers import Layer
from paredown.stages.analysis.dataflow import layer_borders
from paredown.stages.analysis.prepared_model import LayerForm, PreparedModel
from paredown.stages.base import State
from paredown.stages.planning import latency_model
from paredown.stages.planning.latency_model import LatencyModel
from paredown.stages.planning.plan_space import PlanSpace, load_plan_space, load_profile
from paredown.stages.planning.plan_table import planned_layers
from paredown.stages.planning.teaching_plans import alternating_plans
from paredown.stages.products.cost_profile import CostProfile, PlanSample, PlanTimes
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.quantize import Quantize

BOTH = (Narrow(levels=(0.5,), round_to=8), Quantize())
CONV = Layer("c", "conv", ("x",), "v", "v", 16, 32, 9, 1, 100, 25)
DEPTHWISE = Layer("d", "conv", ("x",), "v", "v", 16, 16, 9, 16, 100, 100)
ADD = Layer("a", "add", ("x", "y"), "v", "v", 16, 16, 1, 1, 100, 100)


def amounts(layer: Layer, form: LayerForm) -> tuple[float, ...]:
    return latency_model.layer_work(layer, form, mixed=True).amounts


def test_the_work_of_a_layer_is_macs_elements_and_parameters_in_millions() -> None:
    macs, read, made, *misfits, weights, one, first = amounts(CONV, LayerForm(16, 32))
    assert (macs, read, made) == pytest.approx((25 * 9 * 16 * 32 / 1e6, 1600 / 1e6, 800 / 1e6))
    assert (misfits, weights, one, first) == ([0.0, 0.0], pytest.approx(9 * 16 * 32 / 1e6), 1.0, 0.0)
    smaller = amounts(CONV, LayerForm(16, 32, pixels=(64, 16)))
    assert smaller[:3] == pytest.approx((16 * 9 * 16 * 32 / 1e6, 64 * 16 / 1e6, 16 * 32 / 1e6))
    assert amounts(DEPTHWISE, LayerForm(16, 16))[0] == pytest.approx(100 * 9 * 16 / 1e6)
    assert amounts(ADD, LayerForm(16, 16))[0] == 0.0


def test_widths_that_no_register_holds_are_work_of_their_own() -> None:
    fits, misses = (latency_model.layer_work(CONV, LayerForm(16, width), mixed=True) for width in (32, 24))
    assert fits.amounts[4] == 0.0 and misses.amounts[4] == misses.amounts[2]
    assert fits.path != misses.path
    assert [latency_model.alignment(width) for width in (8, 16, 24, 32, 3)] == [8, 16, 8, 16, 1]


def law(layer: Layer, form: LayerForm) -> float:
    """Ms: int8 computes in 0.4 of the time."""
    work = latency_model.layer_work(layer, form, mixed=True).amounts
    return (0.4 if form.bits == 8 else 1.0) * (3 * work[0] + 2 * work[1] + 5 * work[2] + 0.004)


def converted(layer: Layer, form: LayerForm) -> float:
    return 0.02 if form.bits == 8 else 0.05


def known(space: PlanSpace, tools: Any) -> CostProfile:
    found: CostProfile = tools.profile_by(space, [*space.variants(), *alternating_plans(space)], law, converted)
    return found


def test_a_law_of_layers_and_conversions_is_found_again(prepared: PreparedModel, tools: Any) -> None:
    space = PlanSpace(prepared, BOTH)
    model = space.latency_model(known(space, tools))
    for layer in prepared.network.layers:
        for bits in (8, 32):
            form = replace(space.form_of(layer, {}), bits=bits)
            assert model.layer(layer, form).ms == pytest.approx(law(layer, form), rel=0.1, abs=0.001)
    consumer = next(b for _, b, _ in layer_borders(prepared) if b.op != "add")
    read = space.form_of(consumer, {})
    assert model.conversion(consumer, replace(read, bits=8)).ms > 1.3 * model.conversion(consumer, read).ms > 0


def test_a_plan_takes_its_parts_and_conversions_are_never_free(prepared: PreparedModel, tools: Any) -> None:
    space = PlanSpace(prepared, BOTH)
    profile = known(space, tools)
    plain, whole = space.latency(profile, {}), {f"quantize:{layer.name}": "int8" for layer in prepared.network.layers}
    assert plain.ms == pytest.approx(sum(law(layer, form) for layer, form in space.forms({})), rel=0.1)
    assert 0.3 * plain.ms < space.latency(profile, whole).ms < 0.5 * plain.ms
    scattered = {"quantize:block.conv1": "int8"}
    saved = sum(0.6 * law(layer, form) for layer, form in space.forms({}) if layer.name == "block.conv1")
    assert space.latency(profile, scattered).ms > plain.ms - saved + 0.03


def test_layers_are_told_as_they_are_in_their_own_plan(prepared: PreparedModel, tools: Any) -> None:
    """The original's in a network without int8, not among other kernels; where nothing is converted they are all."""
    space = PlanSpace(prepared, BOTH)
    mixed = tools.profile_by(space, alternating_plans(space), lambda *one: 1.3 * law(*one), converted).samples
    profile = replace(known(space, tools), samples=(*known(space, tools).samples, *mixed))
    rows = planned_layers(space, profile, {"quantize:fc": "int8"})
    before, after = sum(row.baseline_ms or 0.0 for row in rows), sum(row.ms or 0.0 for row in rows)
    assert before == pytest.approx(space.latency(profile, {}).ms)
    crossing = space.latency(profile, {"quantize:fc": "int8"}).ms - after
    assert 0 < crossing < 0.1


def test_what_is_learnt_of_a_measured_plan_is_all_of_its_latency(planned: State) -> None:
    space, profile = load_plan_space(planned), load_profile(planned)
    for sample in profile.samples:
        plan = space.timed(sample)
        assert plan is not None
        seen = sum(ms for _, _, ms in latency_model.observed(plan))
        assert seen + plan.times.rest == pytest.approx(sample.latency, rel=1e-3), sample.choice


def test_parts_that_take_longer_in_mixed_plans_are_seen(prepared: PreparedModel, tools: Any) -> None:
    space = PlanSpace(prepared, BOTH)
    uniform, mixed = space.variants(), list(alternating_plans(space))

    def slower(layer: Layer, form: LayerForm) -> float:
        return 1.3 * law(layer, form)

    among_their_like = tools.profile_by(space, uniform, law, converted).samples
    among_others = tools.profile_by(space, mixed, slower, converted).samples
    both = replace(known(space, tools), samples=(*among_their_like, *among_others))
    plan = mixed[0]
    expected = tools.profile_by(space, [plan], slower, converted).samples[0].latency
    assert space.latency(both, plan).ms == pytest.approx(expected, rel=0.1)
    assert space.latency(both, {}).ms == pytest.approx(space.latency(known(space, tools), {}).ms, rel=0.1)


def test_no_layer_of_a_plan_takes_no_time(prepared: PreparedModel, tools: Any) -> None:
    """Also where the runtime's profile had nothing of it, as of what it computes inside another node."""
    space = PlanSpace(prepared, BOTH)

    def hidden(layer: Layer, form: LayerForm) -> float:
        return 0.0 if layer.depthwise and form.bits == 32 else law(layer, form)

    profile = tools.profile_by(space, [*space.variants(), *alternating_plans(space)], hidden, converted)
    for plan in ({}, *alternating_plans(space)):
        for row in planned_layers(space, profile, plan):
            assert row.ms is not None and row.ms > 0, row.name


def test_an_addition_that_reads_int8_is_the_conversions_doing(prepared: PreparedModel, tools: Any) -> None:
    """Where it is computed inside a convolution it takes no time, so that it has no time of its own to learn."""
    space = PlanSpace(prepared, BOTH)

    def fused(layer: Layer, form: LayerForm) -> float:
        return 0.03 if layer.op == "add" else law(layer, form)

    plan = {f"quantize:{name}": "int8" for name in ("block.conv2",)}
    profile = tools.profile_by(space, [{}, plan], fused, converted)
    observed = [(kind, ms) for kind, _, ms in latency_model.observed(space.timed(profile.samples[1]))]
    assert not [kind for kind, _ in observed if kind == "add fp32"]
    from_int8 = sum(ms for kind, ms in observed if kind == "conversion to fp32")
    assert from_int8 == pytest.approx(0.02 + 0.03)


def test_a_model_of_no_mixed_plan_has_no_scale_of_them(prepared: PreparedModel, tools: Any) -> None:
    space = PlanSpace(prepared, BOTH)
    profile = tools.profile_by(space, space.variants(), law, converted)
    model = LatencyModel([plan for sample in profile.samples if (plan := space.timed(sample))])
    assert (model.scale, model.spread) == (1.0, 0.0)
    assert space.latency(profile, {"quantize:fc": "int8"}).ms > 0


def test_the_first_layer_of_a_kind_takes_longer_and_a_solver_pays_for_one_of_every_kind(
    prepared: PreparedModel, tools: Any
) -> None:
    space, samples = PlanSpace(prepared, BOTH), []
    for sample in known(space, tools).samples:
        first, layers = latency_model.First(), dict(sample.times.layers)
        for layer, form in space.forms(sample.choice):
            layers[layer.name] += 0.05 * first(latency_model.layer_kind(layer, form.kernel))
        times = replace(sample.times, layers=layers)
        samples.append(replace(sample, latency=times.total, times=times))
    model = space.latency_model(replace(known(space, tools), samples=tuple(samples)))
    stem = prepared.network.layers[0]
    ms = [model.layer(stem, LayerForm(stem.channels_in, stem.channels_out), first=one).ms for one in (True, False)]
    assert ms[0] - ms[1] == pytest.approx(0.05, rel=0.5)
    assert model.fixed > model.rest + 0.05


def test_rounding_that_is_no_conversion_counts_for_the_layer_that_made_the_value(
    prepared: PreparedModel, tools: Any
) -> None:
    space = PlanSpace(prepared, BOTH)
    (sample,) = tools.profile_by(space, [{}], law, converted).samples
    rounded = replace(sample.times, conversions={"block.conv1": 0.25})
    plain, found = (space.timed(replace(sample, times=times)) for times in (sample.times, rounded))
    more = [b - a for (*_, a), (*_, b) in zip(*map(latency_model.observed, (plain, found)), strict=True)]
    assert sorted(more)[-1] == sum(more) == pytest.approx(0.25)


def test_plans_that_scatter_are_less_sure(prepared: PreparedModel, tools: Any) -> None:
    space, rng = PlanSpace(prepared, BOTH), np.random.default_rng(0)
    steady = known(space, tools)
    shares = [float(share) for share in rng.lognormal(0, 0.2, len(steady.samples))]
    drawn = [
        tools.profile_by(space, [one.choice], lambda *of, s=share: s * law(*of), converted).samples[0]
        for one, share in zip(steady.samples, shares, strict=True)
    ]
    scattered, plan = replace(steady, samples=tuple(drawn)), next(iter(alternating_plans(space)))
    few, many = (space.latency(profile, plan) for profile in (steady, scattered))
    assert many.deviation / many.ms > 0.1 > 2 * few.deviation / few.ms


def test_changes_of_layout_that_no_layer_is_named_for_count_for_conversions(
    prepared: PreparedModel, tools: Any
) -> None:
    """As OpenVINO tells them: more of them in plans with more borders, and nothing of whose they are."""
    space = PlanSpace(prepared, BOTH)
    told = known(space, tools)

    def hidden(sample: PlanSample) -> PlanSample:
        assert sample.times is not None
        lumped = PlanTimes(sample.times.layers, {}, 0.01 + sum(sample.times.conversions.values()))
        return replace(sample, latency=sample.latency + 0.01, times=lumped)

    lumped = replace(told, samples=tuple(hidden(sample) for sample in told.samples))
    assert space.latency_model(lumped).rest == pytest.approx(0.01)
    for plan in alternating_plans(space):
        assert space.latency(lumped, plan).ms == pytest.approx(space.latency(told, plan).ms + 0.01, rel=0.1)
    assert space.latency(lumped, {}).ms < space.latency(told, {}).ms + 0.02


def test_nothing_of_a_plan_is_lost(prepared: PreparedModel, tools: Any) -> None:
    """Also where an addition is rounded although what reads it is in fp32."""
    space = PlanSpace(prepared, BOTH)
    profile = tools.profile_by(space, [{}, {"quantize:block.conv2": "int8"}], law, converted)
    sample = profile.samples[1]
    times = replace(sample.times, conversions={**sample.times.conversions, "add": 0.04})
    observed = latency_model.observed(space.timed(replace(sample, times=times)))
    assert sum(ms for _, _, ms in observed) == pytest.approx(times.total)
