"""The parts of in-process runtimes: taking turns, names of executed nodes, the machine."""

import time

import pytest
from onnx import helper

from paredown.stages.runtimes.support import machine, ort_profile, timing


def test_models_take_turns_forward_then_backward() -> None:
    now, order = [0.0], []

    def model(index: int, seconds: float) -> None:
        order.append(index)
        now[0] += seconds

    calls = [lambda: model(0, 0.5), lambda: model(1, 0.25)]
    times = timing.take_turns(calls, 4, lambda: now[0])
    assert times == [[500.0] * 4, [250.0] * 4]
    assert order == [0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0]  # every turn starts with one run that is not timed


def test_with_cold_caches_models_change_places_after_every_run() -> None:
    now, order = [0.0], []

    def spend(what: str, seconds: float) -> None:
        order.append(what)
        now[0] += seconds

    calls = [lambda: spend("a", 0.5), lambda: spend("b", 0.25)]
    times = timing.take_turns(calls, 3, lambda: now[0], between=lambda: spend("-", 8))
    assert times == [[500.0] * 3, [250.0] * 3], "reading other memory is not timed"
    assert "".join(order) == "-a-b" + "-b-a" + "-a-b"


@pytest.mark.parametrize("models", [1, 2, 5])
@pytest.mark.parametrize("runs", [1, 9, 10, 11, 40])
def test_turns_give_every_model_its_runs_in_a_palindrome(models: int, runs: int) -> None:
    turns = timing.turns_in_pairs(models, runs)
    order = [model for model, _ in turns]
    assert order == order[::-1]
    assert max(count for _, count in turns) <= timing.TURN
    for model in range(models):
        assert sum(count for index, count in turns if index == model) == runs


def test_clock_is_wall_time_for_several_threads() -> None:
    assert timing.pick_clock(2) is time.perf_counter
    assert timing.pick_clock(1) in (time.thread_time, time.perf_counter)


@pytest.mark.parametrize(
    ("executed", "op", "name"),
    [
        ("block.0", "FusedConv", "block.0"),
        ("block.0_token_12", "QLinearConv", "block.0"),
        ("relu_nchwc", "Conv", "block.0"),
        ("conv2d_1_nchwc", "Conv", "block.1"),
        ("add_nchwc", "Conv", "block.1"),
        ("pool_nchwc_token_3", "MaxPool", "pool"),
        ("norm_bn_nchwc", "Conv", "norm"),
        ("norm/duplicated", "DequantizeLinear", "norm"),
        ("fused fc/MatMulAddFusion", "FusedGemm", "fc"),
        ("norm/QuickGeluFusion/", "QuickGelu", "norm"),
        ("ReorderOutput_token_4", "ReorderOutput", "+ReorderOutput"),
        ("Transpose", "Transpose", "+Transpose"),
        ("block.07", "Conv", "+Conv"),
    ],
)
def test_executed_nodes_map_to_the_file(executed: str, op: str, name: str) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["conv2d"], "block.0"),
        helper.make_node("Relu", ["conv2d"], ["relu"], "relu"),
        helper.make_node("Conv", ["relu", "w"], ["conv2d_1"], "block.1"),
        helper.make_node("Add", ["conv2d_1", "relu"], ["add"], "add"),
        helper.make_node("MaxPool", ["add"], ["pool"], "pool"),
        helper.make_node("BatchNormalization", ["pool"], ["norm"], "norm"),
        helper.make_node("MatMul", ["norm", "w"], ["linear"], "fc"),
    ]
    names = ort_profile.FileNodes({node.name: node for node in nodes}, {node.output[0]: node for node in nodes})
    assert ort_profile.node_name_in_file(executed, op, names) == name


@pytest.mark.parametrize(
    ("arch", "flags", "bits", "multiple"),
    [
        ("x86_64", "avx2", 7, 8),
        ("x86_64", "avx2 avx_vnni", 8, 8),
        ("x86_64", "avx2 avx512f", 7, 16),
        ("x86_64", "avx2 avx512f avx512_vnni amx_int8", 8, 16),
        ("AMD64", "unknown", 7, 16),
        ("aarch64", "asimd asimddp", 8, 16),
        ("arm64", "unknown", 8, 16),
    ],
)
def test_instruction_sets_decide_bits_and_widths(arch: str, flags: str, bits: int, multiple: int) -> None:
    here = {"arch": arch, "flags": flags}
    assert (machine.weight_bits(here), machine.width_multiple(here)) == (bits, multiple)


def test_cpuinfo_of_both_architectures() -> None:
    x86 = machine.parse_cpuinfo(
        "processor\t: 0\nmodel name\t: Some CPU\nmodel\t\t: 7\nflags\t: fpu avx2\n\nflags: sve\n"
    )
    assert (machine.cpu_name(x86), machine.cpu_flags(x86)) == ("Some CPU, model 7", ["avx2"])
    arm = machine.parse_cpuinfo("processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd08\n")
    assert (machine.cpu_name(arm), machine.cpu_flags(arm)) == ("CPU part 0xd08", ["asimd", "asimddp"])
    assert machine.cpu_name({}) == "" and machine.cpu_flags({}) == []
