"""What stands in for the profile and the search: the same subject, and only plans that the model can have."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from paredown.models.errors import InputError
from paredown.stages.base import State
from paredown.stages.products.plan import Plan
from paredown.stages.replay import Replay, UntimedProfile, check_plan
from paredown.stages.solvers.problem import Candidate, Site

BLOCK = Site("substitute:block", (Candidate("keep"), Candidate("wide")), ordered=False)
INNER = Site("narrow:block.conv", (Candidate("32"), Candidate("16")), ("substitute:block", "keep"))
OUTER = Site("quantize:fc", (Candidate("fp32"), Candidate("int8")))
SITES = (BLOCK, INNER, OUTER)


def replayed(planned: State, folder: Path) -> State:
    """A state in which the plan of the search is taken from a lock."""
    trace = UntimedProfile(transforms={"narrow": {}, "quantize": {}}, images=32)
    (folder / "profile").mkdir()
    trace.run(replace(planned, out=folder / "profile"))
    state = replace(planned, products={"baseline": planned.product("baseline"), "profile": folder / "profile"})
    (folder / "plan").mkdir()
    Replay(plan=Plan.load(planned.product("plan")).choice).run(replace(state, out=folder / "plan"))
    return state.with_product("plan", folder / "plan")


def test_later_stages_find_what_a_search_would_have_left(planned: State, tmp_path: Path) -> None:
    state = replayed(planned, tmp_path)
    for file in ("subject.json", "moments.safetensors", "pruned.safetensors"):
        assert (tmp_path / "profile" / file).read_bytes() == (planned.product("profile") / file).read_bytes()
    given, searched = (Plan.load(one.product("plan")) for one in (state, planned))
    assert given.replayed and not searched.replayed
    assert (given.choice, given.quantization) == (searched.choice, searched.quantization)
    assert given.layers == tuple(replace(layer, ms=None, baseline_ms=None) for layer in searched.layers)


def test_nothing_is_measured(planned: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a replay has no use for times")

    for name in ("latency", "node_times", "peak_memory"):
        monkeypatch.setattr(f"paredown.stages.runtimes.onnxruntime.OnnxRuntime.{name}", refuse)
    replayed(planned, tmp_path)
    told = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert told["replayed"] is True and told["measured"] is None


@pytest.mark.parametrize(
    "plan", [{"substitute:block": "wide"}, {"substitute:block": "keep", "narrow:block.conv": "16"}]
)
def test_plans_over_the_sites_pass(plan: dict[str, str]) -> None:
    check_plan(SITES, {**plan, "quantize:fc": "int8"})


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"quantize:fd": "int8"}, "names the site 'quantize:fd', which this model does not have; did you mean"),
        ({"x": "y"}, "which this model does not have; sites are: narrow:block.conv, quantize:fc, "),
        ({"substitute:block": "wide"}, "lacks the site 'quantize:fc'; its candidates: fp32, int8"),
        ({"substitute:block": "wide", "quantize:fc": "int9"}, "picks 'int9' at quantize:fc, which is not offered here"),
        (
            {"substitute:block": "wide", "narrow:block.conv": "16", "quantize:fc": "int8"},
            "decides sites of blocks that it replaces: narrow:block.conv",
        ),
    ],
)
def test_other_plans_are_refused_by_their_site(plan: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=r"^the lock's plan ") as caught:
        check_plan(SITES, plan)
    assert said in str(caught.value)


def test_a_pick_needs_what_goes_with_it() -> None:
    merged = Site("substitute:a", (Candidate("keep"), Candidate("absorbed", needs=(("substitute:b", "merged"),))))
    other = Site("substitute:b", (Candidate("keep"), Candidate("merged", needs=(("substitute:a", "absorbed"),))))
    check_plan((merged, other), {"substitute:a": "absorbed", "substitute:b": "merged"})
    with pytest.raises(InputError, match="substitute:a"):
        check_plan((merged, other), {"substitute:a": "absorbed", "substitute:b": "keep"})
