"""How far an artifact's answers lie from those of the torch network that was trained, and what rounding alone makes.

Both compute the same and sum up in another order, so that here and there a value that lies between two integers is
rounded to the other one. In deep networks each such step makes further ones, until the rounding of every value differs:
the answers then lie as far apart as two roundings of one network. How far that is, the torch network itself says when
all that it rounds is hardly another number.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx import GraphModule

from paredown.models.compression.fake_quant import ActivationQuant
from paredown.models.data.dataset import ImageData, Split
from paredown.models.errors import LimitError
from paredown.models.quantity import told_apart
from paredown.stages.base import State
from paredown.stages.measuring.accuracy import Answers, answers_of
from paredown.stages.measuring.proportions import wilson_ends
from paredown.stages.products.parity import Parity

NUDGE = 1e-6
"""All that is rounded is larger by this share: a 4000th of a step of 8 bit at most. To nudge pixels would not do: there
are few different ones, and perhaps none that lies between two integers."""
LEAST_DIFFERENCE = 0.02
"""Of the logits' spread: below it no difference counts."""


def measure_parity(
    network: GraphModule, artifact: Path, data: ImageData, split: Split, state: State, limit: float, times: float
) -> Parity:
    """Of an artifact with the torch network that was trained, on a split: `limit` is the share of equal answers that is
    asked, `times` how many times the difference that rounding makes is allowed. Raises LimitError where logits are not
    finite."""
    trained, got = _answers(network, data, split), answers_of(artifact, data, split, state)
    for whose, answers in (("the trained network", trained), ("the artifact", got)):
        if fault := answers.not_finite("validation"):
            raise LimitError(f"parity: {whose}: {fault}")
    agreement = got.agreement(trained)
    with nudged(network):
        rounding = _answers(network, data, split).difference(trained)
    return Parity(
        agreement=agreement,
        agreement_ends=wilson_ends(agreement, len(split)),
        mean_difference=float(np.abs(got.logits - trained.logits).mean()),
        logit_spread=float(trained.logits.std()),
        images=len(split),
        limit=limit,
        difference=got.difference(trained),
        rounding=rounding,
        difference_limit=max(LEAST_DIFFERENCE, times * rounding),
    )


@contextmanager
def nudged(network: GraphModule) -> Iterator[None]:
    """While it is entered, all values that an imitation of int8 rounds are larger by `NUDGE`."""
    roundings = [module for module in network.modules() if isinstance(module, ActivationQuant)]
    hooks = [one.register_forward_pre_hook(lambda _module, read: (read[0] * (1 + NUDGE),)) for one in roundings]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _answers(network: GraphModule, data: ImageData, split: Split) -> Answers:
    """What a torch network answers on a split."""
    with torch.inference_mode():
        logits: list[NDArray[np.float32]] = [
            network(torch.from_numpy(images)).numpy() for images, _ in data.batches(split, 32)
        ]
    return Answers(np.concatenate(logits), np.asarray(split.labels))


def too_far(parity: Parity) -> str:
    """The line for logits that lie further apart than rounding explains; empty where they do not."""
    if parity.difference is None or parity.difference_limit is None or parity.difference <= parity.difference_limit:
        return ""
    apart, most = _percents(parity.difference, parity.difference_limit)
    return f"parity: the logits of artifact and torch differ by {apart} of their spread; the limit is {most}"


def too_few_alike(parity: Parity) -> str:
    """The line for fewer equal answers than the limit asks for; empty where there are enough."""
    if parity.agreement >= parity.limit:
        return ""
    share, limit = told_apart(parity.agreement, parity.limit, lambda value, digits: f"{value:.{digits - 1}f}")
    return f"parity: artifact and torch agree on {share} of {parity.images} images; the limit is {limit}"


def parity_note(parity: Parity) -> str:
    """What a person should know where equal answers are few and no limit asks for more; empty where they are not."""
    if parity.agreement >= parity.limit or parity.difference is None or parity.rounding is None:
        return ""
    apart, rounding = _percents(parity.difference, parity.rounding)
    same = f"{100 * parity.agreement:.1f} % of {parity.images} validation images"
    return (
        f"export: the artifact answers only {same} as the torch network that was trained does; their logits differ by "
        f"{apart} of their spread, of which rounding alone makes {rounding}; what that costs, verify measures"
    )


def _percents(one: float, other: float) -> tuple[str, str]:
    return told_apart(100 * one, 100 * other, lambda value, digits: f"{value:.{digits - 3}f} %")
