"""What latencies and exactness depend on: the CPU, its instruction sets, cores and system."""

import os
import platform
import sys
from functools import cache
from pathlib import Path

FLAGS = (
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "sve"),
)
"""Instruction sets, in Linux's spelling, that change which kernels an int8 or float convolution gets."""


class ThisMachine:
    """The members of `runtimes.base.Runtime` that are the same for all runtimes on this machine's CPU."""

    def machine(self) -> dict[str, str]:
        return fingerprint()

    def width_multiple(self) -> int:
        return width_multiple(self.machine())

    def weight_bits(self) -> int:
        return weight_bits(self.machine())


def fingerprint() -> dict[str, str]:
    """CPU, flags, cores, system and architecture of this machine."""
    fields = parse_cpuinfo(cpuinfo())
    return {
        "cpu": cpu_name(fields) or platform.processor() or "unknown",
        "flags": " ".join(cpu_flags(fields)) or "unknown",
        "cores": str(cpu_cores()),
        "system": platform.system(),
        "arch": platform.machine(),
    }


def parse_cpuinfo(text: str) -> dict[str, str]:
    """The fields of the first processor in the text of Linux's /proc/cpuinfo."""
    rows = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in rows}


def cpu_name(fields: dict[str, str]) -> str:
    """The model's name with its numbers: a virtual machine often names only the family."""
    keys = ("model name", "cpu family", "model", "CPU implementer", "CPU part")
    parts = [fields[key] if key == "model name" else f"{key} {fields[key]}" for key in keys if key in fields]
    return ", ".join(parts)


def cpu_flags(fields: dict[str, str]) -> list[str]:
    """Those of `FLAGS` that the machine has; x86 lists `cpu_flags`, ARM `Features`."""
    listed = set((fields.get("flags") or fields.get("Features") or "").split())
    return [flag for flag in FLAGS if flag in listed]


def cpu_cores() -> int:
    """The cores that this process may use, which a container may limit."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def weight_bits(machine: dict[str, str]) -> int:
    """Bits of int8 weights whose products with uint8 activations are exact on `machine`.

    x86 without VNNI adds pairs of products in 16 bits with saturation (vpmaddubsw): 2 * 255 * 127 is too
    much for them, 2 * 255 * 63 is not. That holds for OpenVINO too, held to instructions without VNNI.
    """
    x86 = machine["arch"].lower() in ("x86_64", "amd64", "x86", "i386", "i686")
    vnni = {"avx512_vnni", "avx_vnni"} & set(machine["flags"].split())
    return 7 if x86 and not vnni else 8


def width_multiple(machine: dict[str, str]) -> int:
    """The channel block of float convolutions in onnxruntime and OpenVINO: 8 with AVX2 alone, else 16.

    With AVX512, 4 channels more than 48 or 64 cost a 3x3 convolution in OpenVINO a third to a half more time, the next
    12 hardly any.
    """
    known = machine["flags"].split()
    return 8 if "avx2" in known and "avx512f" not in known else 16


@cache
def processor_name() -> str:
    """System, architecture and the processor's name: what measured times depend on most."""
    lines = cpuinfo().splitlines()
    model = next((line for line in lines if line.startswith(("model name", "Model"))), platform.processor())
    return f"{sys.platform} {platform.machine()} {model.rpartition(':')[2].strip()}"


@cache
def cpuinfo() -> str:
    """What Linux tells of the processor; empty elsewhere."""
    file = Path("/proc/cpuinfo")
    return file.read_text() if file.exists() else ""
