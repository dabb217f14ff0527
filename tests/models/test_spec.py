"""Parts of a recipe: what is left out of a part is the default of its place."""

from typing import Any

import pytest
from pydantic import Field, ValidationError

from paredown.models.spec import Spec
from paredown.stages.recover import Recover


class Pace(Spec):
    steps: int = 10
    rate: float = Field(1.0, gt=0)


class Phase(Spec):
    pace: Pace = Pace(rate=0.5)
    seed: int = 0


class Stage(Spec):
    first: Phase = Phase()
    last: Phase = Field(default_factory=lambda: Phase(pace=Pace(steps=2, rate=0.1), seed=1))
    maybe: Pace | None = Pace(steps=3)
    pace: Pace


@pytest.mark.parametrize(
    ("written", "last"),
    [
        ({}, (2, 0.1, 1)),
        ({"last": {}}, (2, 0.1, 1)),
        ({"last": {"seed": 5}}, (2, 0.1, 5)),
        ({"last": {"pace": {}}}, (2, 0.1, 1)),
        ({"last": {"pace": {"steps": 4}}}, (4, 0.1, 1)),
        ({"last": {"pace": {"steps": 10}}}, (10, 0.1, 1)),
        ({"last": {"pace": {"steps": 4, "rate": 1.0}, "seed": 0}}, (4, 1.0, 0)),
        ({"last": Phase()}, (10, 0.5, 0)),
    ],
)
def test_what_is_left_out_is_the_default_of_its_place(written: dict[str, Any], last: tuple[int, float, int]) -> None:
    stage = Stage.model_validate({"pace": {"rate": 3}, **written})
    assert (stage.last.pace.steps, stage.last.pace.rate, stage.last.seed) == last
    assert (stage.first, stage.pace) == (Phase(), Pace(rate=3))


def test_a_part_may_still_be_none() -> None:
    assert Stage.model_validate({"pace": {}, "maybe": None}).maybe is None
    assert Stage.model_validate({"pace": {}, "maybe": {"rate": 2}}).maybe == Pace(steps=3, rate=2)


@pytest.mark.parametrize(
    ("part", "kind"),
    [({"step": 1}, "extra_forbidden"), ({"rate": 0}, "greater_than"), (7, "model_type")],
)
def test_what_is_wrong_is_refused_as_it_was_written(part: Any, kind: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Stage.model_validate({"pace": {}, "last": {"pace": part}})
    (error,) = caught.value.errors()
    assert (error["type"], error["loc"][:2]) == (kind, ("last", "pace"))
    assert error["input"] == (next(iter(part.values())) if isinstance(part, dict) else part)


def test_phases_of_recover_keep_their_own_defaults() -> None:
    """A learning rate of 1e-3 in the int8 phase, and half the epochs in the float phase, came of leaving them out."""
    recover = Recover.model_validate({"quantize": {"epochs": 2}, "distil": {"batch": 64}})
    assert (recover.quantize.epochs, recover.quantize.lr) == (2, 1e-4)
    assert (recover.distil.epochs, recover.distil.batch, recover.distil.lr) == (8, 64, 1e-3)
    assert Recover.model_validate({"quantize": {}, "distil": {}}) == Recover()
    whole = {"epochs": 3, "batch": 16, "lr": 1e-3, "weight_decay": 0.0, "ema": 0.5, "bf16": True}
    assert Recover.model_validate({"quantize": whole}).quantize.model_dump() == whole


class Grown(Spec):
    ADDED = frozenset({"later"})

    first: int = 1
    later: str = "as before"


class Whole(Spec):
    part: Grown = Grown()


def test_added_keys_are_written_only_where_they_say_something() -> None:
    assert Whole().model_dump() == {"part": {"first": 1}}
    assert Whole(part=Grown(later="as before")).model_dump_json() == '{"part":{"first":1}}'
    assert Whole(part=Grown(later="now")).model_dump() == {"part": {"first": 1, "later": "now"}}
    assert Whole.model_validate(Whole(part=Grown(later="now")).model_dump()).part.later == "now"
