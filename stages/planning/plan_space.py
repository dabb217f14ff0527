"""All plans over one prepared model: what each of them makes of every layer, and what it is predicted to cost."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from onnx import ModelProto

from paredown.models.errors import InputError
from paredown.models.network.layers import Layer
from paredown.models.network.weak_cache import remembered_per_object
from paredown.stages.analysis.dataflow import layer_borders, value_lifetimes
from paredown.stages.analysis.plan_network import network_of_plan
from paredown.stages.analysis.prepare import load_prepared_model
from paredown.stages.analysis.prepared_model import LayerForm, PreparedModel
from paredown.stages.base import State
from paredown.stages.planning import footprint
from paredown.stages.planning.latency_model import Borders, LatencyModel, TimedPlan
from paredown.stages.planning.sites import sites_of, with_pins
from paredown.stages.planning.work_law import Estimate
from paredown.stages.products.cost_profile import CostProfile, PlanSample, ProfiledSites, Shares
from paredown.stages.solvers.problem import Choice, Costs, Pick, Site
from paredown.stages.transforms.base import Transform
from paredown.stages.transforms.loading import profiled_transforms


@dataclass(frozen=True, eq=False)
class PlanSpace:
    """A prepared model, and the transforms that may change it, in the order in which they are applied.

    A plan is a `Choice`, site to candidate; `{}` leaves the network as it is. What a plan costs is computed here from
    the layers that it leaves and their forms, never measured: see `PlanMeter`.
    """

    prepared: PreparedModel
    transforms: tuple[Transform, ...]

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """All sites with all of their candidates, of all transforms in order."""
        return sites_of(self.prepared, self.transforms)

    @cached_property
    def open_sites(self) -> tuple[Site, ...]:
        """The same as a search may decide them: of a pinned site the pinned candidate alone is left."""
        pins = {site: name for one in self.transforms for site, name in one.pinned(self.prepared).items()}
        return with_pins(self.sites, pins)

    def network_of(self, choice: Choice) -> PreparedModel:
        """The plan's own network, without the blocks that it does not pick; the same object for the same blocks."""
        return network_of_plan(self.prepared, choice)

    def form_of(self, layer: Layer, choice: Choice) -> LayerForm:
        """The form of a layer under a plan, all transforms applied in order; also of one that the plan leaves out."""
        form = LayerForm(layer.channels_in, layer.channels_out)
        for transform in self.transforms:
            form = transform.form(self.prepared, layer, form, choice)
        return form

    def forms(self, choice: Choice) -> footprint.LayerForms:
        """Every layer that the plan leaves, in order of depth, with its form."""
        own = replace(self, prepared=self.network_of(choice))
        return tuple((layer, own.form_of(layer, choice)) for layer in own.prepared.network.layers)

    def sites_touching(self, layer: Layer) -> tuple[str, ...]:
        """The names of the sites whose candidates change a layer's form, in the transforms' order."""
        names = (name for transform in self.transforms for name in transform.touching(self.prepared, layer))
        return tuple(dict.fromkeys(names))

    def precisions_of(self, layer: Layer) -> set[str]:
        """The precisions that a layer can have in some plan."""
        touching = set(self.sites_touching(layer))
        picks = ({site.name: c.name} for site in self.sites if site.name in touching for c in site.candidates)
        return {self.form_of(layer, choice).precision for choice in ({}, *picks)}

    def lower(self, choice: Choice) -> ModelProto:
        """The plan in the portable ONNX graph, with the weights as they are."""
        own = self.network_of(choice)
        model = own.model
        for transform in self.transforms:
            model = transform.lower(own, choice, model)
        return model

    def size_mib(self, choice: Choice, shares: Shares | None = None) -> float:
        """MiB of all parameters under a plan; without `shares` as they are loaded, with them as a container keeps
        them."""
        return footprint.size_mib(self.forms(choice), shares or {})

    def live_mib(self, choice: Choice) -> dict[int, float]:
        """MiB of live activations at every step of the plan's schedule."""
        return footprint.live_mib(self.forms(choice), value_lifetimes(self.network_of(choice)))

    def latency_model(self, profile: CostProfile) -> LatencyModel:
        """What is learnt from the profile's samples; the same object for the same profile."""
        return _latency_model(profile, self)

    def timed(self, sample: PlanSample) -> TimedPlan | None:
        """A measured plan as the latency model learns from it; None where the runtime did not say where time goes."""
        if sample.times is None:
            return None
        forms, borders = _layout(self, tuple(sorted(sample.choice.items())))
        return TimedPlan(forms, borders, sample.times)

    def latency_scale(self, profile: CostProfile) -> float:
        """How many times as long as the sum of their parts a solver takes all plans to take."""
        return self.latency_model(profile).scale * profile.latency_scale

    def latency(self, profile: CostProfile, choice: Choice) -> Estimate:
        """The predicted ms of a plan, and their standard deviation; what a solver sees of them is in `predict`."""
        found = self.latency_model(profile).plan(self.forms(choice), layer_borders(self.network_of(choice)))
        return Estimate(found.ms * profile.latency_scale, found.deviation * profile.latency_scale)

    def layer_ms(self, profile: CostProfile, choice: Choice) -> dict[str, float]:
        """The predicted ms of every layer that a plan leaves, in that plan: with conversions and what belongs to no
        layer they sum to its latency."""
        forms, model = self.forms(choice), self.latency_model(profile)
        scale = model.scale_of(forms) * profile.latency_scale
        return {layer.name: part.ms * scale for (layer, _), part in zip(forms, model.layers(forms), strict=True)}

    def predict(self, profile: CostProfile, choice: Choice) -> Costs:
        """`latency` (ms), `size` and peak `memory` (MiB) of a plan, as a solver sees them."""
        size = self.size_mib(choice, profile.shares) + profile.size_offset
        loaded = self.size_mib(choice)
        live = max(self.live_mib(choice).values())
        model, borders = self.latency_model(profile), layer_borders(self.network_of(choice))
        return {
            "latency": self.latency_scale(profile) * model.summed(self.forms(choice), borders),
            "size": size,
            "memory": profile.memory_floor + profile.memory_per_size * loaded + live,
        }

    def variants(self) -> list[Choice]:
        """The unchanged network, and every combination of the transforms' uniform choices, without those that come to
        the same layers as one before; sparse layers are seen at their whole width only."""
        options: list[Sequence[Choice]] = [({}, *transform.uniform(self.prepared)) for transform in self.transforms]
        every = ({k: v for part in parts for k, v in part.items()} for parts in itertools.product(*options))
        return [choice for choice in self.distinct(every) if not self._sparse_and_smaller(choice)]

    def distinct(self, choices: Iterable[Choice]) -> list[Choice]:
        """The plans without those that come to the same layers as one before."""
        seen = dict[tuple[tuple[Layer, LayerForm], ...], Choice]()
        for choice in choices:
            seen.setdefault(tuple(self.forms(choice)), choice)
        return list(seen.values())

    def _sparse_and_smaller(self, choice: Choice) -> bool:
        forms = self.forms(choice)
        whole = all(
            (f.channels_in, f.channels_out, f.pixels) == (n.channels_in, n.channels_out, None) for n, f in forms
        )
        return not whole and any(form.sparsity for _, form in forms)


@remembered_per_object
def _latency_model(profile: CostProfile, space: PlanSpace) -> LatencyModel:
    return LatencyModel([plan for sample in profile.samples if (plan := space.timed(sample))])


@remembered_per_object
def _layout(space: PlanSpace, picks: tuple[Pick, ...]) -> tuple[footprint.LayerForms, Borders]:
    """A plan's layers with their forms, and which of them reads which."""
    choice = dict(picks)
    return space.forms(choice), layer_borders(space.network_of(choice))


def load_plan_space(state: State) -> PlanSpace:
    """The model that the stage `profile` prepared, with the transforms that it named."""
    return PlanSpace(load_prepared_model(state), profiled_transforms(state))


def load_profile(state: State) -> CostProfile:
    """The cost model that the stage `profile` fitted. Raises InputError where a lock left the profile untimed."""
    profile = ProfiledSites.load(state.product("profile"))
    if profile.costs is None:
        raise InputError("the profile holds no times: it was made for the plan of a lock")
    return profile.costs
