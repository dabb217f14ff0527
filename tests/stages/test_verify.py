"""The proof: the manifest that says what was measured, and the limits that end a run."""

import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paredown.models.errors import LimitError
from paredown.stages.base import State
from paredown.stages.limits import Bound, Caches, Limits, Target
from paredown.stages.measuring.target_runtime import runtime_of
from paredown.stages.products.manifest import Manifest
from paredown.stages.products.plan import Plan
from paredown.stages.verify import Verify, is_clear


def manifest_of(state: State) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((state.product("artifact") / "manifest.json").read_text())
    return found


def test_the_manifest_says_what_was_measured(finished: State) -> None:
    manifest = manifest_of(finished)
    assert manifest["plan"] == Plan.load(finished.product("plan")).choice
    assert {check["name"] for check in manifest["checks"] if check["holds"] is True} == {"latency p50", "size"}
    assert manifest["artifact"]["size"] < manifest["baseline"]["size"]
    assert manifest["ratios"]["latency_p50"] <= 0.5
    assert manifest["ratios"]["size"] == pytest.approx(manifest["artifact"]["size"] / manifest["baseline"]["size"])
    sizes = manifest["data"]["images"]
    assert manifest["artifact"]["images"] == {name: sizes[name] for name in ("validation", "test")}
    assert sizes["test"] == 48
    assert manifest["artifact"]["runtime"] == "exact 1"
    assert manifest["seed"] == 0
    assert manifest["output"] == {"name": "logits", "type": "float", "shape": [1, 3]}


def test_the_manifest_names_the_files_by_their_digest(finished: State) -> None:
    digests = manifest_of(finished)["sha256"]
    for name, product in (("model.onnx", "artifact"), ("baseline/model.onnx", "baseline")):
        file = finished.product(product) / "model.onnx"
        assert digests[name] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_other_runtimes_are_told_beside_the_target(finished: State, tmp_path: Path) -> None:
    (finished.root / "twice.py").write_text(
        (finished.root / "exact.py").read_text().replace('"exact 1"', '"twice 2"').replace("[0.01 +", "[2.01 +")
    )
    Verify(rounds=2, runs=3).run(replace(finished, compare=("twice.py",), out=tmp_path))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert "compare" not in manifest["target"]
    (other,) = manifest["compare"]
    assert (other["runtime"], other["before"]["runs"], other["after"]["rounds"]) == ("twice 2", 6, 2)
    for model, name in (("baseline", "before"), ("artifact", "after")):
        assert other[name]["p50"] == pytest.approx(manifest[model]["latency"]["p50"] + 2)
    assert other["ratio"] == pytest.approx(other["after"]["p50"] / other["before"]["p50"])
    assert manifest_of(finished)["compare"] == []


@pytest.mark.parametrize(("caches", "other"), [("cold", "hot"), ("hot", "cold")])
def test_the_other_caches_are_told_beside_those_of_the_target(
    finished: State, tmp_path: Path, caches: Caches, other: Caches
) -> None:
    text = (finished.root / "exact.py").read_text()
    timed = "[[[0.01 + sum(times(model).values())] * runs] * rounds for model in models]"
    assert timed in text
    slower = timed.replace("0.01", "(2.01 if load.caches == 'cold' else 0.01)")
    (finished.root / "cooler.py").write_text(text.replace(timed, slower))
    state = replace(finished, target=Target(runtime="cooler.py", caches=caches), limits=Limits(), out=tmp_path)
    Verify(rounds=9, runs=3).run(state)
    manifest = Manifest.load(tmp_path)
    checks, beside = {check.name: check for check in manifest.checks}, manifest.other_caches
    assert (manifest.target.caches, beside and beside.caches, beside and beside.before.rounds) == (caches, other, 3)
    names = ["latency p50", "latency p95", f"latency p50, {other} caches", f"latency p95, {other} caches"]
    assert list(checks)[:4] == names
    more = 2 if caches == "cold" else -2
    for name in names[:2]:
        ours, theirs = checks[name], checks[f"{name}, {other} caches"]
        assert (theirs.limit, theirs.holds, theirs.unit) == (None, None, "ms")
        assert theirs.before and theirs.after and theirs.before_ends and theirs.after_ends
        assert (ours.before, ours.after) == pytest.approx((theirs.before + more, theirs.after + more))
        assert theirs.change and theirs.change.value == pytest.approx(theirs.after / theirs.before)


def test_a_missed_limit_is_one_line_and_keeps_the_artifact(finished: State, tmp_path: Path) -> None:
    limits = Limits(size=Bound(value=0.001, unit="MiB"), latency_p50=Bound(value=0.9, unit="x"))
    with pytest.raises(LimitError, match=r"^size 0\.0\d+ MiB is over its limit of 0\.001 MiB$") as caught:
        Verify(rounds=1, runs=1).run(replace(finished, limits=limits, out=tmp_path))
    assert caught.value.keep
    assert (tmp_path / "model.onnx").exists()
    assert json.loads((tmp_path / "manifest.json").read_text())["limits"]["size"]["value"] == 0.001


