"""Products as files: what is saved comes back, in the form that earlier versions wrote, and damage is one line."""

import json
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from paredown.models.errors import InputError
from paredown.models.network.blocks import Place
from paredown.models.network.layers import ChannelGroup
from paredown.stages.products.calibration import Calibration
from paredown.stages.products.cost_profile import CostProfile, PlanSample, PlanTimes, ProfiledSites
from paredown.stages.products.costs import CostSummary
from paredown.stages.products.evidence import AccuracyChange, Comparison, Evidence, LatencyEvidence
from paredown.stages.products.interval import Interval
from paredown.stages.products.loss_check import LossCheck
from paredown.stages.products.losses import ExpectedLosses
from paredown.stages.products.manifest import DataRecord, Manifest, MeasureRatios, ModelOrigin, TargetRecord
from paredown.stages.products.measure_check import MeasureCheck
from paredown.stages.products.parity import Parity
from paredown.stages.products.plan import (
    SEARCHED,
    BlockCandidate,
    MeasuredPlanRecord,
    Plan,
    PlannedBlock,
    PlannedLayer,
    SiteCandidates,
)
from paredown.stages.products.product_files import PRODUCTS, stage_of_product
from paredown.stages.products.ranges import CalibratedRanges
from paredown.stages.products.replacement_scores import ReplacementScore, ReplacementScores, TriedReplacements
from paredown.stages.products.training_curve import TrainingCurve, TrainingEpoch

LATENCY = LatencyEvidence(4.0, 6.0, spread=0.25, runs=180, rounds=9)
EVIDENCE = Evidence(LATENCY, 8.0, 90.0, {"test": 81.25}, {"test": 800}, "onnxruntime 1.31.0", {"cpu": "a CPU"})
PARITY = Parity(agreement=0.995, mean_difference=0.01, logit_spread=2.0, images=256, limit=0.95)
LAYER = PlannedLayer(
    name="stem", op="conv", depthwise=False, channels_in=3, channels_out=16, kept_in=3, kept_out=8, bits=8
)
SEARCHED_PLAN = Plan(
    choice={"narrow:stem": "8"},
    predicted=CostSummary(1.0, 2.0, memory=3.0, loss=0.5),
    measured=CostSummary(1.1, 2.0),
    sites=(SiteCandidates("narrow:stem", ("16", "8"), (0.0, 0.5)),),
    layers=(replace(LAYER, ms=0.25, baseline_ms=0.5),),
    quantization={"engine": "own"},
    limits={"latency": 1.2},
    margin=0.05,
    baseline=EVIDENCE,
    measured_plans=(MeasuredPlanRecord(CostSummary(1.0, 2.0, 3.0), CostSummary(1.1, 2.0), 0.5, holds=True),),
    front=(CostSummary(1.0, 2.0, 3.0, loss=0.5),),
    blocks=(PlannedBlock("block", "keep", (BlockCandidate("keep", 0.0, {"32": 0.25, "8": 0.125}),)),),
    gap=0.0,
    solve_seconds=0.5,
    loss_check=LossCheck(
        predicted=0.5,
        spread=0.25,
        most=2.0,
        measured=0.75,
        error=0.125,
        images=64,
        before=80.0,
        points=-2.5,
        points_error=1.5,
    ),
)
GIVEN_PLAN = Plan(
    replayed=True, choice={"narrow:stem": "8"}, sites=(SiteCandidates("narrow:stem", ("16", "8")),), layers=(LAYER,)
)
COSTS = CostProfile(
    ("stem",),
    4.0,
    0.1,
    40.0,
    2.0,
    (PlanSample({}, 4.0, 8.0), PlanSample({}, 4.0, 8.0, times=PlanTimes({"stem": 3.5}, {"stem": 0.25}, 0.25))),
    {"stem": {"fp32": 0.5}},
    1.5,
)
SCORE = ReplacementScore(error=0.25, macs=2.0, elements=0.5, parameters=9.0, steps=4)
TRIED = TriedReplacements(
    Place("block", (16, 8, 8), (16, 8, 8), "relu", True), "block", SCORE, ("thin",), {"thin": SCORE}
)
CHECKED = ("before", "after", "limit", "holds")
DOCUMENTS = (
    EVIDENCE,
    PARITY,
    SEARCHED_PLAN,
    GIVEN_PLAN,
    ExpectedLosses({"narrow:stem": {"16": 0.0}}, {"narrow": 1.0}, {"narrow:stem": 1.0}, None, 0),
    ExpectedLosses({"a": {"b": 0.5}}, {}, {}, 0.5, 8, power=1.25, spread=0.5, most=2.0, errors={"a": {"b": 0.125}}),
    ProfiledSites({"narrow": {}}, {"narrow:stem": ("16", "8")}, COSTS),
    ProfiledSites({"narrow": {}}, {"narrow:stem": ("16", "8")}),
    TrainingCurve((TrainingEpoch("fit", 1, 0.5, 80.0, 9.0, bf16=True, threads=2),)),
    CalibratedRanges({"relu": (0.0, 4.5)}),
    Calibration({"x": (-1.0, 1.0)}, {"stem": (1, 0)}, (ChannelGroup("stem", 2, ("stem",), ()),), False, ("fc",), {}),
    ReplacementScores({"thin": {"ratio": 4}}, {"block": TRIED}, {}),
    Manifest(
        paredown="0.1.0",
        model=ModelOrigin("net.py:net"),
        target=TargetRecord("onnxruntime"),
        data=DataRecord(("a", "b"), {"test": 800}, "CC0"),
        checks=(
            MeasureCheck("size", "MiB", 8.0, 2.0, None, None),
            MeasureCheck("latency p50", "ms", 4.0, 2.0, 3.0, True, (3, 5), (1, 3), Interval(0.5, 0.2, 0.8), worst=3.2),
        ),
        baseline=EVIDENCE,
        artifact=replace(
            EVIDENCE,
            latency=replace(LATENCY, p50_ends=(3.5, 4.5), p95_ends=(5.0, 7.0)),
            peak_memory_ends=(89.0, 91.0),
            accuracy_ends={"test": (78.5, 84.0)},
        ),
        ratios=MeasureRatios(0.5, 0.25, 1.0, (0.4, 0.6), 0.5, (0.3, 0.7), (0.9, 1.1)),
        confidence=0.95,
        accuracy_change={"test": AccuracyChange(Interval(-0.5, -2.0, 1.0), lost=9, gained=5, images=800)},
        parity=PARITY,
        sha256={"model.onnx": "ab" * 32, "baseline/model.onnx": "cd" * 32},
        compare=(Comparison("openvino", LATENCY, LATENCY, 1.0),),
    ),
)


