"""The report and the closing table, from small products."""

import errno
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from paredown.models.errors import MachineError
from paredown.pipeline.report.closing_table import closing_table
from paredown.pipeline.report.layer_rows import layer_rows
from paredown.pipeline.report.plan_drawing import layer_pictures
from paredown.pipeline.report.report import render_report
from paredown.stages.products.cost_profile import CostProfile, PlanSample, ProfiledSites
from paredown.stages.products.costs import CostSummary
from paredown.stages.products.evidence import Comparison, Evidence, LatencyEvidence
from paredown.stages.products.loss_check import LossCheck
from paredown.stages.products.losses import ExpectedLosses
from paredown.stages.products.manifest import DataRecord, Manifest, MeasureRatios, ModelOrigin, TargetRecord
from paredown.stages.products.measure_check import MeasureCheck
from paredown.stages.products.parity import Parity
from paredown.stages.products.plan import MeasuredPlanRecord, Plan, PlannedLayer, SiteCandidates
from paredown.stages.products.training_curve import TrainingCurve, TrainingEpoch

Folder = Callable[..., Path]
PARITY = Parity(agreement=0.995, mean_difference=0.01, limit=0.95)


def _latency(p50: float) -> LatencyEvidence:
    return LatencyEvidence(p50, p50 * 1.5, spread=0.25, runs=180, rounds=9)


def _evidence(p50: float, size: float) -> Evidence:
    return Evidence(
        latency=_latency(p50),
        size=size,
        peak_memory=90.0,
        accuracy={"validation": 80.5, "test": 81.25},
        images={"validation": 400, "test": 800},
        runtime="onnxruntime 1.31.0",
        machine={"cpu": "a CPU", "cores": "2"},
    )


def _manifest(p50: float = 1.75) -> Manifest:
    return Manifest(
        paredown="0.1.0",
        model=ModelOrigin("torchvision/mobilenet_v2"),
        target=TargetRecord("onnxruntime"),
        checks=(
            MeasureCheck("latency p50", "ms", 4.0, p50, 2.0, p50 <= 2.0),
            MeasureCheck("latency p95", "ms", 6.0, 2.6, None, None),
            MeasureCheck("size", "MiB", 8.0, 1.0, 2.0, True),
            MeasureCheck("test accuracy", "%", 81.25, 80.75, 80.25, True),
        ),
        baseline=_evidence(4.0, 8.0),
        artifact=_evidence(p50, 1.0),
        ratios=MeasureRatios(latency_p50=p50 / 4, size=0.125, peak_memory=1.0),
        parity=PARITY,
        sha256={"model.onnx": "ab" * 32},
        versions={"torch": "2.13.0"},
        data=DataRecord(("good", "<script>alert(1)</script>"), {"test": 800}, "CC0"),
    )


def _layer(index: int, width: int, kept: int, bits: int) -> PlannedLayer:
    return PlannedLayer(
        name=f"block.{index}.<b>",
        op=("conv", "conv", "add")[index % 3],
        depthwise=index % 3 == 1,
        channels_in=width,
        channels_out=width,
        kept_in=kept,
        kept_out=kept,
        bits=bits,
        ms=0.05,
        baseline_ms=0.125,
    )


def _plan(layers: int = 40) -> Plan:
    def measured(latency: float) -> MeasuredPlanRecord:
        return MeasuredPlanRecord(CostSummary(1.6, 1.1), CostSummary(latency, 1.1), loss=0.1, holds=True)

    return Plan(
        choice={"substitute:block.7": "inverted residual"},
        limits={"latency": 1.92, "size": 1.92},
        sites=(SiteCandidates("substitute:block.7", ("keep", "inverted residual"), (0.0, 0.1)),),
        predicted=CostSummary(1.6, 1.1, memory=70.0, loss=0.1),
        measured=CostSummary(2.0, 1.1),
        gap=0.001,
        measured_plans=(measured(1.6), measured(2.0)),
        front=(CostSummary(1.0, 1.1, loss=0.5), CostSummary(3.0, 1.1, loss=0.0)),
        loss_check=LossCheck(
            predicted=0.1,
            spread=0.1,
            most=None,
            measured=0.4,
            error=0.05,
            images=64,
            before=80.0,
            points=-9.4,
            points_error=3.6,
        ),
        layers=tuple(_layer(i, 64, 64 if i % 4 == 0 else 40, 32 if i % 5 == 0 else 8) for i in range(layers)),
    )


def _curve(*phases: str) -> TrainingCurve:
    return TrainingCurve(
        tuple(TrainingEpoch(p, i, loss=0.5, accuracy=78.0 + i, seconds=9.0) for p in phases for i in (1, 2))
    )


