"""Where this process trains: its device and threads, and its place among the processes of a torchrun job."""

import os
from typing import Any

import torch
import torch.distributed as dist


def training_device() -> torch.device:
    """This process's GPU where there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def computes_on() -> dict[str, Any]:
    """The `device` by its name, the number of `threads` and of `processes`, which decide the last bits of weights."""
    device = training_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"device": name, "threads": torch.get_num_threads(), "processes": int(os.environ.get("WORLD_SIZE", 1))}


def rank_and_size() -> tuple[int, int]:
    """(rank, size) of the torchrun job; joins it when that has not happened yet."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return (dist.get_rank(), size) if size > 1 else (0, 1)