def saved(document: Any, folder: Path) -> Any:
    """The file's JSON."""
    document.save(folder)
    return json.loads((folder / document.FILE).read_text())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: type(document).__name__)
def test_what_is_saved_comes_back(document: Any, tmp_path: Path) -> None:
    document.save(tmp_path)
    assert type(document).load(tmp_path) == document


FORMS = (
    (
        Parity(agreement=1.0, mean_difference=0.5, logit_spread=2.0, images=8, limit=0.95),
        """\
{
  "agreement": 1.0,
  "mean_difference": 0.5,
  "logit_spread": 2.0,
  "images": 8,
  "limit": 0.95
}
""",
    ),
    (
        CalibratedRanges({"relu": (0.0, 4.5), "add": (-1.0, 1.0)}),
        """\
{
 "add": [
  -1.0,
  1.0
 ],
 "relu": [
  0.0,
  4.5
 ]
}
""",
    ),
    (
        TrainingCurve((TrainingEpoch("fit", 1, 0.5, 80.0, 9.0),)),
        """\
[
  {
    "phase": "fit",
    "epoch": 1,
    "loss": 0.5,
    "accuracy": 80.0,
    "seconds": 9.0,
    "bf16": false,
    "device": "cpu",
    "threads": 1,
    "processes": 1
  }
]
""",
    ),
    (
        ExpectedLosses({"narrow:stem": {"16": 0.0}}, {"narrow": 1.0}, {"narrow:stem": 0.5}, None, 0),
        """\
{
 "losses": {
  "narrow:stem": {
   "16": 0.0
  }
 },
 "coefficients": {
  "narrow": 1.0
 },
 "factors": {
  "narrow:stem": 0.5
 },
 "spearman": null,
 "plans": 0
}
""",
    ),
    (
        Calibration({"x": (-1.0, 1.0)}, {"stem": (1, 0)}, (), False, (), {"engine": "own"}),
        (
            '{"ranges": {"x": [-1.0, 1.0]}, "order": {"stem": [1, 0]}, "groups": [], "blocks": false, '
            '"tuned": {"refused": [], "told": {"engine": "own"}}}\n'
        ),
    ),
)