def _profile() -> ProfiledSites:
    samples = (PlanSample({}, 4.0, 8.0),) * 20
    return ProfiledSites({}, {}, CostProfile((), 4.0, 0.0, 40.0, 2.0, samples))


FULL: dict[str, Any] = {
    "original": _curve("fit"),
    "baseline": _evidence(4.0, 8.0),
    "profile": _profile(),
    "sensitivity": ExpectedLosses({}, {}, {}, spearman=0.875, plans=24),
    "plan": _plan(),
    "compressed": None,
    "recovered": _curve("distil", "quantize"),
    "exported": PARITY,
    "artifact": _manifest(),
}
"""Product to its document, if it has one."""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Writes a run's folder: the named products of FULL, or those given instead."""

    def write(*names: str, **instead: Any) -> Path:
        for name in names or FULL:
            (tmp_path / "demo" / name).mkdir(parents=True, exist_ok=True)
            if document := instead.get(name, FULL[name]):
                document.save(tmp_path / "demo" / name)
        (tmp_path / "demo" / "timings.json").write_text('{"baseline": 12.5, "recover": 3725}')
        return tmp_path / "demo"

    return write


class _Page(HTMLParser):
    """Text of the page, its tags, and the rows of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.words += f" {data}"
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {data}".strip()

    def classes(self, first: str) -> int:
        return sum((attributes.get("class") or "").split()[:1] == [first] for _, attributes in self.tags)


def _page(folder: Path) -> _Page:
    return _Page(render_report(folder).read_text(encoding="utf-8"))


def _said(page: _Page) -> str:
    return re.sub(r"\s+", " ", page.words)


def test_the_closing_table_is_the_manifests(folder: Folder) -> None:
    first, *_, last = closing_table(folder())
    assert first == MeasureCheck("latency p50", "ms", 4.0, 1.75, 2.0, True)
    assert last == MeasureCheck("test accuracy", "%", 81.25, 80.75, 80.25, True)


def test_the_page_shows_the_same_table(folder: Folder) -> None:
    rows = {row[0]: row[1:6] for row in _page(folder()).rows}
    assert rows["latency p50 ms"] == ["4", "1.75", "2", "✓ yes", "0.438x"]
    assert rows["latency p95 ms"] == ["6", "2.6", "-", "no limit", "0.433x"]
    assert rows["test accuracy %"] == ["81.25", "80.75", "80.25", "✓ yes", "-0.50 points"]


def test_other_runtimes_have_a_section_where_there_are_any(folder: Folder) -> None:
    assert "On other runtimes" not in _said(_page(folder()))
    other = Comparison("openvino 2026.4.1", _latency(3.0), _latency(1.21), ratio=0.4)
    page = _page(folder(artifact=replace(_manifest(), compare=(other,))))
    rows = {row[0]: row[1:] for row in page.rows}
    assert rows["onnxruntime 1.31.0 (target)"] == ["4", "1.75", "0.438x"]
    assert rows["openvino 2026.4.1"][:2] == ["3", "1.2"]
    assert "fastest on openvino 2026.4.1: 1.2 ms" in _said(page)
    assert "made for the target's runtime, onnxruntime 1.31.0;" in _said(page)


def test_the_verdict_is_the_headline(folder: Folder) -> None:
    said = _said(_page(folder()))
    assert "All 3 limits hold" in said
    assert "2.29x faster" in said and "8.00x smaller file" in said and "-0.50 points of test accuracy" in said


def test_a_missed_limit_is_the_headline(folder: Folder) -> None:
    page = _page(folder(artifact=_manifest(p50=2.5)))
    assert "1 of 3 limits missed: latency p50" in page.words
    assert "Latency p50 is 2.5 ms, over its limit of 2 ms by 25.0 %." in page.words
    barely = _page(folder(artifact=_manifest(p50=2.0002)))
    assert "Latency p50 is 2.0002 ms, over its limit of 2 ms by 0.01 %." in barely.words
    assert next(row for row in page.rows if row[0] == "latency p50 ms")[4] == "✗ missed"


def test_the_file_asks_for_nothing_from_outside(folder: Folder) -> None:
    text = render_report(folder()).read_text(encoding="utf-8")
    assert not re.search(r"(https?:)?//\w|url\(|@import|\bsrc=|<script|<link", text)


def test_names_stay_text(folder: Folder) -> None:
    page = _page(folder())
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>alert(1)</script>" in page.words
    assert "block.0.<b>" in page.words


@pytest.mark.parametrize("layers", [1, 40, 200])
def test_the_plan_has_one_mark_per_layer_and_other_site(folder: Folder, layers: int) -> None:
    page = _page(folder(plan=_plan(layers)))
    assert page.classes("layer") == layers
    assert page.classes("site") == 1
    assert f"Of {layers} layers" in page.words


def test_a_mark_says_its_numbers() -> None:
    svg = layer_pictures(layer_rows(_plan(2)))[0]
    assert "<title>block.1.&lt;b&gt;: depthwise convolution, 40 of 64 channels, int8, predicted 0.125 → 0.050 ms" in svg


def test_bars_tell_the_kept_share_and_the_precision() -> None:
    svg = str(layer_pictures(layer_rows(_plan(2)))[0])
    thin = re.findall(r'width="([\d.]+)" height="4" class="(track|kept)"', svg)
    track, kept = (float(width) for width, _ in thin)
    assert kept / track == pytest.approx((40 / 64) ** 0.5, rel=1e-3)
    assert re.findall(r'class="layer (\w+) (\w+)"', svg) == [("conv", "fp32"), ("depthwise", "int8")]


def test_other_sites_stand_before_their_layers() -> None:
    names = [row.name for row in layer_rows(_plan(10))]
    assert names[6:9] == ["block.6.<b>", "substitute:block.7", "block.7.<b>"]


def test_a_change_of_the_input_stands_before_all_layers() -> None:
    sites = (SiteCandidates("resize:input", ("128", "96")),)
    first, *layers = layer_rows(replace(_plan(3), sites=sites, choice={"resize:input": "96"}))
    assert str(first) == "resize:input: 96"
    assert len(layers) == 3


def test_a_plan_without_layers_is_drawn_from_its_sites_in_depth_order() -> None:
    sites = (
        SiteCandidates("narrow:late", ("32", "16")),
        SiteCandidates("quantize:early", ("fp32", "int8")),
        SiteCandidates("quantize:late", ("fp32", "int8")),
    )
    choice = {"narrow:late": "16", "quantize:early": "int8", "quantize:late": "fp32"}
    early, late = layer_rows(Plan(sites=sites, choice=choice), ("early", "late"))
    assert (early.name, early.bits, early.width) == ("early", 8, None)
    assert (late.kept, late.width, late.bits) == (16, 32, 32)


def test_predictions_are_judged_in_words(folder: Folder) -> None:
    said = _said(_page(folder()))
    assert "2 measured plans: median error 10.0 %, worst 20.0 %" in said
    assert "is 0.875; 1 is perfect" in said


def test_where_the_numbers_come_from(folder: Folder) -> None:
    said = _said(_page(folder()))
    assert "CPU time of the thread that computes" in said
    assert "from 180 timed runs in 9 rounds" in said and "rests on the slowest 9 runs" in said
    assert "81.25 % (77.44 to 84.54)" in said  # 99 %, by scipy's binomtest(650, 800)


def test_int8_says_who_calibrated_it_and_what_tuning_did(folder: Folder) -> None:
    trials = [{"fp32": 0, "top1": 0.8}, {"fp32": 1, "top1": 0.9}]
    engine = {"engine": "neural-compressor", "version": "3.10", "images": 512, "original_top1": 0.9, "trials": trials}
    manifest = replace(_manifest(), plan={"quantize:stem": "fp32"}, quantization={**engine, "fp32": ["stem"]})
    said = _said(_page(folder(artifact=manifest)))
    assert "calibrated by neural-compressor 3.10" in said
    assert "on 512 validation images: the original 90.00 %; 80.00 % with 0 in fp32, 90.00 % with 1 in fp32" in said
    assert "left in fp32 stem" in said
    said = _said(_page(folder(artifact=replace(manifest, quantization={"engine": "own"}))))
    assert "calibrated by own" in said and "left in fp32" not in said
    assert "calibrated by" not in _said(_page(folder(artifact=replace(manifest, plan={"narrow:stem": "8"}))))


def test_several_threads_have_another_clock(folder: Folder) -> None:
    manifest = replace(_manifest(), target=TargetRecord("onnxruntime", threads=2))
    said = _said(_page(folder(artifact=manifest)))
    assert "wall-clock time" in said and "CPU time of the thread" not in said


def test_caches_are_told(folder: Folder) -> None:
    said = _said(_page(folder()))
    assert "hot: the model ran in a loop" in said, "a manifest from before there was a choice"
    timed = LatencyEvidence(p50=2.0, p95=2.5, spread=0.1, runs=60, rounds=3)
    other = Comparison("onnxruntime 1.31.0", timed, timed, 1.0, caches="hot")
    manifest = replace(_manifest(), target=TargetRecord("onnxruntime", caches="cold"), other_caches=other)
    said = _said(_page(folder(artifact=manifest)))
    assert "batch 1, cold caches" in said and "cold: other memory was read before every run" in said
    assert "60 runs of each model in 3 rounds, and no limit is about them" in said


def test_times_are_in_words(folder: Folder) -> None:
    page = _page(folder())
    assert "1 h 2 min" in page.words and "12 s" in page.words
    assert page.classes("bar") == 2


def test_every_picture_has_a_name_for_screen_readers(folder: Folder) -> None:
    page = _page(folder())
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    pictured = [a for tag, a in page.tags if tag == "svg" and a.get("role") == "img"]
    assert len(pictured) >= 5 and len(ids) == len(set(ids))
    assert all(set(str(a["aria-labelledby"]).split()) <= set(map(str, ids)) for a in pictured)
    assert all(a.get("aria-hidden") == "true" for tag, a in page.tags if tag == "svg" and a not in pictured)


def test_the_same_run_gives_the_same_bytes(folder: Folder) -> None:
    path = render_report(folder())
    first = path.read_bytes()
    assert render_report(path.parent).read_bytes() == first
    assert not list(path.parent.glob(".report*"))


def test_a_run_with_only_a_baseline_says_what_is_missing(folder: Folder) -> None:
    made = folder("baseline")
    assert closing_table(made)[0] == MeasureCheck("latency p50", "ms", 4.0, None, None, None)
    said = _said(_page(made))
    assert "Not finished" in said
    for what in (
        "No Pareto front: the stage search",
        "No quality correlation: the stage sensitivity",
        "No plan: the stage",
    ):
        assert what in said


def test_a_run_that_the_search_ended(folder: Folder) -> None:
    refused = replace(
        _plan(0),
        front=(),
        measured_plans=(),
        feasible=False,
        measured=None,
        least={"latency": 1.5},
        limits={"latency": 1.2, "size": 1.92},
    )
    made = folder("baseline", "profile", "sensitivity", "plan", plan=refused)
    (made / "plan" / "limit.txt").write_text("no plan meets the limits: latency can reach 1.5 ms at best\n")
    table = {row.name: row for row in closing_table(made)}
    assert table["latency p50 (nearest plan, predicted)"].holds is False
    assert table["size (nearest plan, predicted)"].holds is True
    said = _said(_page(made))
    assert "The limits cannot be held No plan meets the limits: latency can reach 1.5 ms at best." in said
    assert "No recovery curves: the stage recover has left no product. The run ended in search" in said
    assert "This is the nearest plan" in said


def test_a_plan_within_the_searchs_margin_is_neither_held_nor_missed(folder: Folder) -> None:
    table = {row.name: row for row in closing_table(folder("baseline", "plan"))}
    assert table["latency p50 (plan, measured)"] == MeasureCheck(
        "latency p50 (plan, measured)", "ms", 4.0, 2.0, 1.92, None
    )
    assert table["size (plan, measured)"].holds is True


def test_a_later_refusal_is_the_headline(folder: Folder) -> None:
    made = folder("baseline", "plan", "recovered", "exported")
    (made / "exported" / "limit.txt").write_text("parity: artifact and torch agree on 0.8 of 256 images")
    assert "Refused by export Parity: artifact and torch agree on 0.8 of 256 images." in _said(_page(made))


def test_a_refusal_before_the_proof_is_said_beside_what_was_proved(folder: Folder) -> None:
    made = folder("baseline", "plan", "recovered", "exported", "artifact")
    (made / "exported" / "limit.txt").write_text("parity: the logits differ by 20.0 %")
    said = _said(_page(made))
    assert "Parity: the logits differ by 20.0 %." in said
    assert "limits hold" not in said


def test_an_empty_folder_has_a_report_too(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    assert closing_table(tmp_path / "demo") == ()
    assert "the stage baseline has left no product" in _said(_page(tmp_path / "demo"))


def test_an_epoch_that_diverged_is_told_not_drawn(folder: Folder) -> None:
    epochs = _curve("distil").epochs
    page = _page(folder(recovered=TrainingCurve((*epochs, replace(epochs[0], loss=math.nan)))))
    assert "no number: 1 of the epochs" in page.words and page.classes("epoch") == 8


def test_a_full_disk_is_one_line_and_leaves_the_old_report(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    path = render_report(folder())
    before = path.read_bytes()

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MachineError, match="the disk is full"):
        render_report(path.parent)
    assert path.read_bytes() == before


def test_the_page_tells_the_expected_and_the_measured_loss_of_the_plan(folder: Folder) -> None:
    said = _said(_page(folder()))
    assert "expected loss 0.1 nats (within a factor of 1.2), measured on 64 held-out images 0.4 ± 0.05" in said
    assert "this plan is harsh" in said
