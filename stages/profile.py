"""Finds the sites and their candidates, and measures on the target what candidates cost inside the whole network."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from paredown.models.compression.sparsity import Sparsity
from paredown.models.errors import InputError
from paredown.models.network.layers import Layer
from paredown.models.network.trace import Network
from paredown.stages.analysis.changeable import classifier_of
from paredown.stages.analysis.prepare import prepare_model
from paredown.stages.analysis.prepared_model import PreparedModel
from paredown.stages.base import Stage, State
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.planning.correction import measured_plan, with_samples
from paredown.stages.planning.extremes import extreme_plans, first_and_last_variants
from paredown.stages.planning.plan_meter import PlanMeter, packed_shares
from paredown.stages.planning.plan_space import PlanSpace
from paredown.stages.planning.sites import random_choice
from paredown.stages.planning.teaching_plans import alternating_plans, sought_plan
from paredown.stages.plugins import make_named
from paredown.stages.products.cost_profile import CostProfile, PlanSample, ProfiledSites, candidate_names
from paredown.stages.products.product_files import write_notes
from paredown.stages.solvers.base import Solver
from paredown.stages.solvers.problem import Choice
from paredown.stages.transforms.base import Transform
from paredown.stages.transforms.loading import (
    engine_of_transforms,
    load_transforms,
    needed_products,
    sparse_layers,
    sparsities,
)


class ProfileStage(Stage):
    """Lists every candidate and measures, with the runtime's own profile, whole plans from which costs are learnt."""

    needs: ClassVar[tuple[str, ...]] = ("baseline",)
    uses: ClassVar[tuple[str, ...]] = ("original", "library")
    gives: ClassVar[str] = "profile"
    reads: ClassVar[tuple[str, ...]] = ("model", "data", "target", "seed")

    transforms: dict[str, dict[str, Any]] | tuple[str, ...] = Field(
        ("quantize", "narrow"), description="transforms to search over: names, or names with their options"
    )
    plans: int = Field(
        16,
        ge=0,
        description="whole plans measured beside uniform and alternating ones: one of four at random, others as a "
        "search picks them; with 0 only uniform ones",
    )
    images: int = Field(128, ge=8, description="calibration images for ranges and channel importance")

    def run(self, state: State) -> None:
        named = load_transforms(self._named(), state.root)
        paying = {name: transform for name, transform in named.items() if transform_pays(name, transform, state)}
        space = self._space(state, tuple(paying.values()), sparsities(tuple(paying.values())))
        notes = [left_out_warning(space.prepared, name, named[name], state) for name in named if name not in paying]
        _refuse_nothing(space, named, notes)
        meter = PlanMeter(space, state)
        every = [*space.variants(), *(alternating_plans(space) if self.plans else ())]
        self._save(paying, space, self._profile(meter, space.distinct(every)), state)
        write_notes(state.out, [*notes, *meter.notes("profile")])

    def rehearse(self, state: State) -> bool:
        """Prepares the model, lowers the extreme plans and lets the runtime run them, and profiles a few variants."""
        named = load_transforms(self._named(), state.root)
        paying = {name: transform for name, transform in named.items() if transform_pays(name, transform, state)}
        brief, offered = self.model_copy(update={"images": state.few, "plans": 1}), sparsities(tuple(paying.values()))
        space = brief._space(state, tuple(paying.values()), lambda layer: offered(layer)[-1:])
        _refuse_nothing(space, named, [])
        write_notes(state.out, [f"{name}: {one.coverage(space.prepared)}" for name, one in paying.items()])
        meter = PlanMeter(space, state, rounds=1, runs=1)
        for plan in extreme_plans(space):
            meter.lower(plan)
        self._save(paying, space, brief._profile(meter, first_and_last_variants(space)), state)
        return True

    def _space(
        self, state: State, transforms: tuple[Transform, ...], offered: Callable[[Layer], Sequence[Sparsity]]
    ) -> PlanSpace:
        """All plans over the model, which is prepared now; `offered` says to what its layers are pruned for that."""
        engine = engine_of_transforms(transforms, state.root)
        return PlanSpace(prepare_model(state, self.images, self._blocks(state.root), engine, offered), transforms)

    def _save(self, paying: Collection[str], space: PlanSpace, profile: CostProfile, state: State) -> None:
        options = {name: dict(self._named()[name]) for name in paying}
        ProfiledSites(options, candidate_names(space.open_sites), profile).save(state.out)

    def check(self, network: Network, root: Path) -> str:
        """Raises where a transform or its engine cannot be used, or what it pins is not in the model. Layers of
        replacements are not known yet: with these, pins are looked up when the stage runs."""
        transforms = load_transforms(self._named(), root)
        engine_of_transforms(tuple(transforms.values()), root)
        classifier_of(network)
        bare = PreparedModel.traced_only(network)
        pins = [] if self._blocks(root) else [site for one in transforms.values() for site in one.pinned(bare)]
        return f"{', '.join(transforms)}" + (f"; {len(pins)} sites pinned" if pins else "")

    def also_needs(self, root: Path) -> tuple[str, ...]:
        return needed_products(tuple(self._named()), root)

    def _named(self) -> Mapping[str, Mapping[str, Any]]:
        """The transforms as the recipe lists them, with their options."""
        return self.named_plugins().get("transforms", {})

    def _blocks(self, root: Path) -> bool:
        """Whether the network is prepared with the replacements of blocks that `library` has left."""
        return "library" in self.also_needs(root)

    def _profile(self, meter: PlanMeter, every: Sequence[Choice]) -> CostProfile:
        """What the runtime says of every plan in `every`, and of plans as a search picks them."""
        space, state = meter.space, meter.state
        # Zeros that are not skipped take as long as weights.
        skipped = meter.runtime.supports("sparse")
        fixed = every if skipped else [plan for plan in every if not sparse_layers(space.transforms, plan)]
        with_memory = {0, len(fixed) // 2, len(fixed) - 1}
        samples = list[PlanSample]()
        for index, choice in enumerate(fixed):
            state.progress("profile: whole plans", index, len(fixed) + self.plans)
            sample = meter.attempt(choice, memory=index in with_memory) if choice else meter.sample({}, memory=True)
            samples += [sample] if sample else []
        profile = replace(_with_memory(space, meter, samples), shares=_shares(meter, every))
        self._check_precisions(meter, profile)
        return self._taught(meter, profile, len(fixed))

    def _taught(self, meter: PlanMeter, profile: CostProfile, before: int) -> CostProfile:
        """The profile with `plans` more samples: three of four as a search with what is known so far would pick them,
        the others drawn at random."""
        space, state, rng = meter.space, meter.state, np.random.default_rng(meter.state.seed)
        solver: Solver = make_named("solvers", "milp", "profile", state.root)
        for index in range(self.plans):
            state.progress("profile: plans as a search picks them", before + index, before + self.plans)
            picked = sought_plan(space, profile, solver, rng) if index % 4 else random_choice(space.open_sites, rng)
            if drawn := measured_plan(meter, profile, picked):
                profile = with_samples(space, profile, (*profile.samples, drawn))
        return with_samples(space, profile, profile.samples)

    def _check_precisions(self, meter: PlanMeter, profile: CostProfile) -> None:
        """Raises InputError where the runtime could run no plan with a layer in a precision that it may have."""
        model = meter.space.latency_model(profile)
        for layer in meter.space.prepared.network.layers:
            lacks = sorted(kind for kind in meter.space.precisions_of(layer) if not model.knows(layer, kind))
            if lacks:
                refusal = "; ".join(meter.notes("profile"))
                raise InputError(f"no variant with {layer.name} in {' or '.join(lacks)} could be profiled; {refusal}")


def _refuse_nothing(space: PlanSpace, named: Iterable[str], notes: Sequence[str]) -> None:
    """Raises InputError where no transform finds a site."""
    if not space.sites:
        nothing = f"{', '.join(named)} finds nothing in this model to change"
        raise InputError("; ".join([f"profile.transforms: {nothing}", *notes]))


def _shares(meter: PlanMeter, variants: Sequence[Choice]) -> dict[str, dict[str, float]]:
    """Layer to kernel to the share of the weights' bytes that is left in the target's container; empty where the target
    has none."""
    shares: dict[str, dict[str, float]] = {}
    for choice in variants if meter.state.target.container != "plain" else ():
        packed = packed_shares(meter.lower(choice))
        for layer, form in meter.space.forms(choice):
            shares.setdefault(layer.name, {}).setdefault(form.kernel, packed.get(layer.name, 1.0))
    return shares


def _with_memory(space: PlanSpace, meter: PlanMeter, samples: Sequence[PlanSample]) -> CostProfile:
    """A profile of these samples, with peak memory as floor + slope x weights + live activations, the first two fitted
    to those whose memory was measured."""
    rows = [
        (space.size_mib(s.choice), s.peak_memory - max(space.live_mib(s.choice).values()))
        for s in samples
        if s.peak_memory
    ]
    sizes, peaks = np.array(rows).T
    slope = float(np.clip(np.polyfit(sizes, peaks, 1)[0], 0.5, 4.0)) if np.ptp(sizes) > 0.1 else 2.0
    plain = samples[0]
    offset = plain.size - space.size_mib(plain.choice)
    layers = tuple(layer.name for layer in space.prepared.network.layers)
    floor = float(np.max(peaks - slope * sizes))
    return CostProfile(layers, meter.baseline_ms, offset, floor, slope, tuple(samples))


def transform_pays(name: str, transform: Transform, state: State) -> bool:
    """Whether the target's runtime turns what a transform does into time or bytes.

    Raises InputError for what the runtime may not even run.
    """
    gains_something = transform.pays(runtime_of(state), state.target.container)
    if not gains_something and not transform.RUNS_ANYWHERE:
        reason = f"the runtime {state.target.runtime} {transform.no_gain()[0]}"
        raise InputError(f"profile.transforms: {reason}, so '{name}' would gain nothing; leave it out")
    return gains_something


def left_out_warning(prepared: PreparedModel, name: str, transform: Transform, state: State) -> str:
    """The warning, with what the harshest uniform choice of a transform that does not pay gains here, as measured."""
    *_, choice = ({}, *transform.uniform(prepared))
    meter = PlanMeter(PlanSpace(prepared, (transform,)), state)
    before, after = meter.sample({}), meter.sample(choice)
    measured = f"{after.latency / before.latency:.2f}x of the time and {after.size / before.size:.2f}x of the bytes"
    does, instead = transform.no_gain()
    return (
        f"{name} is left out: {state.target.runtime} {does}. With "
        f"{' and '.join(dict.fromkeys(choice.values()))} everywhere this network takes {measured}, measured just now. "
        f"{instead}"
    )


PLUGIN = ProfileStage
