"""What stands in for `profile` and `search` where a lock gives the plan: nothing is timed, nothing is solved."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from paredown.models.errors import InputError
from paredown.stages.analysis.prepare import prepare_model
from paredown.stages.base import Stage, State
from paredown.stages.planning.plan_space import PlanSpace, load_plan_space
from paredown.stages.planning.plan_table import planned_layers_untimed
from paredown.stages.plugins import allowed_choices
from paredown.stages.products.cost_profile import ProfiledSites, candidate_names
from paredown.stages.products.plan import Plan, SiteCandidates
from paredown.stages.solvers.problem import Choice, Problem, Site, is_plan, owners_first, site_exists
from paredown.stages.transforms.loading import engine_of_transforms, load_transforms, needed_products, sparsities


class UntimedProfile(Stage):
    """Gives what later stages need of a profile: the network traced and calibrated, and its candidates; no times."""

    needs: ClassVar[tuple[str, ...]] = ("baseline",)
    uses: ClassVar[tuple[str, ...]] = ("original", "library")
    gives: ClassVar[str] = "profile"
    reads: ClassVar[tuple[str, ...]] = ("model", "data", "target", "seed")

    transforms: dict[str, dict[str, Any]] = Field(description="those that took part, with their options, in order")
    images: int = Field(description="as `profile.images`")

    def run(self, state: State) -> None:
        transforms = tuple(load_transforms(self.transforms, state.root).values())
        engine = engine_of_transforms(transforms, state.root)
        blocks = "library" in needed_products(tuple(self.transforms), state.root)
        prepared = prepare_model(state, self.images, blocks, engine, sparsities(transforms))
        ProfiledSites(self.transforms, candidate_names(PlanSpace(prepared, transforms).open_sites)).save(state.out)


class Replay(Stage):
    """Writes the plan of its options as the product `plan`; raises InputError where this model cannot be changed so."""

    needs: ClassVar[tuple[str, ...]] = ("baseline", "profile")
    uses: ClassVar[tuple[str, ...]] = ("original", "library")
    gives: ClassVar[str] = "plan"
    reads: ClassVar[tuple[str, ...]] = ("data", "target", "seed")

    plan: dict[str, str] = Field(description="site to candidate")

    def run(self, state: State) -> None:
        space = load_plan_space(state)
        sites = space.open_sites
        check_plan(sites, self.plan)
        plan = Plan(
            replayed=True,
            choice=self.plan,
            sites=tuple(SiteCandidates(name, names) for name, names in candidate_names(sites).items()),
            layers=planned_layers_untimed(space, self.plan),
            quantization=space.prepared.tuned.decisions,
        )
        plan.save(state.out)


def check_plan(sites: Sequence[Site], plan: Choice) -> None:
    """Raises InputError, naming the site, where a plan is not one of the plans over these sites."""
    names = {site.name for site in sites}
    for name in plan:
        if name not in names:
            near = _some(name, sorted(names))
            raise InputError(f"the lock's plan names the site {name!r}, which this model does not have; {near}")
    for site in owners_first(Problem(tuple(sites))):
        if site_exists(site, plan):
            _check_site(site, plan)
    if not is_plan(Problem(tuple(sites)), plan):
        raise InputError(f"the lock's plan decides sites of blocks that it replaces: {_superfluous(sites, plan)}")


def _check_site(site: Site, plan: Mapping[str, str]) -> None:
    listed = [candidate.name for candidate in site.candidates]
    if site.name not in plan:
        raise InputError(f"the lock's plan lacks the site {site.name!r}; its candidates: {', '.join(listed)}")
    if plan[site.name] not in listed:
        got = f"the lock's plan picks {plan[site.name]!r} at {site.name}, which is not offered here"
        raise InputError(f"{got}; {allowed_choices(plan[site.name], listed)}")


def _superfluous(sites: Sequence[Site], plan: Mapping[str, str]) -> str:
    """The picks that cannot go together with the others."""
    gone = [site.name for site in sites if site.name in plan and not site_exists(site, plan)]
    alone = [s.name for s in sites for c in s.candidates if plan.get(s.name) == c.name and c.needs]
    return ", ".join((gone or alone)[:5])


def _some(got: str, allowed: Sequence[str], most: int = 5) -> str:
    """What is near, or the first few: a model may have hundreds of sites."""
    near = allowed_choices(got, allowed).partition(" allowed:")[0]
    return near if near.startswith("did you mean") else f"sites are: {', '.join([*allowed[:most], '...'])}"