def test_every_missed_limit_is_told(finished: State, tmp_path: Path) -> None:
    limits = Limits(size=Bound(value=0.001, unit="MiB"), latency_p50=Bound(value=0.01, unit="x"))
    with pytest.raises(LimitError, match=r"latency p50 .* is over its limit of .*; size .* is over its limit of"):
        Verify(rounds=1, runs=1).run(replace(finished, limits=limits, out=tmp_path))


def spread(ratio: float, rounds: int = 9) -> list[list[list[float]]]:
    """Times of a pair of models, rounds of which are up to 5 % off."""
    off = [0.95, 1.05, 1.0]
    return [[[1.0] * 4] * rounds, [[ratio * off[i % 3]] * 4 for i in range(rounds)]]


def test_a_limit_inside_the_interval_is_not_clear() -> None:
    assert is_clear(Limits(size=Bound(value=1, unit="x")), spread(0.5))
    for half in (Bound(value=0.5, unit="x"), Bound(value=0.5, unit="ms")):
        limits = Limits(latency_p50=half)
        assert [is_clear(limits, spread(ratio)) for ratio in (0.4, 0.5, 0.6)] == [True, False, True]


def test_where_ends_must_hold_p95_must_be_clear_too() -> None:
    tail = Limits(latency_p95=Bound(value=0.52, unit="x"))
    sure = tail.model_copy(update={"confidence": 0.95})
    near, far = spread(0.5, rounds=3), spread(0.3, rounds=3)
    assert is_clear(tail, near) and not is_clear(sure, near) and is_clear(sure, far)


def test_absolute_limits_are_compared_with_the_interval_of_the_artifacts_own_time() -> None:
    """Rounds that make both models slower alike leave their ratio sure, and the milliseconds not."""
    off = [0.9, 1.1, 1.0] * 3
    times = [[[factor * one] * 4 for one in off] for factor in (1.0, 0.5)]
    for unit, clear in (("x", True), ("ms", False)):
        bound = Bound(value=0.51, unit=unit)
        for limits in (Limits(latency_p50=bound), Limits(latency_p50=bound, confidence=0.95)):
            assert is_clear(limits, times) is clear


def test_where_the_end_must_hold_a_limit_within_the_interval_is_missed(
    finished: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cls,) = {type(runtime_of(finished))}
    monkeypatch.setattr(cls, "latency", lambda *_: spread(0.5))
    limits = Limits(latency_p50=Bound(value=0.505, unit="x"))
    Verify(rounds=9, runs=4).run(replace(finished, limits=limits, out=tmp_path))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["confidence"] == 0.99 and "confidence" not in manifest["limits"]
    assert manifest["checks"][0]["remark"].startswith("holds, but its interval reaches 0.51")
    state = replace(finished, limits=limits.model_copy(update={"confidence": 0.95}), out=tmp_path)
    with pytest.raises(LimitError, match=r"^latency p50 0\.\d+ ms is within its limit of 0\.505 ms, but its interval"):
        Verify(rounds=9, runs=4).run(state)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["confidence"], manifest["checks"][0]["holds"]) == (0.95, False)


@pytest.mark.parametrize(("limit", "rounds"), [(0.9, 9), (0.5, 27)])
def test_where_the_limit_is_near_verify_measures_longer(
    finished: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float, rounds: int
) -> None:
    (cls,) = {type(runtime_of(finished))}
    monkeypatch.setattr(cls, "latency", lambda *_: spread(0.5))
    state = replace(finished, limits=Limits(latency_p50=Bound(value=limit, unit="x")), out=tmp_path)
    with suppress(LimitError):
        Verify(rounds=9, runs=4).run(state)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["artifact"]["latency"]["rounds"] == rounds
    low, high = manifest["ratios"]["latency_p50_ends"]
    assert 0.47 <= low < 0.5 < high <= 0.53


NOT_FINITE = """
    def run(self, model, batches, threads):
        given = super().run(model, batches, threads)
        given[: 3 if "exported" in str(model) else 0] = np.nan
        return given

    def peak_memory("""


@pytest.mark.parametrize("stage", ["export", "verify"])
def test_an_artifact_whose_logits_are_not_finite_misses_its_limits(
    finished: State, run: Any, tmp_path: Path, stage: str
) -> None:
    text = (finished.root / "exact.py").read_text()
    assert "\n    def peak_memory(" in text
    (tmp_path / "broken.py").write_text(text.replace("\n    def peak_memory(", NOT_FINITE, 1))
    state = replace(finished, target=Target(runtime=str(tmp_path / "broken.py")))
    with pytest.raises(LimitError, match=r"3 of \d+ validation images: logits are not finite \(NaN or infinite\)"):
        run(state, stage, tmp_path, **({"rounds": 1, "runs": 1} if stage == "verify" else {}))
    assert (tmp_path / "artifact" / "manifest.json").exists() == (stage == "verify")
