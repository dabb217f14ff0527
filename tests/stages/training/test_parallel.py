"""Tasks side by side: in order, on one core each, and an error ends them."""

import time

import pytest
import torch

from paredown.stages.training.parallel import side_by_side, workers_for


def test_results_come_in_the_order_of_the_tasks() -> None:
    def slowest_first(task: int) -> int:
        time.sleep(0.02 * (3 - task))
        return task * 10

    assert list(side_by_side(slowest_first, [0, 1, 2], workers=3)) == [0, 10, 20]


def test_every_task_computes_on_one_core_and_the_caller_on_as_many_as_before() -> None:
    before = torch.get_num_threads()
    assert set(side_by_side(lambda _: torch.get_num_threads(), range(4), workers=2)) == {1}
    assert torch.get_num_threads() == before


def test_an_error_ends_what_has_not_started() -> None:
    started: list[int] = []

    def fails(task: int) -> None:
        started.append(task)
        time.sleep(0.01)
        raise ValueError(f"task {task}")

    with pytest.raises(ValueError, match="task 0"):
        list(side_by_side(fails, range(50), workers=1))
    assert len(started) < 10


def test_a_gpu_does_one_task_at_a_time() -> None:
    assert workers_for(torch.device("cuda")) == 1
    assert workers_for(torch.device("cpu")) == torch.get_num_threads()
