"""What a budgets file may say, and the message where it is wrong."""

from pathlib import Path

import pytest

from paredown.models.errors import InputError
from paredown.pipeline.gate.budgets import DEFAULT, Limit, read_gates


@pytest.mark.parametrize(
    ("written", "value", "unit"),
    [
        ("1.05x", 1.05, "x"),
        ("8 ms", 8.0, "ms"),
        ("900 KiB", 900 * 1024, "B"),
        ("4MiB", 4 * 2**20, "B"),
        ("123 B", 123, "B"),
        ("4 GiB", 4 * 2**30, "B"),
        ("1e3 ms", 1000.0, "ms"),
        ("2.5 M", 2.5e6, ""),
        (12, 12, ""),
        ("0", 0, ""),
    ],
)
def test_limits_are_numbers_with_units(written: object, value: float, unit: str) -> None:
    limit = Limit.model_validate(written)
    assert (limit.value, limit.unit) == (value, unit)


@pytest.mark.parametrize("written", ["", "x", "-1x", "1e3 s", "nan", "4 MB", True, "1 x 2", "∞", None, {}, "9" * 400])
def test_other_things_are_no_limits(written: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Limit.model_validate(written)


def test_a_whole_file(tmp_path: Path) -> None:
    (tmp_path / "gates.yaml").write_text(
        "baseline: base.onnx\n"
        "budgets:\n"
        "  bytes: [1.02x, 3 MiB]\n"
        "  latency_p50: [1.05x, 2 ms]\n"
        "  ops: {Resize: 0}\n"
        "  operators: [standard]\n"
        "machine: {cpu: some, cores: '2'}\n"
    )
    gates = read_gates(tmp_path / "gates.yaml")
    assert [(name, str(limit)) for name, limit in gates.budgets.limits()] == [
        ("bytes", "1.02x"),
        ("bytes", "3 MiB"),
        ("latency_p50", "1.05x"),
        ("latency_p50", "2 ms"),
    ]
    assert gates.budgets.relative
    assert not gates.budgets.quality
    assert gates.root == tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "budgets: {bytes: 1 ms}",
            "gates.yaml:1: budgets is wrong: bytes: 1 ms does not measure it; allowed: 4 MiB or 1.0x",
        ),
        ("budgets:\n  latncy_p50: 1x", "2: budgets.latncy_p50 is not known; did you mean 'latency_p50'?"),
        ("budgets: {}", "1: budgets sets no limit; allowed: bytes, parameters"),
        ("target: {threads: 1}", "budgets is missing"),
        ("budgets: {bytes: 1x}\nbaselin: x", "2: baselin is not known; did you mean 'baseline'?"),
        ("budgets:\n  accuracy: 80", "accuracy and parity need images: the key data is missing"),
        ("budgets:\n  latency_p50: 8 ms", "8 ms: absolute times and memory hold on one kind of machine only"),
        ("budgets:\n  peak_memory: 90 MiB", "90 MiB: absolute times and memory hold on one kind of machine only"),
        ("budgets:\n  ops: {Clip: 2 ms}", "ops: Clip: 2 ms does not count it"),
        ("budgets:\n  parity: 2", "budgets.parity should be less than or equal to 1, got 2"),
        ("- 1", "1: a budgets file is a mapping with the keys target, baseline, budgets"),
        ("budgets: [", "not valid YAML"),
    ],
)
def test_faults_are_told_with_their_line(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "gates.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_gates(tmp_path / "gates.yaml")
    assert expected in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_without_a_file_it_may_not_be_larger_or_slower() -> None:
    assert [name for name, _ in DEFAULT.limits()] == ["bytes", "latency_p50", "peak_memory"]
    assert DEFAULT.relative
