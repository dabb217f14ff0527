"""Plans that an engine cannot run are left out and told of; nothing else is lost."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from paredown.models.errors import InputError, LimitError
from paredown.stages.base import State
from paredown.stages.limits import Target
from paredown.stages.planning.plan_meter import PlanMeter
from paredown.stages.planning.plan_space import load_plan_space, load_profile
from paredown.stages.planning.problem_builder import search_limits
from paredown.stages.planning.search_loop import SearchLoop
from paredown.stages.products.cost_profile import PlanSample
from paredown.stages.products.evidence import Evidence
from paredown.stages.products.losses import ExpectedLosses
from paredown.stages.products.product_files import read_notes
from paredown.stages.search import Search
from paredown.stages.solvers.milp import Milp
from paredown.stages.solvers.problem import Choice

Run = Callable[..., State]

ABORT = """
    def latency(self, models, load, rounds, runs, seed=0):
        from paredown.models.errors import InputError

        for model in models:
            constants = constant_arrays(onnx.load(model))
            bad, good = ([f"{name}.weight.q" in constants for name in names] for names in (BAD, GOOD))
            if all(bad) and not any(good):
                raise InputError(f"{model}: exact cannot use this file: it aborts")
        return [[[0.01 + sum(times(model).values())] * runs] * rounds for model in models]


    def ignored("""


def aborting(started: State, folder: Path, bad: tuple[str, ...], good: tuple[str, ...] = ()) -> State:
    """The state on a runtime that aborts where all `bad` layers and none of the `good` ones are int8."""
    text = (started.root / "exact.py").read_text()
    assert "    def latency(" in text
    text = text.replace("    def latency(", ABORT, 1).replace("BAD", repr(bad)).replace("GOOD", repr(good))
    (folder / "exact.py").write_text(text)
    return replace(started, target=Target(runtime=str(folder / "exact.py")))


class Refusing(PlanMeter):
    """Cannot run the first few plans that it is asked for."""

    few = 2

    def attempt(self, choice: Choice, memory: bool = False, rounds: int | None = None) -> PlanSample | None:
        if len(self.refusals) < self.few:
            self._refuse(InputError("it aborts"))
            return None
        return super().attempt(choice, memory, rounds)


class Useless(Refusing):
    few = 10**6


def loop_of(planned: State, folder: Path, meter: type[PlanMeter]) -> SearchLoop:
    space = load_plan_space(planned)
    limits = search_limits(planned.limits, Evidence.load(planned.product("baseline")), 0.05)
    made = meter(space, replace(planned, out=folder))
    return SearchLoop(
        Search(known=False).loop_options(),
        made,
        Milp(),
        ExpectedLosses.load(planned.product("sensitivity")).losses,
        limits,
    )


def test_random_plans_that_abort_are_left_out_of_the_profile(started: State, run: Run, tmp_path: Path) -> None:
    state = run(aborting(started, tmp_path, ("fc",), ("stem.0",)), "profile", tmp_path, plans=8, images=16)
    (line,) = read_notes(tmp_path)
    assert "left out, as the runtime could not run them: exact cannot use this file: it aborts" in line
    profile = load_profile(state)
    assert len(profile.samples) < 8 + 6 + 8  # 8 variants, 6 plans that alternate
    assert not list((tmp_path / "profile").glob("plan.onnx*"))


def test_a_precision_that_cannot_be_run_at_all_is_one_clear_line(started: State, run: Run, tmp_path: Path) -> None:
    state = aborting(started, tmp_path, ("fc",))
    with pytest.raises(InputError, match=r"no variant with .* in int8 could be profiled; .*it aborts"):
        run(state, "profile", tmp_path, plans=0, images=16)


def test_a_search_goes_on_with_a_plan_that_is_another_one(planned: State, tmp_path: Path) -> None:
    loop = loop_of(planned, tmp_path, Refusing)
    found = loop.run(load_profile(planned))
    assert found.holds and found.sample is not None
    assert len(loop.refused) == 2
    for refused in loop.refused:
        differ = sum(found.solution.choice.get(site) != name for site, name in refused.items())
        assert differ >= 0.1 * len(refused)
    assert loop.meter.notes("search") == ["search: 2 plans left out, as the runtime could not run them: it aborts"]


def test_where_no_plan_can_be_run_that_is_said_and_nothing_is_proved(
    planned: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paredown.stages.search.PlanMeter", Useless)
    with pytest.raises(LimitError, match="no plan that seemed to hold the limits could be run by the runtime"):
        Search(known=False, rounds=2).run(replace(planned, out=tmp_path))
    assert json.loads((tmp_path / "plan.json").read_text())["measured"] is None
