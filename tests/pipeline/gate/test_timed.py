"""What was measured against limits: fail, pass or neither, and what a control and another machine change."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paredown.models.errors import InputError
from paredown.models.progress import silent_progress
from paredown.pipeline.gate.budgets import Limit
from paredown.pipeline.gate.outcome import BudgetCheck
from paredown.pipeline.gate.timed import (
    Measured,
    TimedModels,
    absolute_check,
    growing_samples,
    relative_check,
    timed_checks,
    verdict_of,
)
from paredown.stages.measuring.paired_ratio import Interval
from paredown.stages.plugins import load_plugin
from paredown.stages.runtimes.base import Load

MEASURED = Measured("latency p50", "ms", 2.0, 2.2, "80 runs of each model in 8 rounds")
LIMIT = Limit.model_validate("1.05x")
Bench = Any


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.06, 1.14, "fail"),
        (0.99, 1.04, "pass"),
        (1.0, 1.06, "inconclusive"),
        (1.04, 1.05, "pass"),
        (1.05, 1.2, "inconclusive"),
    ],
)
def test_a_verdict_needs_the_whole_interval(low: float, high: float, verdict: str) -> None:
    assert verdict_of(Interval((low + high) / 2, low, high), 1.05) == verdict


def test_a_control_that_is_off_leaves_nothing_to_compare() -> None:
    slow = Interval(1.2, 1.15, 1.25)
    assert relative_check(MEASURED, LIMIT, slow, Interval(1.0, 0.98, 1.02)).verdict == "fail"
    check = relative_check(MEASURED, LIMIT, slow, Interval(1.1, 1.05, 1.15))
    assert check.verdict == "inconclusive"
    assert "two sessions of one model differ" in check.because


def test_a_control_that_is_off_by_little_leaves_what_is_far_from_the_limit() -> None:
    little, limit = Interval(1.01, 1.008, 1.012), Limit.model_validate("0.45x")
    assert relative_check(MEASURED, limit, Interval(0.353, 0.345, 0.364), little).verdict == "pass"
    assert relative_check(MEASURED, limit, Interval(0.5, 0.49, 0.51), little).verdict == "fail"
    for near in (Interval(0.447, 0.446, 0.448), Interval(0.453, 0.452, 0.454)):
        assert relative_check(MEASURED, limit, near).verdict != "inconclusive"
        assert relative_check(MEASURED, limit, near, little).verdict == "inconclusive"


def test_a_check_says_what_it_could_have_seen() -> None:
    check = relative_check(MEASURED, LIMIT, Interval(1.0, 0.98, 1.02))
    assert "+7.1 % would have been seen" in check.because  # 1.05 / 0.98
    assert check.allowed == pytest.approx(2.1)


def test_absolute_limits_say_nothing_on_another_machine() -> None:
    limit, interval, meant = Limit.model_validate("2 ms"), Interval(5.0, 4.9, 5.1), {"cpu": "a", "cores": "2"}
    assert absolute_check(MEASURED, limit, interval, meant, {"cpu": "a", "cores": "2", "arch": "x"}).verdict == "fail"
    check = absolute_check(MEASURED, limit, interval, meant, {"cpu": "b", "cores": "2"})
    assert check.verdict == "not comparable"
    assert check.because == "the limit was set for cpu a; this machine has cpu b"


def test_a_field_that_no_machine_has_is_refused() -> None:
    limit, interval = Limit.model_validate("2 ms"), Interval(1.0, 0.9, 1.1)
    with pytest.raises(InputError, match=r"machine\.CPU is not known; allowed: cpu, cores"):
        absolute_check(MEASURED, limit, interval, {"CPU": "a"}, {"cpu": "a", "cores": "2"})


def run(bench: Bench, model: Path, baseline: Path, **keys: Any) -> dict[str, BudgetCheck]:
    gates = bench.gates(**keys)
    runtime = load_plugin("runtimes", "noisy.py", bench.folder)()
    checks, _ = timed_checks(gates, TimedModels(runtime, model, baseline), silent_progress)
    return {f"{check.name} {check.limit}": check for check in checks}


def test_a_slower_model_fails_and_an_equal_one_passes(bench: Bench) -> None:
    budgets = {"latency_p50": "1.05x", "latency_p95": "1.15x"}
    assert {c.verdict for c in run(bench, bench.one, bench.int8, budgets=budgets).values()} == {"fail"}
    assert {c.verdict for c in run(bench, bench.int8, bench.int8, budgets=budgets).values()} == {"pass"}


@pytest.mark.parametrize(("caches", "slowest"), [("hot", "16 of 320"), ("cold", "4 of 80")])
def test_a_p95_says_how_few_runs_it_rests_on(bench: Bench, caches: str, slowest: str) -> None:
    target = {"runtime": "noisy.py", "caches": caches}
    check = run(bench, bench.one, bench.int8, target=target, budgets={"latency_p95": "1.05x"})["latency p95 1.05x"]
    assert f"the slowest {slowest} runs of each model in 8 rounds" in check.because


def test_the_p50_beside_its_baselines_is_that_times_their_ratio(bench: Bench) -> None:
    check = run(bench, bench.one, bench.int8, budgets={"latency_p50": "1.05x"})["latency p50 1.05x"]
    assert check.change and check.ratio == pytest.approx(check.change.value)


def test_noise_gives_no_verdict_when_the_time_is_used_up(bench: Bench, noisier: Any) -> None:
    noisier(0.6)
    check = run(bench, bench.int8, bench.int8, budgets={"latency_p50": "1.02x"}, seconds=0.3)["latency p50 1.02x"]
    assert check.verdict == "inconclusive"


def test_memory_is_a_ratio_or_bytes(bench: Bench) -> None:
    keys = {"budgets": {"peak_memory": ["1.0001x", "41 MiB"]}, "machine": {"cpu": "test"}}
    checks = run(bench, bench.fp32, bench.int8, **keys)
    assert checks["peak memory 1.0001x"].verdict == "fail"
    assert checks["peak memory 41 MiB"].verdict == "pass"
    assert checks["peak memory 41 MiB"].after == pytest.approx(40 * 2**20 + 2 * bench.fp32.stat().st_size)


class Slow:
    """A runtime on which a round takes a second of the clock below."""

    now = 0.0

    def latency(self, models: Any, load: Load, rounds: int, runs: int, seed: int = 0) -> Any:
        Slow.now += 1.0
        rng = np.random.default_rng(seed)
        return [[list(1 + 0.01 * rng.random(runs))] for _ in models]


def test_samples_grow_until_the_time_is_used_up(bench: Bench) -> None:
    gates = bench.gates(budgets={"latency_p50": "1.05x"}, seconds=20)
    models = TimedModels(Slow(), bench.int8, bench.int8)  # type: ignore[arg-type]
    taken = list(growing_samples(gates, models, silent_progress, lambda: Slow.now))
    assert [sample.rounds for _, sample in taken] == [8, 11, 15, 19]
    assert [seconds for seconds, _ in taken] == [9, 12, 16, 20]


def test_a_handful_of_rounds_is_too_few(bench: Bench) -> None:
    check = run(bench, bench.one, bench.int8, budgets={"latency_p50": "1.05x"}, seconds=0.000001)["latency p50 1.05x"]
    assert check.verdict == "inconclusive"
    assert "only 2 rounds were there when the time was used up" in check.because
