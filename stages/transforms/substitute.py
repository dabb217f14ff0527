"""`substitute`: another block in the place of a block, trained beforehand to compute the same.

Its sites decide which network there is at all: `network_of_plan` has cut the picked branches out before any transform
sees a plan, so that in trace and file nothing is left to be done here.
"""

from collections.abc import Mapping
from typing import ClassVar

from onnx import ModelProto
from torch import nn
from torch.fx import GraphModule

from paredown.models.compression.supernet import ABSORBED, KEEP, Branch, pick_branch
from paredown.models.network.layers import Layer
from paredown.stages.analysis.plan_network import covering_picks, is_merged, picks_of, site_of
from paredown.stages.analysis.prepared_model import LayerForm, PreparedModel
from paredown.stages.solvers.problem import Candidate, Choice, Site
from paredown.stages.transforms.base import Transform


class Substitute(Transform):
    """Keeps every block or replaces it, alone or with the next one, by one of those that `library` has left."""

    FEATURE: ClassVar[str] = "substitute"
    ORDER: ClassVar[int] = -1
    NEEDS: ClassVar[tuple[str, ...]] = ("library",)
    CHANGES: ClassVar[Mapping[str, int]] = {
        "blocks replaced": 0,
        "blocks kept again": 1,
        "blocks replaced otherwise": 2,
    }

    def sites(self, prepared: PreparedModel) -> tuple[Site, ...]:
        before = (None, *prepared.branches)
        behind = (*prepared.branches[1:], None)
        return tuple(
            Site(site_of(branch.block), tuple(_candidate(n, first, last) for n in branch.values), ordered=False)
            for first, branch, last in zip(before, prepared.branches, behind, strict=False)
        )

    def coverage(self, prepared: PreparedModel) -> str:
        """The blocks and their replacements."""
        offers = [name for branch in prepared.branches for name in branch.values if name not in (KEEP, ABSORBED)]
        return f"{len(prepared.branches)} blocks, {len(offers)} replacements"

    def touching(self, prepared: PreparedModel, layer: Layer) -> tuple[str, ...]:
        """Nothing: a replacement decides which layers there are, not what they look like."""
        return ()

    def form(self, prepared: PreparedModel, layer: Layer, form: LayerForm, choice: Choice) -> LayerForm:
        return form

    def uniform(self, prepared: PreparedModel) -> tuple[Choice, ...]:
        alike = covering_picks(prepared.branches)[1:]
        return tuple({site_of(block): name for block, name in picks.items()} for picks in alike)

    def imitate(self, prepared: PreparedModel, choice: Choice, graph: GraphModule) -> GraphModule:
        return graph

    def lower(self, prepared: PreparedModel, choice: Choice, model: ModelProto) -> ModelProto:
        return model

    def apply(self, prepared: PreparedModel, choice: Choice, module: nn.Module) -> nn.Module:
        return pick_branch(module, prepared.replacements, picks_of(choice))

    @classmethod
    def change_kind(cls, before: str, after: str) -> str:
        if before == KEEP:
            return "blocks replaced"
        return "blocks kept again" if after == KEEP else "blocks replaced otherwise"


def _candidate(name: str, before: Branch | None, behind: Branch | None) -> Candidate:
    """A candidate of the block between two others: what stands for two blocks is picked in both or in none."""
    if is_merged(name):
        assert behind is not None
        return Candidate(name, needs=((site_of(behind.block), ABSORBED),))
    if name == ABSORBED:
        assert before is not None
        return Candidate(name, needs=tuple((site_of(before.block), n) for n in before.values if is_merged(n)))
    return Candidate(name)


PLUGIN = Substitute
