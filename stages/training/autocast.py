"""Whether to train in bf16: measured once and remembered, so that a later run trains to the same weights whatever else
the machine is doing."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from paredown.stages.runtimes.support.machine import cpuinfo, processor_name


def remembered_answer(folder: Path, question: str, probe: Callable[[], bool]) -> bool:
    """What `probe` says to this question on this processor, with so many threads and this torch: it is called the first
    time, and its answer is kept as a file in `folder`."""
    whole = f"{processor_name()} {torch.get_num_threads()} {torch.__version__} {question}"
    file = folder / hashlib.sha256(whole.encode()).hexdigest()
    if not file.exists():
        with torch.random.fork_rng():  # what the probe draws must not be missing when the answer is known
            answer = probe()
        folder.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(f".{os.getpid()}")
        fresh.write_text("yes" if answer else "no")
        fresh.replace(file)
    return file.read_text() == "yes"


def bf16_pays(step: Callable[[], object]) -> bool:
    """Whether bf16 autocast makes a training step faster here: measured, and only where the CPU computes in it."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    if not any(flag in cpuinfo() for flag in ("avx512_bf16", "amx_bf16", " bf16")):
        return False
    fp32, bf16 = (_step_seconds(step, enabled) for enabled in (False, True))
    return bf16 < 0.9 * fp32


def _step_seconds(step: Callable[[], object], enabled: bool) -> float:
    """The shortest of three steps."""
    times = []
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        for _ in range(3):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
    return min(times)
