"""The logits behind a classifier's answers, where its own code ends in a softmax, a sigmoid or a tanh.

A loss that takes probabilities for logits applies softmax twice: whatever it is given then looks almost alike, and
nothing is learnt. So what goes into the last softmax or sigmoid is kept while the network runs, and losses are taken of
that; the network itself, and what is exported of it, answers as it did.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

OVER_CLASSES = {"softmax", "log_softmax"}
ONE_BY_ONE = {"sigmoid", "log_sigmoid", "tanh"}
SQUASHING = OVER_CLASSES | ONE_BY_ONE
"""Functions that make answers of logits, and keep the order of the classes."""
OTHER_NAMES = {
    "logsigmoid": "log_sigmoid",
    "special_expit": "sigmoid",
    "special_log_softmax": "log_softmax",
    "special_softmax": "softmax",
}
MONOTONE = {
    "add",
    "clamp",
    "clamp_min",
    "clone",
    "contiguous",
    "div",
    "double",
    "exp",
    "float",
    "log",
    "mul",
    "sub",
    "to",
}
"""Functions that, with numbers alone, change what was squashed and keep the order of the classes all the same."""
NEAR = {torch.float64: 1e-3, torch.float32: 1e-3}
"""By how much the probabilities of an image may miss 1; in shorter numbers by `FAR`."""
FAR = 2e-2


def logits_behind(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The logits (images, classes) of what a network answers to images (N, 3, H, W): what goes into the softmax or
    sigmoid that makes its answers, with gradients; of other probabilities their logarithm; else the answers."""
    with _Squashings() as squashings:
        answer = network(images)
    logits, done = squashings.taken_off(answer)
    return logits if done or not _are_probabilities(answer) else _logarithm(answer)


def form_of_answers(network: Callable[[Tensor], Tensor], images: Tensor) -> str:
    """What a network answers with, and what losses take of it, in words; empty where that are logits."""
    with _Squashings() as squashings, torch.no_grad():
        answer = network(images)
    _, done = squashings.taken_off(answer)
    if done:
        return f"made by a {' of a '.join(done)} inside; training and comparing use what goes into it"
    return "probabilities; training and comparing use their logarithm" if _are_probabilities(answer) else ""


class _Squashings(TorchFunctionMode):
    """Notes, while it is entered, what was squashed, beside the result, and what became of that."""

    def __init__(self) -> None:
        super().__init__()
        self.made = list[tuple[Tensor, int, Tensor, str]]()
        """Result, its version when it was made, what was read, and the function."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        written = getattr(func, "__name__", "").partition(".")[0]  # `softmax.int` in a trace
        name, read = written.lstrip("_").removesuffix("_"), args[0] if args else kwargs.get("input")
        name = OTHER_NAMES.get(name, name)
        if name not in SQUASHING | MONOTONE or not isinstance(read, Tensor):
            return func(*args, **kwargs)
        kept = read.clone() if name in SQUASHING and written.endswith("_") else read  # it is about to be overwritten
        known = self._known(read)
        result = func(*args, **kwargs)
        if name in SQUASHING and _is_over_classes(name, result, args, kwargs):
            self.made.append((result, _version(result), kept, name))
        elif name in MONOTONE and known is not None and _by_numbers(name, [*args[1:], *kwargs.values()]):
            self.made.append((result, _version(result), *known))
        return result

    def _known(self, value: Tensor) -> tuple[Tensor, str] | None:
        """What was squashed to a value, or to the one that it is a view of; None where that is not known."""
        for result, version, read, name in reversed(self.made):
            if _same_numbers(value, result) and _version(value) == version:
                return read, name
        return None

    def taken_off(self, answer: Tensor) -> tuple[Tensor, list[str]]:
        """The logits behind an answer, in its shape, and the functions that made it of them, the last one first."""
        logits, done = answer, list[str]()
        while (known := self._known(logits)) is not None:
            logits = known[0].reshape(answer.shape)
            done.append(known[1])
        return logits, done


def _is_over_classes(name: str, result: Tensor, args: Any, kwargs: Any) -> bool:
    """Whether it was squashed for each image over numbers that lie along one axis."""
    if result.ndim < 2 or result.numel() == 0 or max(result.shape[1:]) * len(result) != result.numel():
        return False
    if name in ONE_BY_ONE:
        return True
    axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
    axis = (0 if result.ndim == 3 else 1) if axis is None else axis % result.ndim  # None: as torch takes it
    return bool(axis and result.shape[axis] * len(result) == result.numel())


def _by_numbers(name: str, others: list[Any]) -> bool:
    """Whether all other arguments are numbers, and factors positive."""
    if name == "to":
        return True
    factors = [one for one in others if isinstance(one, int | float)] if name in ("mul", "div") else []
    return not any(isinstance(one, Tensor) for one in others) and all(one > 0 for one in factors)


def _same_numbers(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same memory in the same order, in whatever shape."""
    return (
        (one.dtype, one.numel(), one.shape[:1]) == (other.dtype, other.numel(), other.shape[:1])
        and one.is_contiguous() == other.is_contiguous()
        and one.data_ptr() == other.data_ptr()
    )


def _version(value: Tensor) -> int:
    """Changes with every operation in place; inference mode does not count them."""
    return 0 if value.is_inference() else value._version


def _are_probabilities(answer: Tensor) -> bool:
    """Whether the classes' numbers are a distribution, for every image whose numbers are finite."""
    rows = answer.detach()[answer.detach().isfinite().all(1)]
    sums = rows.float().sum(1)
    return len(rows) > 0 and bool((rows >= 0).all() and ((sums - 1).abs() < NEAR.get(answer.dtype, FAR)).all())


def _logarithm(probabilities: Tensor) -> Tensor:
    """Logits of probabilities; those that are 0 in float32 count as the least that it has."""
    return probabilities.float().clamp(min=math.ldexp(1.0, -126)).log()