@pytest.mark.parametrize(("document", "text"), FORMS, ids=[type(document).__name__ for document, _ in FORMS])
def test_the_form_on_disk_is_that_of_earlier_versions(document: Any, text: str, tmp_path: Path) -> None:
    document.save(tmp_path)
    assert (tmp_path / document.FILE).read_text() == text


def test_a_manifest_of_an_earlier_version_has_no_intervals(tmp_path: Path) -> None:
    (document,) = [one for one in DOCUMENTS if isinstance(one, Manifest)]
    content = saved(document, tmp_path)
    for name in ("confidence", "accuracy_change"):
        del content[name]
    content["checks"] = [{name: check[name] for name in ("name", "unit", *CHECKED)} for check in content["checks"]]
    (tmp_path / document.FILE).write_text(json.dumps(content))
    back = Manifest.load(tmp_path)
    assert (back.confidence, back.accuracy_change, back.checks[1].change) == (0.99, {}, None)
    assert [check.before for check in back.checks] == [8.0, 4.0]


def test_a_searched_plan_has_all_keys_but_that_of_a_given_one(tmp_path: Path) -> None:
    assert saved(SEARCHED_PLAN, tmp_path).keys() == {field.name for field in fields(Plan)} - {"replayed"}


def test_a_given_plan_has_no_keys_of_a_search_and_no_times(tmp_path: Path) -> None:
    document = saved(GIVEN_PLAN, tmp_path)
    assert document.keys() == {field.name for field in fields(Plan)} - set(SEARCHED)
    assert (document["replayed"], document["predicted"], document["measured"]) == (True, {}, None)
    assert document["sites"] == [{"name": "narrow:stem", "candidates": ["16", "8"]}]
    assert not {"ms", "baseline_ms"} & document["layers"][0].keys()


def test_costs_that_are_not_known_are_left_out(tmp_path: Path) -> None:
    document = saved(SEARCHED_PLAN, tmp_path)
    assert document["measured"] == {"latency": 1.1, "size": 2.0}
    assert document["predicted"] == {"latency": 1.0, "size": 2.0, "memory": 3.0, "loss": 0.5}


def test_only_alternatives_have_a_disturbance_which_is_null_for_a_missed_limit(tmp_path: Path) -> None:
    (record,) = SEARCHED_PLAN.measured_plans
    alternatives = (record, replace(record, disturbance=0.25), replace(record, disturbance=None))
    written = saved(replace(SEARCHED_PLAN, measured_plans=alternatives), tmp_path)["measured_plans"]
    assert ["disturbance" in one for one in written] == [False, True, True]
    back = [one.disturbance for one in Plan.load(tmp_path).measured_plans]
    assert back[0] is not None and math.isnan(back[0]) and back[1:] == [0.25, None]


def test_a_profile_has_its_costs_beside_what_is_offered(tmp_path: Path) -> None:
    costs = [field.name for field in fields(CostProfile)]
    assert list(saved(ProfiledSites({}, {}, COSTS), tmp_path)) == [*costs, "transforms", "sites"]
    assert list(saved(ProfiledSites({}, {}), tmp_path)) == ["transforms", "sites"]


def test_what_an_engine_decided_stands_together(tmp_path: Path) -> None:
    document = saved(Calibration({}, {}, (), True, ("fc",), {"engine": "own"}), tmp_path)
    assert document["tuned"] == {"refused": ["fc"], "told": {"engine": "own"}}


def test_unknown_keys_are_dropped_and_missing_ones_have_defaults(tmp_path: Path) -> None:
    (tmp_path / "curves.json").write_text(
        '[{"phase": "fit", "epoch": 1, "loss": 1, "accuracy": 50, "seconds": 2, "x": 0}]'
    )
    assert TrainingCurve.load(tmp_path).epochs == (TrainingEpoch("fit", 1, 1.0, 50.0, 2.0),)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[]", r"evidence\.json: damaged, it is not what a run writes \(.*dictionary"),
        ("{", r"evidence\.json: no JSON that can be read"),
        ('{"latency": null, "size": "large"}', r"\(size: Input should be a valid number"),
        ('{"latency": {"p50": 1}}', r"\(latency\.p95: Field required"),
    ],
)
def test_damage_is_one_line_with_file_and_field(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "evidence.json").write_text(text)
    with pytest.raises(InputError, match=complaint) as caught:
        Evidence.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_stages_are_named_by_their_products() -> None:
    assert [stage_of_product(product) for product in ("plan", "artifact", "mine")] == ["search", "verify", "mine"]
    assert {product.stage for product in PRODUCTS.values()} >= {"fit", "search", "verify"}
