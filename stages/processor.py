"""Which processor this is."""

import platform
import sys
from functools import cache
from pathlib import Path


@cache
def processor() -> str:
    """System, architecture and the processor's name: what measured times depend on most."""
    lines = cpuinfo().splitlines()
    model = next((line for line in lines if line.startswith(("model name", "Model"))), platform.processor())
    return f"{sys.platform} {platform.machine()} {model.rpartition(':')[2].strip()}"


@cache
def cpuinfo() -> str:
    """What Linux tells of the processor; empty elsewhere."""
    file = Path("/proc/cpuinfo")
    return file.read_text() if file.exists() else ""
