"""Trains a replacement alone, on what its block reads in the teacher, to compute what the block computes there.

Blocks are independent of each other then, and a short training is enough (Molchanov et al., LANA, ECCV 2022).
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paredown.models.network.batch_norm import reestimate_statistics
from paredown.stages.training.device import training_device
from paredown.stages.training.schedule import learning_rate_share

BATCH = 32
HELD_OUT = 0.2
ROWS = 12_000
"""Pixels that a least-squares fit looks at."""
RIDGE = 1e-3
"""Of the least-squares fit, relative to the mean square of its inputs."""


@dataclass(frozen=True)
class BlockFeatures:
    """What a block reads (N, *shape_in) and computes (N, *shape_out) in the teacher."""

    inputs: Tensor
    outputs: Tensor

    def split(self) -> "tuple[BlockFeatures, BlockFeatures]":
        """The first 80 % to learn from, and the others to judge by."""
        cut = max(1, round(len(self.inputs) * (1 - HELD_OUT)))
        return BlockFeatures(self.inputs[:cut], self.outputs[:cut]), BlockFeatures(
            self.inputs[cut:], self.outputs[cut:]
        )

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(inputs, outputs) of at most `BATCH` images, in order."""
        yield from zip(torch.split(self.inputs, BATCH), torch.split(self.outputs, BATCH), strict=True)


class _EnoughError(Exception):
    """Ends a forward pass behind the block."""


def record_features(teacher: nn.Module, first: str, last: str, batches: Iterable[Tensor]) -> BlockFeatures:
    """What the first block reads and what the last one (often the same) computes on batches of images; nothing behind
    it is computed."""
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((inputs.pop(), output.clone()))
        raise _EnoughError

    inputs: list[Tensor] = []
    # Copied before the block runs: an activation in place would change them.
    before = teacher.get_submodule(first).register_forward_pre_hook(
        lambda _module, args: inputs.append(args[0].clone())
    )
    hooks = [before, teacher.get_submodule(last).register_forward_hook(keep)]
    with torch.inference_mode():
        for batch in batches:
            with contextlib.suppress(_EnoughError):
                teacher(batch.to(training_device()))
    for hook in hooks:
        hook.remove()
    return BlockFeatures(*(torch.cat(part).clone() for part in zip(*seen, strict=True)))


def relative_error(module: nn.Module, features: BlockFeatures) -> float:
    """Squared error over the variance of what the teacher computes; 1 is no better than a constant."""
    module.eval()
    with torch.inference_mode():
        wrong = sum(float((module(x) - y).square().sum()) for x, y in features.batches())
    return wrong / (float(features.outputs.var(correction=0)) * features.outputs.numel() + 1e-12)


def train_replacement(module: nn.Module, features: BlockFeatures, steps: int, lr: float, seed: int) -> None:
    """Train in place to compute the features' outputs; a module without parameters has nothing to learn."""
    if steps and list(module.parameters()):
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=1e-4)
        scale = features.outputs.var() + 1e-6
        for part in module.modules():  # Dropout and the like draw from torch's one generator, whoever else does.
            part.training = isinstance(part, nn.modules.batchnorm._BatchNorm)
        for step in range(steps):
            picked = torch.randint(len(features.inputs), (BATCH,), generator=generator).to(features.inputs.device)
            for group in optimizer.param_groups:
                group["lr"] = lr * learning_rate_share(step, steps)
            error = (module(features.inputs[picked]) - features.outputs[picked]).square().mean() / scale
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
    reestimate_statistics(module, (x for x, _ in features.batches()))


def fit_last_layer(module: nn.Module, features: BlockFeatures) -> None:
    """Solve the last convolution by least squares, its batch norm set so that it passes the solution on.

    What the block computes without that convolution (its shortcut) is taken off the target; what a closing activation
    would cut off is ignored: it is a start for training, no end. Modules whose last convolution is grouped, dilated or
    has a bias, or has no batch norm behind it, are left as they are.
    """
    last = _last_with_norm(module)
    if last is None:
        return
    conv, norm = last
    rows = max(1, ROWS // (features.outputs.shape[2] * features.outputs.shape[3]))
    x, y = features.inputs[:rows], features.outputs[:rows]
    reestimate_statistics(module, [x])
    with torch.no_grad():
        read = _read_by(conv, module, x)
        # Never called, or something behind it changes the shape: nothing to solve for.
        if read is None or conv(read).shape != y.shape:
            return
        nn.init.zeros_(norm.weight)
        nn.init.zeros_(norm.bias)
        weight, constant = _least_squares(conv, read, y - module(x))
        conv.weight.copy_(weight)
        _let_pass(norm, conv(read), constant)
    reestimate_statistics(module, (x for x, _ in features.batches()))


def _read_by(conv: nn.Conv2d, module: nn.Module, x: Tensor) -> Tensor | None:
    """What a convolution in the module reads when the module is given `x`; None where it is not called."""
    read: list[Tensor] = []
    hook = conv.register_forward_pre_hook(lambda _module, args: read.append(args[0]))
    module(x)
    hook.remove()
    return read[0] if read else None


def _let_pass(norm: nn.BatchNorm2d, x: Tensor, constant: Tensor) -> None:
    """Sets a batch norm's parameters so that it leaves `x` as it is, but for a constant per channel."""
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    norm.weight.copy_((var + norm.eps).sqrt())
    norm.bias.copy_(mean + constant)


def _last_with_norm(module: nn.Module) -> tuple[nn.Conv2d, nn.BatchNorm2d] | None:
    """The last convolution and the batch norm behind it; None where the module ends in another way."""
    order = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    if len(order) < 2:
        return None
    conv, norm = order[-2:]
    fits = isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and _unfolds(conv)
    return (conv, norm) if fits and norm.num_features == conv.out_channels else None  # type: ignore[return-value]


def _unfolds(conv: nn.Conv2d) -> bool:
    """Whether the convolution is a matrix product over plain patches, without a constant."""
    plain = conv.groups == 1 and set(conv.dilation) == {1} and conv.padding_mode == "zeros"
    return plain and conv.bias is None and not isinstance(conv.padding, str)


def _least_squares(conv: nn.Conv2d, read: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The convolution's weight, and a constant per channel, that map `read` to `target` with the least error."""
    columns = nn.functional.unfold(
        read,
        conv.kernel_size,
        padding=conv.padding,  # type: ignore[arg-type]
        stride=conv.stride,
    )
    matrix = columns.transpose(1, 2).flatten(0, 1).double()
    wanted = target.flatten(2).transpose(1, 2).flatten(0, 1).double()
    means, goals = matrix.mean(0), wanted.mean(0)
    matrix, wanted = matrix - means, wanted - goals
    gram = matrix.T @ matrix
    ridge = RIDGE * gram.diagonal().mean() + 1e-8
    solved = torch.linalg.solve(
        gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device), matrix.T @ wanted
    )
    weight = solved.T.reshape(conv.weight.shape)
    return weight.to(conv.weight.dtype), (goals - means @ solved).to(conv.weight.dtype)
